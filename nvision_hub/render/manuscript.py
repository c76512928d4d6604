"""cameras.yaml as its author wrote it, without its secrets, and as far as possible what it means.

Where a variable or a file would give a secret or an address, the meaning is worked out with something that stands in
for it: the machine that renders need not know secrets, and what it does not know it cannot print. Everything else
(rates, ids, placements) is looked up as a start would.
"""

from __future__ import annotations

import base64
import os
import re
from dataclasses import dataclass
from itertools import chain, count
from typing import TYPE_CHECKING, Final

from nvision_hub.config.load import as_written, configuration
from nvision_hub.config.problem import loc_shown
from nvision_hub.config.tree import Mapping, Node, Scalar, Sequence
from nvision_hub.config.variables import REFERENCE, VariableError, substitute

if TYPE_CHECKING:
    from collections.abc import Callable
    from collections.abc import Mapping as AbstractMapping
    from pathlib import Path

    from nvision_hub.config import Config
    from nvision_hub.config.problem import Loc, Problem

    Change = Callable[[Loc, Scalar], str | None]  # the text at a place, by what stands there now

_SECRETS: Final = frozenset({"streaming_key", "username", "password", "token", "callback_token", "secret"})
_SHOWN: Final = frozenset({"username"})  # may be read by anybody, unlike the others
_WEBHOOK_SECRET: Final = "whsec_"  # noqa: S105 - the prefix that Standard Webhooks prescribes, no secret
_STAND_IN: Final = _WEBHOOK_SECRET + base64.b64encode(bytes(32)).decode()
_STAND_IN_HOST: Final = "stand-in.invalid"
_SCHEMES: Final = {"cameras": "rtsp", "redis": "redis", "webhooks": "https", "mqtt": "mqtt", "nvision": "wss"}
# A value in a query or path of this name opens something; `channel=1` does not.
_TELLING: Final = re.compile(
    r"[?&;/][^=?&;/]*(pass|pwd|token|key|secret|auth|sig|sess)[^=?&;/]*=[^&;/#]", re.IGNORECASE
)


@dataclass(frozen=True, kw_only=True)
class Literal:
    """A secret that stood in the file itself. It has become the variable `name`; what it was is not kept."""

    name: str
    where: str  # `cameras.yaml:12:10`
    key: str  # `cameras[0].password`


@dataclass(frozen=True, kw_only=True)
class Manuscript:
    """A cameras.yaml."""

    path: Path
    tree: Mapping  # as written, but each secret in it is a reference
    config: Config  # with stand-ins: neither its secrets nor its addresses are to be relied on
    literals: tuple[Literal, ...]

    @property
    def names_made(self) -> frozenset[str]:
        """The variables of `tree` that the file itself does not know."""
        return frozenset(literal.name for literal in self.literals)


def read(path: Path, environ: AbstractMapping[str, str] = os.environ) -> Manuscript:
    """The manuscript of a file. Raises `ConfigError` with all that is wrong with it, as `load` does."""
    tree, problems = as_written(path)
    directory = path.absolute().parent
    secrets = _Literals(path.name, tree)
    tree = rewritten(tree, secrets)
    meant = rewritten(tree, _Meaning(environ, directory, problems))
    config = configuration(path, meant, problems)
    return Manuscript(path=path, tree=tree, config=config, literals=tuple(secrets.found))


def rewritten(tree: Mapping, change: Change) -> Mapping:
    """The same tree with other texts, where `change` says so; nothing of it is shared with the first."""
    copy = _rewritten(tree, (), change)
    assert isinstance(copy, Mapping)  # noqa: S101 - a mapping's copy is one
    return copy


def _rewritten(node: Node, loc: Loc, change: Change) -> Node:
    match node:
        case Scalar():
            return Scalar(place=node.place, text=change(loc, node), spoilt=node.spoilt)
        case Sequence():
            items = [_rewritten(item, (*loc, index), change) for index, item in enumerate(node.items)]
            return Sequence(place=node.place, nodes=node.nodes, items=items)
        case Mapping():
            values = {key: _rewritten(value, (*loc, key), change) for key, value in node.values.items()}
            return Mapping(place=node.place, nodes=node.nodes, keys=dict(node.keys), values=values)
        case _:
            raise TypeError(type(node))


