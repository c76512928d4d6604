"""cameras.yaml from disk to `Config`: the steps in order, every problem gathered on the way."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from nvision_hub.config.checks import checks
from nvision_hub.config.models import Config
from nvision_hub.config.problem import WHOLE_FILE, Place, Problem, config_error
from nvision_hub.config.tree import Mapping, Node, Scalar, Sequence, tree_of
from nvision_hub.config.variables import VariableError, substitute
from nvision_hub.config.wording import worded
from nvision_hub.config.yaml_text import MAX_NODES, read_tree

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Mapping as AbstractMapping

MAX_FILE_BYTES: Final = 1_000_000


def load(
    path: Path,
    *,
    environ: AbstractMapping[str, str] = os.environ,
    also: Collection[AbstractMapping[str, Any]] = (),
) -> Config:
    """The configuration in `path`, with variables replaced, `defaults` merged and every value checked.

    `also` are cameras that join those of the file, at its end, or take the place of one of the same id. They are taken
    literally: a `${VAR}` in them means itself, for whoever gives them must not read the hub's environment by it.

    Raises `ConfigError` that holds all the problems found, each as one line `file:line:column: key: sentence`.
    """
    tree, problems = as_written(path)
    problems += _substitute(tree, environ, _absolute(path).parent)
    _join(tree, also)
    return configuration(path, tree, problems)


def as_written(path: Path) -> tuple[Mapping, list[Problem]]:
    """The file with its variables as they stand, and what is wrong with it as YAML. Raises `ConfigError`."""
    tree, problems = read_tree(_text(path))
    if tree is None:
        raise config_error(path, problems or [_whole("is empty; `nvision-hub init` writes one to start from")])
    if not isinstance(tree, Mapping):
        raise config_error(path, [*problems, tree.problem("must hold `key: value` lines, `cameras:` among them")])
    return tree, problems


def resolved(path: Path, *, environ: AbstractMapping[str, str] = os.environ) -> Mapping:
    """The file with its variables replaced, and otherwise as written: secrets are in it. Raises `ConfigError`."""
    tree, problems = as_written(path)
    problems += _substitute(tree, environ, _absolute(path).parent)
    if problems:
        raise config_error(path, problems)
    return tree


def configuration(path: Path, tree: Mapping, problems: list[Problem]) -> Config:
    """What a file's tree without variables means. Raises `ConfigError` with all problems, those given among them."""
    absolute = _absolute(path)
    effective = _merged(tree)
    if effective is None:
        raise config_error(path, [*problems, tree.problem(f"comes to more than {MAX_NODES} values with `defaults`")])
    config: Config | None = None
    try:
        config = Config.model_validate(effective.plain(), context={"path": absolute, "directory": absolute.parent})
    except ValidationError as error:
        problems = [*problems, *worded(error, effective, tree)]
    problems = [*problems, *checks(effective, tree)]
    if problems or config is None:
        raise config_error(path, problems)
    return config


def _absolute(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100 - links stay, so that what is beside the link is found


def _merged(tree: Mapping) -> Mapping | None:
    """The tree in which each camera has, of `defaults` and `nvision`, what it does not set itself.

    None where that is too much: a long list of cameras times long defaults is a bomb like nested aliases.
    """
    cameras, defaults, nvision = (tree.child(key) for key in ("cameras", "defaults", "nvision"))
    if not isinstance(cameras, Sequence):
        return tree
    below = Mapping(place=tree.place)
    if isinstance(nvision, Mapping):
        below = Mapping(place=tree.place, nodes=nvision.nodes, values={"nvision": nvision})
        below.keys["nvision"] = tree.keys["nvision"]
    if isinstance(defaults, Mapping):
        below = defaults.over(below)
    if tree.nodes + len(cameras.items) * below.nodes > MAX_NODES:
        return None
    items = [camera.over(below) if isinstance(camera, Mapping) else camera for camera in cameras.items]
    effective = Sequence(place=cameras.place, items=items)
    return Mapping(place=tree.place, keys=tree.keys, values={**tree.values, "cameras": effective})


def _join(tree: Mapping, also: Collection[AbstractMapping[str, Any]]) -> None:
    cameras = tree.child("cameras")
    if not also or not isinstance(cameras, Sequence):
        return
    replaced = {str(camera.get("id")) for camera in also}
    kept = [item for item in cameras.items if not _has_id(item, replaced)]
    tree.values["cameras"] = Sequence(
        place=cameras.place, items=[*kept, *(tree_of(dict(camera), WHOLE_FILE) for camera in also)]
    )


def _has_id(camera: Node, ids: Collection[str]) -> bool:
    node = camera.child("id")
    return isinstance(node, Scalar) and node.text in ids


def _substitute(tree: Node, environ: AbstractMapping[str, str], directory: Path) -> list[Problem]:
    problems = []
    seen: set[int] = set()  # an anchored text is reached by every alias of it
    for loc, scalar in tree.scalars():
        if scalar.text is None or "${" not in scalar.text or id(scalar) in seen:
            continue
        seen.add(id(scalar))
        try:
            scalar.text = substitute(scalar.text, environ=environ, directory=directory)
        except VariableError as error:
            scalar.spoilt = True
            problems.append(scalar.problem(str(error), loc))
    return problems


def _text(path: Path) -> str:
    try:
        if path.is_dir():
            raise config_error(path, [_whole("is a folder; name the file in it, such as cameras.yaml")])
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except FileNotFoundError as error:
        raise config_error(
            path, [_whole("there is no such file; `nvision-hub init` writes one to start from")]
        ) from error
    except (OSError, ValueError) as error:
        raise config_error(
            path, [_whole(f"cannot be read: {getattr(error, 'strerror', None) or 'its name is not valid'}")]
        ) from error
    if len(content) > MAX_FILE_BYTES:
        raise config_error(path, [_whole(f"is larger than {MAX_FILE_BYTES} bytes, which no cameras.yaml needs")])
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
        place = Place(before.count(b"\n") + 1, len(before) - before.rfind(b"\n"))
    # Outside of the handler: a decoding error holds the bytes of the file, which may hold passwords.
    raise config_error(path, [Problem(place=place, sentence="is not UTF-8 text here; save the file as UTF-8")])


def _whole(sentence: str) -> Problem:
    return Problem(sentence=sentence)
