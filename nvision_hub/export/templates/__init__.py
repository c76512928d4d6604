"""Templates of the exported files: YAML with `$name` as a value, or text with `$name` anywhere."""

from __future__ import annotations

from importlib.resources import files
from string import Template
from typing import Any

from ruamel.yaml import YAML


def text(name: str, /, **values: object) -> str:
    """Return a text template with its placeholders replaced. `$$` means a literal `$`."""
    return Template(files(__name__).joinpath(name).read_text(encoding="utf-8")).substitute(values)


def documents(name: str, /, **values: Any) -> list[dict[str, Any]]:
    """Return the documents of a YAML template as plain data, without keys whose value is None."""
    loaded = YAML(typ="safe").load_all(files(__name__).joinpath(name).read_text(encoding="utf-8"))
    return [_filled(document, values) for document in loaded]


def _filled(node: Any, values: dict[str, Any]) -> Any:
    match node:
        case dict():
            filled = {key: _filled(value, values) for key, value in node.items()}
            return {key: value for key, value in filled.items() if value is not None}
        case list():
            return [value for item in node if (value := _filled(item, values)) is not None]
        case str() if node.startswith("$"):
            return values[node[1:]]
        case _:
            return node
