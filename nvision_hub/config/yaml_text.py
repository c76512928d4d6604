"""YAML text to a tree. Knows YAML and what is hostile in it; knows nothing of cameras.

The tree is built from the parser's events, so that nothing hostile is ever constructed: an alias is the same node
again, not a copy, and a tree whose aliases would unfold to too much, or that nests too deep, is refused at once.
Scalars stay texts (but for null), as they were written: `password: 0123` keeps its zero, `classes: [no]` its word;
whoever knows what is due turns them into numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    MappingEndEvent,
    MappingStartEvent,
    NodeEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from nvision_hub.config.problem import Place, Problem, key_shown
from nvision_hub.config.tree import Mapping, Node, Scalar, Sequence

MAX_NODES: Final = 200_000  # a thousand cameras with every key set are a third of it
MAX_DEPTH: Final = 32

_NULL: Final = frozenset({"", "~", "null", "Null", "NULL"})

# What ruamel.yaml says, as people would put it. Its own text is never passed on where it could quote the file.
_PLAIN_WORDS: Final = {
    "mapping values are not allowed": "a second `key:` on one line, or a line indented wrongly; "
    "text that holds `: ` needs quotes",
    "found character '\\t'": "a tab where YAML wants spaces; indent with spaces",
    "found character": "a character that cannot begin a value; put quotes around the text",
    "found unexpected end of stream": "a quotation mark that is never closed",
    "expected <block end>": "a line that does not belong where its indentation puts it; align it with its neighbours",
    "expected ',' or ']'": "a list in [ ] that is not closed, or lacks a comma",
    "expected ',' or '}'": "a mapping in { } that is not closed, or lacks a comma",
    "could not find expected ':'": "a key without its `: `; write `key: value`, with a space after the colon",
    "expected the node content": "nothing where a value is due; close the bracket, or write the value",
    "found unknown escape character": "an unknown escape after a backslash; put the text into single quotes",
    "did not find expected alphabetic": "a `*` or `&` without a name; put quotes around the text",
    "while scanning an alias": "a `*` or `&` without a name; put quotes around the text",
    "special characters are not allowed": "a control character; remove it",
    "control characters are not allowed": "a control character; remove it",
}


class _RefusedError(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.sentence)
        self.problem = problem


def read_tree(text: str) -> tuple[Node | None, list[Problem]]:
    """The one document in `text`, None where it is empty or unreadable, and what is wrong with it as YAML."""
    builder = _Builder()
    try:
        for event in YAML(typ="safe", pure=True).parse(text):
            builder.take(event)
    except _RefusedError as refused:
        return None, [*builder.problems, refused.problem]
    except YAMLError as error:
        return None, [*builder.problems, _translated(error, text)]
    return builder.root, builder.problems


@dataclass(slots=True, kw_only=True)
class _Frame:
    """A collection that is still open."""

    node: Sequence | Mapping
    anchor: str | None
    key: Node | None = None  # of a mapping: waits for its value
    merged: list[Mapping] = field(default_factory=list)  # of a mapping: what stands after `<<:`


class _Builder:
    """Takes the parser's events one by one."""

    def __init__(self) -> None:
        self.root: Node | None = None
        self.problems: list[Problem] = []
        self._open: list[_Frame] = []
        self._anchors: dict[str, Node] = {}
        self._documents = 0

    def take(self, event: Any) -> None:
        """One event. Raises `_RefusedError` where reading on would do harm or mean nothing."""
        match event:
            case DocumentStartEvent():
                self._documents += 1
                if self._documents > 1:
                    raise _RefusedError(_problem(event, "is a second document; remove the `---` before it"))
            case AliasEvent():
                self._add(self._target(event))
            case ScalarEvent():
                self._check_tag(event)
                null = event.style is None and event.value in _NULL
                self._complete(Scalar(place=_place(event), text=None if null else event.value), event.anchor)
            case MappingStartEvent():
                self._begin(Mapping(place=_place(event)), event)
            case SequenceStartEvent():
                self._begin(Sequence(place=_place(event)), event)
            case MappingEndEvent() | SequenceEndEvent():
                frame = self._open.pop()
                if isinstance(frame.node, Mapping):
                    _fill_in(frame.node, frame.merged)
                self._complete(frame.node, frame.anchor)
            case _:
                pass

    def _begin(self, node: Sequence | Mapping, event: NodeEvent) -> None:
        self._check_tag(event)
        if len(self._open) >= MAX_DEPTH:
            raise _RefusedError(node.problem(f"nests more than {MAX_DEPTH} levels deep"))
        self._open.append(_Frame(node=node, anchor=event.anchor))

    def _complete(self, node: Node, anchor: str | None) -> None:
        if anchor is not None:
            self._anchors[anchor] = node
        self._add(node)

    def _target(self, event: AliasEvent) -> Node:
        try:
            return self._anchors[event.anchor]
        except KeyError:
            raise _RefusedError(
                _problem(
                    event, "is a `*` alias with no `&` anchor above it; put quotes around the text if none is meant"
                )
            ) from None

    def _check_tag(self, event: Any) -> None:
        # `!` alone says "as written"; every other tag asks for a type, which the key decides, or for a Python object.
        if event.tag is not None and str(event.tag) != "!":
            self.problems.append(_problem(event, "has a `!` tag, which means nothing here; remove the tag"))

    def _add(self, node: Node) -> None:
        if not self._open:
            self.root = node
            return
        frame = self._open[-1]
        frame.node.nodes += node.nodes
        if frame.node.nodes > MAX_NODES:
            raise _RefusedError(frame.node.problem(f"unfolds to more than {MAX_NODES} values; use fewer aliases"))
        if isinstance(frame.node, Sequence):
            frame.node.items.append(node)
        elif frame.key is None:
            frame.key = node
        else:
            self._enter(frame, frame.key, node)
            frame.key = None

    def _enter(self, frame: _Frame, key: Node, value: Node) -> None:
        assert isinstance(frame.node, Mapping)  # noqa: S101 - only mappings have keys
        mapping = frame.node
        if not isinstance(key, Scalar) or key.text is None:
            self.problems.append(key.problem("is no key; a key is a word, in quotes where it begins with { or ["))
        elif key.text == "<<":
            sources = value.items if isinstance(value, Sequence) else [value]
            frame.merged += [source for source in sources if isinstance(source, Mapping)]
            if not all(isinstance(source, Mapping) for source in sources):
                self.problems.append(value.problem("`<<` takes an alias of a mapping, or a list of such"))
        elif key.text in mapping.keys:
            first = mapping.keys[key.text].place.line
            name = key_shown(key.text)
            self.problems.append(key.problem(f"`{name}` is given twice, first on line {first}; remove one of the two"))
        else:
            if isinstance(value, Scalar) and value.text is None and value.place.line != key.place.line:
                value.place = key.place  # the parser finds that nothing is there on the line where something is again
            mapping.keys[key.text] = key
            mapping.values[key.text] = value


