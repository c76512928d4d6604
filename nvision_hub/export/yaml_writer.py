"""Writer of readable YAML that means the same in YAML 1.1 and YAML 1.2."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import LiteralScalarString, SingleQuotedScalarString

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_WIDTH: Final = 4096  # folding a line would split a shell command
# YAML 1.1, which Kubernetes and Compose read, treats these words as Booleans.
_AMBIGUOUS: Final = frozenset({"y", "n", "yes", "no", "on", "off"})


def yaml_text(documents: Iterable[Any]) -> str:
    """Return the documents, separated by `---`. Multi-line strings become literal blocks (`|`)."""
    yaml = YAML()
    yaml.width = _WIDTH
    yaml.indent(mapping=2, sequence=4, offset=2)
    out = io.StringIO()
    yaml.dump_all((map_texts(document, _styled) for document in documents), out)
    return out.getvalue()


def map_texts(data: Any, change: Callable[[str], Any]) -> Any:
    """Return a deep copy of plain data with `change` applied to every string except keys."""
    match data:
        case dict():
            return {key: map_texts(value, change) for key, value in data.items()}
        case list() | tuple():
            return [map_texts(item, change) for item in data]
        case str():
            return change(data)
        case _:
            return data


def typed(text: str) -> str | float:
    """Convert a number or Boolean as YAML spells it, such as `5` or `true`. Return any other string unchanged."""
    try:
        parsed = json.loads(text)
    except ValueError:
        return text
    return parsed if isinstance(parsed, int | float) and json.dumps(parsed) == text else text


def _styled(text: str) -> object:
    if "\n" in text:
        return LiteralScalarString(text)
    return SingleQuotedScalarString(text) if text.lower() in _AMBIGUOUS else text
