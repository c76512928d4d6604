"""Plain data to YAML that people read and that every reader takes alike: one document after another."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

from nvision_hub.config.tree import Mapping, Node, Scalar, Sequence

if TYPE_CHECKING:
    from collections.abc import Iterable

_WIDTH: Final = 4096  # a folded line would break a shell command in two
# YAML 1.1, which Kubernetes and Compose still read, takes these for truth values.
_AMBIGUOUS: Final = frozenset({"y", "n", "yes", "no", "on", "off"})


def yaml_text(documents: Iterable[Any]) -> str:
    """The documents, parted by `---`. A text of several lines stands as it is, behind `|`."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    parts = []
    for document in documents:
        out = io.StringIO()
        yaml.dump(_styled(document), out)
        parts.append(out.getvalue())
    return "---\n".join(parts)


def plain(node: Node | None) -> Any:
    """A tree as data: numbers and truth values where that gives the same text back, texts elsewhere."""
    match node:
        case Mapping():
            return {key: plain(value) for key, value in node.values.items()}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar(text=text):
            return _value(text)
        case _:
            return None


def _value(text: str | None) -> Any:
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return text
    return value if isinstance(value, int | float) and json.dumps(value) == text else text


def _styled(value: Any) -> Any:
    match value:
        case dict():
            return {key: _styled(inner) for key, inner in value.items()}
        case list() | tuple():
            return [_styled(inner) for inner in value]
        case str() if "\n" in value:
            return LiteralScalarString(value)
        case str() if value.lower() in _AMBIGUOUS:
            return SingleQuotedScalarString(value)
        case _:
            return value