def _fill_in(mapping: Mapping, merged: list[Mapping]) -> None:
    for source in merged:
        for name, value in source.values.items():
            mapping.keys.setdefault(name, source.keys[name])
            mapping.values.setdefault(name, value)


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)


def _problem(event: Any, sentence: str) -> Problem:
    return Problem(place=_place(event), sentence=sentence)


def _translated(error: YAMLError, text: str) -> Problem:
    if isinstance(error, MarkedYAMLError):
        said = f"{error.problem or ''} {error.context or ''}"
        # What is never closed is found missing at the end, but mended where it was opened.
        marks = (
            (error.context_mark, error.problem_mark) if "stream" in said else (error.problem_mark, error.context_mark)
        )
        mark = marks[0] or marks[1]
        place = Place(1, 1) if mark is None else Place(mark.line + 1, mark.column + 1)
    else:  # a character that YAML does not allow; its error tells the offset only
        said = str(error)
        before = text[: getattr(error, "position", 0)]
        place = Place(before.count("\n") + 1, len(before) - before.rfind("\n"))
    words = next((words for said_so, words in _PLAIN_WORDS.items() if said_so in said), "something YAML does not allow")
    if "in { }" in words and "${" in "".join(text.split("\n")[place.line - 1 : place.line]):
        words = "a ${...} inside { }, which needs quotes there"
    return Problem(place=place, sentence=f"is no valid YAML: here is {words}")