class _Literals:
    """Makes a reference of each secret that is written out; two that are the same become one."""

    def __init__(self, file: str, tree: Mapping) -> None:
        self.found: list[Literal] = []
        self._file = file
        self._tree = tree
        self._names: dict[str, str] = {}  # of secrets
        self._taken = {found["name"] for _, it in tree.scalars() for found in REFERENCE.finditer(it.text or "")}

    def __call__(self, loc: Loc, scalar: Scalar) -> str | None:
        text = scalar.text
        if not text or not _holds_secret(loc, text):
            return text
        name = self._names.get(text)
        if name is None:
            name = self._names[text] = self._name(loc)
            where = f"{self._file}:{scalar.place.line}:{scalar.place.column}"
            self.found.append(Literal(name=name, where=where, key=loc_shown(loc)))
        return f"${{{name}}}"

    def _name(self, loc: Loc) -> str:
        """`CAMERA_LOBBY_PASSWORD`: a variable that the file does not use yet."""
        parts = [str(part) for part in loc]
        if isinstance(loc[1] if len(loc) > 1 else None, int):
            node = self._tree.at((*loc[:2], "id"))
            of = node.text if isinstance(node, Scalar) and node.text else parts[1]
            parts = [parts[0].removesuffix("s"), of, *parts[2:]]
        name = re.sub("[^A-Z0-9]+", "_", "_".join(parts).upper())
        free = next(it for it in chain([name], (f"{name}_{n}" for n in count(2))) if it not in self._taken)
        self._taken.add(free)
        return free


class _Meaning:
    """Looks up what a start would, and puts stand-ins where that could be a secret or an address."""

    def __init__(self, environ: AbstractMapping[str, str], directory: Path, problems: list[Problem]) -> None:
        self._environ = environ
        self._directory = directory
        self._problems = problems

    def __call__(self, loc: Loc, scalar: Scalar) -> str | None:
        text = scalar.text
        if text is None or "${" not in text:
            return text
        if _secret(loc):
            # `${NAME:-}` is for a secret that may be left out; whether it is, the place that starts the hub knows.
            return _STAND_IN
        if loc[-1] == "url":
            return _address(loc, text)
        try:
            return substitute(text, environ=self._environ, directory=self._directory)
        except VariableError as error:
            self._problems.append(scalar.problem(str(error), loc))
            scalar.spoilt = True
            return text


def _address(loc: Loc, text: str) -> str:
    """Of the same kind, as far as the text tells it. Webhooks and services are told apart by nothing else."""
    scheme, slashes, _ = text.partition("://")
    section = "nvision" if "nvision" in loc else str(loc[0])
    return f"{scheme if slashes and '${' not in scheme else _SCHEMES.get(section, 'https')}://{_STAND_IN_HOST}"


def _key(loc: Loc) -> str:
    return str(next((part for part in reversed(loc) if isinstance(part, str)), ""))


def _secret(loc: Loc) -> bool:
    """Whether the whole value is one, wherever it stands. Labels may be called anything."""
    return _key(loc) in _SECRETS and "labels" not in loc and "placement" not in loc


def _holds_secret(loc: Loc, text: str) -> bool:
    """Whether something that opens something is written out there."""
    if _secret(loc):
        return _key(loc) not in _SHOWN and bool(_own(text).removeprefix(_WEBHOOK_SECRET))
    if _key(loc) != "url" or "labels" in loc or "placement" in loc:
        return False
    _, _, rest = _own(text).partition("://")
    userinfo, at, after = rest.rpartition("@")
    user, colon, password = userinfo.partition(":")
    if at and (password if colon else user):
        return True
    _, _, path = (after if at else rest).partition("/")
    # A webhook's path often is the secret, as its addresses are shown without it everywhere else.
    return bool(_TELLING.search(rest)) or (loc[0] == "webhooks" and bool(path))


def _own(text: str) -> str:
    """What of a text stands in the file itself, defaults of variables too."""
    return REFERENCE.sub(lambda found: found["default"] or found["escaped"] or "", text)
