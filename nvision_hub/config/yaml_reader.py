"""Reader that turns YAML into a tree and rejects hostile YAML. The reader knows no keys of cameras.yaml.

The reader builds the tree from the parser's events, so tags in the file cannot create objects. An alias gives the same
node as its anchor. The reader stops immediately if the aliases would expand to too many values, or if values are nested
too deeply. Scalars other than null stay strings: `password: 0123` keeps the leading zero, and `classes: [no]` keeps the
word `no`. The models convert strings to numbers.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    CollectionEndEvent,
    DocumentStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceStartEvent,
)

from nvision_hub.config.yaml_nodes import YamlNode
from nvision_hub.errors import ConfigError, Diagnostic, safe_key

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_NODES: Final = 200_000  # a thousand cameras with every key set need a third of this number
MAX_DEPTH: Final = 32

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})

# Part of a ruamel.yaml message -> (what is wrong, how to fix it). The hub does not show ruamel.yaml's messages,
# because they may quote the file.
_MESSAGES: Final[dict[str, tuple[str, str | None]]] = {
    "mapping values are not allowed": (
        "a second `key:` on one line, or a wrongly indented line",
        "text that contains `: ` needs quotes",
    ),
    "found character '\\t'": ("a tab where YAML requires spaces", "indent with spaces"),
    "found character": ("a character that cannot begin a value", "put quotes around the text"),
    "found unexpected end of stream": ("a quotation mark that is never closed", None),
    "<block end>": ("a line whose indentation does not match the lines around it", "align it with its neighbors"),
    "expected ',' or ']'": ("a list in [ ] that is not closed, or lacks a comma", None),
    "expected ',' or '}'": ("a mapping in { } that is not closed, or lacks a comma", None),
    "could not find expected ':'": ("a key without its `: `", "write `key: value`, with a space after the colon"),
    "expected the node content": ("no value where one is expected", "close the bracket, or write the value"),
    "found unknown escape character": ("an unknown escape after a backslash", "put the text into single quotes"),
    "did not find expected alphabetic": ("a `*` or `&` without a name", "put quotes around the text"),
    "while scanning an alias": ("a `*` or `&` without a name", "put quotes around the text"),
    "characters are not allowed": ("a control character", "remove it"),  # begins with "special" or "control"
}


def read_tree(text: str, *, file: str | None = None) -> tuple[YamlNode | None, list[Diagnostic]]:
    """Return the one document in `text` and its YAML problems. The document is None if it is empty or unreadable.

    All nodes and problems refer to `file`.
    """
    reader = _Reader(text, file)
    try:
        return reader.document(), reader.diagnostics
    except ConfigError as error:
        return None, [*reader.diagnostics, *error.diagnostics]
    except YAMLError as error:
        return None, [*reader.diagnostics, replace(_syntax_error(error, text), file=file)]


class _Reader:
    """Builder that turns the parser's events into the tree. Raises `ConfigError` if the reader must stop early."""

    def __init__(self, text: str, file: str | None) -> None:
        self.diagnostics: list[Diagnostic] = []
        self._file = file
        self._events: Iterator[Any] = YAML(typ="safe", pure=True).parse(text)
        self._anchors: dict[str, YamlNode] = {}

    def document(self) -> YamlNode | None:
        """Return the first document; None if the file is empty."""
        root = None
        for event in self._events:
            if isinstance(event, NodeEvent):
                root = self._node(event)
            elif isinstance(event, DocumentStartEvent) and root is not None:
                fix = "remove the `---` before it"
                raise ConfigError([self._at(event).diagnostic("second_document", "is a second document", fix=fix)])
        return root

    def _node(self, event: Any, depth: int = 0) -> YamlNode:
        node = self._at(event)
        if isinstance(event, AliasEvent):
            if event.anchor in self._anchors:
                return self._anchors[event.anchor]
            message = "is a `*` alias with no `&` anchor above it"
            fix = "put quotes around the text if it is not an alias"
            raise ConfigError([node.diagnostic("unknown_alias", message, fix=fix)])
        if event.tag is not None and str(event.tag) != "!":
            # `!` alone means "as written". Any other tag names a type, but only the key decides the type of its value.
            message = "has a `!` tag, which has no meaning here"
            self.diagnostics.append(node.diagnostic("tag_not_allowed", message, fix="remove the tag"))
        if isinstance(event, ScalarEvent):
            node.value = None if event.style is None and event.value in _NULL else event.value
        elif depth >= MAX_DEPTH:
            raise ConfigError([node.diagnostic("too_deep", f"is nested more than {MAX_DEPTH} levels deep")])
        elif isinstance(event, SequenceStartEvent):
            node.value = list(self._children(node, depth))
        else:
            self._read_pairs(node, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _children(self, collection: YamlNode, depth: int) -> Iterator[YamlNode]:
        """Yield all keys and values up to the end of a collection, and add up their sizes."""
        for event in self._events:
            if isinstance(event, CollectionEndEvent):
                return
            node = self._node(event, depth + 1)
            collection.size += node.size
            if collection.size > MAX_NODES:
                message = f"expands to more than {MAX_NODES} values"
                raise ConfigError([collection.diagnostic("too_many_values", message, fix="use fewer aliases")])
            yield node

    def _read_pairs(self, mapping: YamlNode, depth: int) -> None:
        values: dict[str, YamlNode] = {}
        merged: list[YamlNode] = []  # the mappings after `<<:`
        children = self._children(mapping, depth)
        for key, value in zip(children, children, strict=True):
            if key.text is None:
                message = "is not a key; a key is a word, in quotes if it begins with { or ["
                self.diagnostics.append(key.diagnostic("invalid_key", message))
            elif key.text == "<<":
                sources = value.items if isinstance(value.value, list) else [value]
                merged += [source for source in sources if source.is_mapping]
                if not all(source.is_mapping for source in sources):
                    message = "`<<` requires an alias of a mapping, or a list of aliases of mappings"
                    self.diagnostics.append(value.diagnostic("invalid_merge", message))
            elif key.text in values:
                message = f"`{safe_key(key.text)}` is given twice, first on line {mapping.keys[key.text].line}"
                self.diagnostics.append(key.diagnostic("duplicate_key", message, fix="remove one of the two"))
            else:
                if value.value is None and value.line != key.line:
                    # The parser reports a missing value at the next line that has text.
                    value.line, value.column = key.line, key.column
                mapping.keys[key.text], values[key.text] = key, value
        for source in merged:
            for name, value in source.entries.items():
                mapping.keys.setdefault(name, source.keys[name])
                values.setdefault(name, value)
        mapping.value = values

    def _at(self, event: Any) -> YamlNode:
        mark = event.start_mark
        return YamlNode(None, mark.line + 1, mark.column + 1, self._file)


def _syntax_error(error: YAMLError, text: str) -> Diagnostic:
    if isinstance(error, MarkedYAMLError):
        original = f"{error.problem or ''} {error.context or ''}"
        # The parser locates a missing closing bracket or quotation mark at the end of the file, but the user must add
        # it near the opening one.
        marks = error.problem_mark, error.context_mark
        mark = (marks[1] or marks[0]) if "stream" in original else (marks[0] or marks[1])
        line, column = (0, 0) if mark is None else (mark.line, mark.column)
    else:  # a character that YAML does not allow; the error has only its offset
        original = str(error)
        before = text[: getattr(error, "position", 0)]
        line, column = before.count("\n"), len(before) - before.rfind("\n") - 1
    found, fix = next(
        (message for part, message in _MESSAGES.items() if part in original), ("something that YAML forbids", None)
    )
    if "in { }" in found and "${" in "".join(text.split("\n")[line : line + 1]):
        found, fix = "a ${...} inside { }, which needs quotes there", None
    message = f"is not valid YAML: found {found}"
    return Diagnostic(code="yaml_syntax", message=message, fix=fix, line=line + 1, column=column + 1)
