"""Loader that turns cameras.yaml into a `Config` step by step and collects the problems of all steps."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from nvision_hub.access.token_store import TokenStore
from nvision_hub.config.added_cameras import camera_hosts, with_inherited
from nvision_hub.config.checks import checks
from nvision_hub.config.included_files import OwnPaths, include_patterns, with_included
from nvision_hub.config.messages import describe_errors
from nvision_hub.config.models import Config
from nvision_hub.config.secret_values import secret_values
from nvision_hub.config.source_text import file_error, read_text
from nvision_hub.config.variables import VariableError, substitute
from nvision_hub.config.yaml_nodes import YamlNode, tree_of
from nvision_hub.config.yaml_reader import MAX_NODES, read_tree
from nvision_hub.errors import ConfigError, Diagnostic
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from nvision_hub.config.include_pattern import IncludePattern

_CREATE: Final = "create one with `nvision-hub init`"


def load(path: Path, *, environ: Mapping[str, str] = os.environ, also: Collection[Mapping[str, Any]] = ()) -> Config:
    """Return the configuration in `path`, with variables replaced, `defaults` merged and every value checked.

    The cameras in `also` were added at run time. They follow the cameras of the file, replace those with the same id,
    and inherit values as `added_cameras` describes. Their values are literal: the loader replaces no `${VAR}` in them,
    so API users cannot read the hub's environment.

    Raises `ConfigError` with all problems.
    """
    tree, diagnostics = _substituted(path, environ)
    cameras = tree.child("cameras")
    if also and cameras is not None and isinstance(cameras.value, list):
        replaced = {str(camera.get("id")) for camera in also}
        kept = [item for item in cameras.items if (node := item.child("id")) is None or node.text not in replaced]
        cameras.value = kept + [tree_of(dict(camera)) for camera in also]
    return configuration(path, tree, diagnostics, added=len(also))


def as_written(path: Path) -> tuple[YamlNode, list[Diagnostic]]:
    """Return the mapping in the file, with its variables as written, and the YAML problems. Raises `ConfigError`.

    `cameras` also contains the cameras of the included files.
    """
    text = read_text(path, if_missing=_CREATE)
    tree, diagnostics = _own_tree(path, text)
    try:
        tree, included = with_included(path, tree, used_bytes=len(text.encode()))
    except ConfigError as error:
        raise _config_error(path, [*diagnostics, *error.diagnostics]) from error
    return tree, [*diagnostics, *included]


def resolved(path: Path, *, environ: Mapping[str, str] = os.environ) -> YamlNode:
    """Return the tree of the file with variables replaced, including secrets. Raises `ConfigError`."""
    tree, diagnostics = _substituted(path, environ)
    if diagnostics:
        raise _config_error(path, diagnostics, tree)
    return tree


def configuration(path: Path, tree: YamlNode, diagnostics: list[Diagnostic], *, added: int = 0) -> Config:
    """Return the configuration of a tree whose variables are already replaced.

    The last `added` cameras of the tree were added at run time.

    From now on, the logs of this process hide the secrets in the tree, even if the configuration is invalid.

    Raises `ConfigError` with `diagnostics` and all problems that this function finds.
    """
    effective = _merged(tree, added=added)
    # Before the validation, so that not even an unexpected error of the validation shows a rejected value in a log.
    register_secrets(secret_values(effective or tree))
    if effective is None:
        message = f"expands to more than {MAX_NODES} values with `defaults`"
        raise _config_error(path, [*diagnostics, tree.diagnostic("too_many_values", message)], tree)
    store = TokenStore(_state_dir(path, tree))
    problems = [*diagnostics, *checks(effective, tree, has_stored_tokens=store.has_permanent)]
    try:
        config = Config.model_validate(effective.plain(), context={"path": _absolute(path)})
    except ValidationError as error:
        problems += describe_errors(error, effective, tree)
    else:
        if not problems:
            return config
    raise _config_error(path, problems, tree)


def state_dir(path: Path, *, environ: Mapping[str, str] = os.environ) -> Path:
    """Return the state directory of a cameras.yaml, even if other settings are invalid. Raises `ConfigError`."""
    tree, _ = _substituted(path, environ)
    node = tree.child("state_dir")
    if node is not None and node.is_invalid:
        raise _config_error(path, [node.diagnostic("invalid_reference", "cannot be resolved", ("state_dir",))])
    return _state_dir(path, tree)


def patterns_of(path: Path) -> tuple[IncludePattern, ...] | None:
    """Return the patterns of `include` in the file, even if other settings are invalid; None if it is unreadable."""
    try:
        text = read_text(path, if_missing=_CREATE)
        return include_patterns(_own_tree(path, text)[0]) if "include" in text else ()
    except ConfigError:
        return None


def _state_dir(path: Path, tree: YamlNode) -> Path:
    """Return the state directory in a tree; the default if the tree has no valid one."""
    node = tree.child("state_dir")
    text = (node.text if node is not None else None) or str(Config.model_fields["state_dir"].default)
    try:
        return Path(os.path.normpath(_absolute(path).parent / Path(text).expanduser()))
    except (RuntimeError, ValueError):
        return Path(os.path.normpath(_absolute(path).parent / text.replace("\0", "")))


def _own_tree(path: Path, text: str) -> tuple[YamlNode, list[Diagnostic]]:
    """Return the mapping in cameras.yaml without its included files, and the YAML problems. Raises `ConfigError`."""
    tree, diagnostics = read_tree(text, file=str(path))
    if tree is None:
        if not diagnostics:
            raise file_error(path, "file_empty", "is empty", _CREATE)
        raise _config_error(path, diagnostics)
    if not tree.is_mapping:
        message = "must consist of `key: value` lines, including `cameras:`"
        raise _config_error(path, [*diagnostics, tree.diagnostic("invalid_value", message)])
    return tree, diagnostics


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - keeps links, so that files beside the link are found


def _merged(tree: YamlNode, *, added: int) -> YamlNode | None:
    """Return the tree with `defaults` and `nvision` added to each camera; keys of the camera take precedence.

    The last `added` cameras inherit less, as `added_cameras` describes.

    Returns None if the tree would be too large. Many cameras with long `defaults` could exhaust the memory.
    """
    cameras, *sections = (tree.child(key) for key in ("cameras", "nvision", "defaults"))
    if cameras is None or not isinstance(cameras.value, list):
        return tree
    nvision, defaults = (node if node is not None and node.is_mapping else None for node in sections)
    base = YamlNode({} if nvision is None else {"nvision": nvision})
    if defaults is not None:
        base = defaults.merged_over(base)
    inherited = 1 + sum(node.size for node in (nvision, defaults) if node is not None)
    if tree.size + len(cameras.items) * inherited > MAX_NODES:
        return None
    hosts, first_added = camera_hosts(tree), len(cameras.items) - added
    items = [camera.merged_over(base) if camera.is_mapping else camera for camera in cameras.items[:first_added]]
    items += [with_inherited(camera, base, hosts) for camera in cameras.items[first_added:]]
    return replace(tree, value={**tree.entries, "cameras": replace(cameras, value=items)})


def _substituted(path: Path, environ: Mapping[str, str]) -> tuple[YamlNode, list[Diagnostic]]:
    tree, diagnostics = as_written(path)
    directory = _absolute(path).parent
    seen: set[int] = set()  # all aliases of a string lead to the same node
    for keys, node in tree.scalars():
        text = node.text
        if text is None or "${" not in text or id(node) in seen:
            continue
        seen.add(id(node))
        node.is_substituted = True
        try:
            node.value = substitute(text, environ=environ, directory=directory)
        except VariableError as error:
            node.is_invalid = True
            diagnostics.append(node.diagnostic("invalid_reference", error.message, keys, fix=error.fix))
    return tree, diagnostics


def _config_error(path: Path, diagnostics: Iterable[Diagnostic], tree: YamlNode | None = None) -> ConfigError:
    """Return one error with all diagnostics in the order of the files. Their paths lead to values in `tree`."""
    ordered = sorted(
        (replace(found, file=found.file or str(path)) for found in diagnostics),
        key=lambda found: (
            found.file != str(path), found.file, found.line or 0, found.column or 0, found.field, found.text
        ),
    )  # fmt: skip
    # A problem in `defaults` recurs in every camera. Report each problem once.
    unique: dict[object, Diagnostic] = {}
    paths = None if tree is None else OwnPaths(tree)
    for found in ordered:
        located = found if paths is None else replace(found, path=paths.own(found.path))
        unique.setdefault((found.file, found.line, found.column, found.text), located)
    return ConfigError(unique.values())
