"""A cameras.yaml as written, with references in place of its secrets, and its validated configuration.

Where a variable or file supplies a secret or an address, validation uses a stand-in. The machine that renders the files
therefore needs no secrets and cannot print them. All other values (rates, ids, placements) are resolved as in `start`.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.included_files import OwnPaths
from nvision_hub.config.load import as_written, configuration
from nvision_hub.config.redis_address import RedisAddress
from nvision_hub.config.variables import REFERENCE, VariableError, substitute
from nvision_hub.errors import Diagnostic, format_key_path
from nvision_hub.export.variable_refs import first_free, references
from nvision_hub.export.yaml_writer import map_texts, typed

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nvision_hub.config.models import Config
    from nvision_hub.config.yaml_nodes import YamlNode
    from nvision_hub.errors import KeyPath

    Change = Callable[[KeyPath, YamlNode], str | None]  # receives a location and its scalar, and returns the new string

_SECRET_KEYS: Final = frozenset(
    {
        "streaming_key", "username", "password", "sentinel_username", "sentinel_password", "token", "callback_token",
        "secret", "fleet_key",
    }
)  # fmt: skip
_PUBLIC_KEYS: Final = frozenset({"username", "sentinel_username"})  # the rendered files may show these values
_STATE_VARIABLE: Final = "STATE_DIRECTORY"  # systemd and the container image set this variable
_WEBHOOK_SECRET: Final = "whsec_"  # noqa: S105 - the prefix that Standard Webhooks prescribes, not a secret
_STAND_IN_HOST: Final = "stand-in.invalid"
_SCHEMES: Final = {"cameras": "rtsp", "redis": "redis", "webhooks": "https", "mqtt": "mqtt", "nvision": "wss"}
# A query or path parameter with one of these names holds a credential; `channel=1` does not.
_CREDENTIAL_PARAMETER: Final = re.compile(
    r"[?&;/][^=?&;/]*(pass|pwd|token|key|secret|auth|sig|sess)[^=?&;/]*=[^&;/#]", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Literal:
    """Location of a secret in the file itself. The variable `name` replaces the secret."""

    name: str
    where: str  # `cameras.yaml:12:10`
    key: str  # `cameras[0].password`


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """A cameras.yaml with references in place of secrets."""

    path: Path
    tree: YamlNode  # as written, with a reference in place of each secret
    config: Config  # its secrets and addresses may be stand-ins, so do not use them
    literals: tuple[Literal, ...]

    @property
    def data(self) -> dict[str, Any]:
        """`tree` as plain data."""
        data: dict[str, Any] = map_texts(self.tree.plain(), typed)
        return data

    @property
    def variables(self) -> list[str]:
        """Variables that the user has to set, except variables that replace literal secrets."""
        made = {literal.name for literal in self.literals}
        return sorted({*references(self.data).variables} - made - {_STATE_VARIABLE})

    @property
    def uses_state_directory(self) -> bool:
        """Return whether `state_dir` is `${STATE_DIRECTORY}`, with or without a default."""
        found = REFERENCE.fullmatch(self.text("state_dir"))
        return found is not None and found["name"] == _STATE_VARIABLE

    @property
    def redis_host(self) -> str | None:
        """First host in `redis.url`, with each reference replaced by `x`; None if the address has no host."""
        try:
            return RedisAddress.parse(REFERENCE.sub("x", self.text("redis", "url"))).host or None
        except ValueError:
            return None

    def text(self, *loc: str) -> str:
        """Return the string at `loc`; empty if there is no string."""
        node = self.tree.at(loc)
        return "" if node is None else node.text or ""

    def diagnostic(self, message: str, fix: str, *path: str) -> Diagnostic:
        """Return a diagnostic for a setting that cannot work in the rendered files."""
        return Diagnostic(code="not_exportable", message=message, fix=fix, path=path, file=self.path.name)


def read(path: Path, environ: Mapping[str, str] = os.environ) -> SourceConfig:
    """Read a cameras.yaml. Raises one `ConfigError` that lists all problems, like `load`."""
    tree, diagnostics = as_written(path)
    tree, literals = _without_literals(tree, path)

    def resolved(loc: KeyPath, scalar: YamlNode) -> str | None:
        """Resolve variables like `start`, but use stand-ins for secrets and addresses."""
        text = scalar.text
        if text is None or "${" not in text:
            return text
        if _key(loc) in _SECRET_KEYS:
            return _stand_in(
                loc
            )  # even for `${NAME:-}`: only the machine that starts the hub knows whether NAME is set
        if loc[-1] == "url":
            return _stand_in_url(loc, text)
        try:
            return substitute(text, environ=environ, directory=path.absolute().parent)
        except VariableError as error:
            diagnostics.append(scalar.diagnostic("invalid_reference", error.message, loc, fix=error.fix))
            scalar.is_invalid = True
            return text

    config = configuration(path, _rewritten(tree, (), resolved), diagnostics)
    return SourceConfig(path=path, tree=tree, config=config, literals=literals)


def _rewritten(node: YamlNode, loc: KeyPath, change: Change) -> YamlNode:
    """Return a deep copy of the tree with `change` applied to every string and null."""
    match node.value:
        case dict() as entries:
            return replace(node, value={key: _rewritten(it, (*loc, key), change) for key, it in entries.items()})
        case list() as items:
            return replace(node, value=[_rewritten(item, (*loc, index), change) for index, item in enumerate(items)])
        case _:
            return replace(node, value=change(loc, node))


def _without_literals(tree: YamlNode, path: Path) -> tuple[YamlNode, tuple[Literal, ...]]:
    """Return a copy of the tree with a reference in place of each literal secret. Equal secrets share one reference."""
    literals: dict[str, Literal] = {}  # by secret
    paths = OwnPaths(tree)
    used = {found["name"] for _, it in tree.scalars() for found in REFERENCE.finditer(it.text or "")}

    def referenced(loc: KeyPath, scalar: YamlNode) -> str | None:
        text = scalar.text
        if not text or not _holds_secret(loc, text):
            return text
        if text not in literals:
            name = first_free(_variable_name(tree, loc), used, separator="_")
            used.add(name)
            file = path.name if scalar.file is None else os.path.relpath(scalar.file, path.parent)
            where = f"{file}:{scalar.line}:{scalar.column}"
            literals[text] = Literal(name=name, where=where, key=format_key_path(paths.own(loc)))
        return f"${{{literals[text].name}}}"

    return _rewritten(tree, (), referenced), tuple(literals.values())


def _variable_name(tree: YamlNode, loc: KeyPath) -> str:
    """Return a name for the value at `loc`, such as `CAMERA_LOBBY_PASSWORD`."""
    parts = [str(part) for part in loc]
    if len(loc) > 1 and isinstance(loc[1], int):
        node = tree.at((*loc[:2], "id"))
        owner = (None if node is None else node.text) or parts[1]
        parts = [parts[0].removesuffix("s"), owner, *parts[2:]]
    return re.sub("[^A-Z0-9]+", "_", "_".join(parts).upper())


def _stand_in(loc: KeyPath) -> str:
    """Return a stand-in that is valid as any kind of secret and differs from the stand-ins of other locations."""
    digest = hashlib.sha384(format_key_path(loc).encode()).digest()  # base64 of 48 bytes has no padding
    return _WEBHOOK_SECRET + base64.b64encode(digest).decode()


def _stand_in_url(loc: KeyPath, text: str) -> str:
    """Return a stand-in address. The string or its section determines the scheme."""
    scheme, slashes, _ = text.partition("://")
    section = "nvision" if "nvision" in loc else str(loc[0])
    scheme = scheme.lower() if slashes and "${" not in scheme else _SCHEMES.get(section, "https")
    return f"{scheme}://{_STAND_IN_HOST}{'/mymaster' if scheme.endswith('+sentinel') else ''}"


def _key(loc: KeyPath) -> str:
    """Return the key of the value at `loc`; empty for a label, because labels may have any key."""
    if "labels" in loc or "placement" in loc:
        return ""
    return next((part for part in reversed(loc) if isinstance(part, str)), "")


def _holds_secret(loc: KeyPath, text: str) -> bool:
    """Return whether the string contains a credential after its references are replaced by their defaults."""
    literal = REFERENCE.sub(lambda found: found["default"] or found["escaped"] or "", text)
    key = _key(loc)
    if key in _SECRET_KEYS:
        return key not in _PUBLIC_KEYS and bool(literal.removeprefix(_WEBHOOK_SECRET))
    if key != "url":
        return False
    _, _, rest = literal.partition("://")
    userinfo, at, after = rest.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and (password if colon else user):
        return True
    _, _, path = (after if at else rest).partition("/")
    # The path of a webhook address is often a secret.
    return bool(_CREDENTIAL_PARAMETER.search(rest)) or (loc[0] == "webhooks" and bool(path))
