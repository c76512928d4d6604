"""Tree of the values of a YAML file, each with its location.

This module does not read YAML and knows no keys of cameras.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvision_hub.errors import Diagnostic, KeyPath

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True)
class YamlNode:
    """One value of the file: a string, None for null, a list of nodes, or a mapping from keys to nodes.

    `line` and `column` are the position of the first character, counted from 1; None if the file lacks the value.
    """

    value: str | list[YamlNode] | dict[str, YamlNode] | None
    line: int | None = None
    column: int | None = None
    file: str | None = None  # None for a value that no file contains
    keys: dict[str, YamlNode] = field(default_factory=dict, kw_only=True)  # keys of a mapping, with their locations
    size: int = field(default=1, kw_only=True)  # number of nodes, with aliases expanded
    is_substituted: bool = field(default=False, kw_only=True)  # the string may contain a secret from a reference
    is_invalid: bool = field(default=False, kw_only=True)  # a reference in the string cannot be resolved

    @property
    def text(self) -> str | None:
        """The string; None for null, a list, a mapping or an invalid string."""
        return self.value if isinstance(self.value, str) and not self.is_invalid else None

    @property
    def items(self) -> list[YamlNode]:
        """The items of a list; empty for any other value."""
        return self.value if isinstance(self.value, list) else []

    @property
    def entries(self) -> dict[str, YamlNode]:
        """The keys and values of a mapping; empty for any other value."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def is_mapping(self) -> bool:
        return isinstance(self.value, dict)

    def diagnostic(self, code: str, message: str, path: KeyPath = (), *, fix: str | None = None) -> Diagnostic:
        """Return a diagnostic for this value."""
        return Diagnostic(
            code=code, message=message, fix=fix, path=path, file=self.file, line=self.line, column=self.column
        )

    def plain(self) -> Any:
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        return [node.plain() for node in self.value] if isinstance(self.value, list) else self.value

    def child(self, part: str | int) -> YamlNode | None:
        """Return the value of a key or the item at an index; None if it does not exist."""
        if isinstance(part, str):
            return self.entries.get(part)
        return self.items[part] if part < len(self.items) else None

    def at(self, path: KeyPath) -> YamlNode | None:
        node: YamlNode | None = self
        for part in path:
            node = None if node is None else node.child(part)
        return node

    def scalars(self, path: KeyPath = ()) -> Iterator[tuple[KeyPath, YamlNode]]:
        """Yield every string and null in this value with its path."""
        children: list[tuple[str | int, YamlNode]] = [*self.entries.items(), *enumerate(self.items)]
        for part, node in children:
            yield from node.scalars((*path, part))
        if not isinstance(self.value, dict | list):
            yield path, self

    def merged_over(self, base: YamlNode) -> YamlNode:
        """Return this mapping with missing keys added from `base`. Nested mappings merge in the same way."""
        values = dict(base.entries)
        for key, node in self.entries.items():
            below = values.get(key)
            if below is None or not below.is_mapping:
                values[key] = node
            elif node.is_mapping:
                values[key] = node.merged_over(below)
            elif node.value is not None:  # an empty section keeps the values of `base`
                values[key] = node
        return YamlNode(values, self.line, self.column, self.file)


def tree_of(value: Any) -> YamlNode:
    """Return the tree of a JSON value. The nodes have no locations."""
    match value:
        case dict():
            return YamlNode({str(key): tree_of(inner) for key, inner in value.items()})
        case list() | tuple():
            return YamlNode([tree_of(inner) for inner in value])
        case bool():
            return YamlNode(str(value).lower())
        case _:
            return YamlNode(None if value is None else str(value))
