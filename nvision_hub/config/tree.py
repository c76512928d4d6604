"""A YAML file as a tree of texts, each with its place. Knows neither how YAML is read nor what cameras are."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from nvision_hub.config.problem import Loc, Place, Problem, loc_shown

if TYPE_CHECKING:
    from collections.abc import Iterator


@dataclass(slots=True, kw_only=True)
class Node:
    """One value of the file and where it begins. `nodes` is its size with aliases unfolded."""

    place: Place
    nodes: int = 1

    def problem(self, sentence: str, loc: Loc = ()) -> Problem:
        """Something wrong here."""
        return Problem(place=self.place, loc=loc_shown(loc), sentence=sentence)

    def plain(self) -> Any:
        """As dicts, lists, texts and None."""
        raise NotImplementedError

    def child(self, part: str | int) -> Node | None:
        """What stands under a key or at an index; None where nothing does."""
        del part
        return None

    def at(self, loc: Loc) -> Node | None:
        """What stands at the end of that way; None where it leads nowhere."""
        node: Node | None = self
        for part in loc:
            node = None if node is None else node.child(part)
        return node

    def scalars(self, loc: Loc = ()) -> Iterator[tuple[Loc, Scalar]]:
        """Every text below, with the way to it."""
        raise NotImplementedError


@dataclass(slots=True, kw_only=True)
class Scalar(Node):
    """A text, or None for null. `spoilt` where a variable in it is not set: its value means nothing."""

    text: str | None
    spoilt: bool = False

    def plain(self) -> str | None:
        return self.text

    def scalars(self, loc: Loc = ()) -> Iterator[tuple[Loc, Scalar]]:
        yield loc, self


@dataclass(slots=True, kw_only=True)
class Sequence(Node):
    """A list."""

    items: list[Node] = field(default_factory=list)

    def plain(self) -> list[Any]:
        return [item.plain() for item in self.items]

    def child(self, part: str | int) -> Node | None:
        return self.items[part] if isinstance(part, int) and part < len(self.items) else None

    def scalars(self, loc: Loc = ()) -> Iterator[tuple[Loc, Scalar]]:
        for index, item in enumerate(self.items):
            yield from item.scalars((*loc, index))


@dataclass(slots=True, kw_only=True)
class Mapping(Node):
    """Keys (each a `Scalar`, for its place) and their values."""

    keys: dict[str, Scalar] = field(default_factory=dict)
    values: dict[str, Node] = field(default_factory=dict)

    def plain(self) -> dict[str, Any]:
        return {key: value.plain() for key, value in self.values.items()}

    def child(self, part: str | int) -> Node | None:
        return self.values.get(part) if isinstance(part, str) else None

    def scalars(self, loc: Loc = ()) -> Iterator[tuple[Loc, Scalar]]:
        for key, value in self.values.items():
            yield from value.scalars((*loc, key))

    def over(self, below: Node | None) -> Mapping:
        """Lay this mapping over another: its own keys win, what it lacks shows through; mappings merge inside."""
        if not isinstance(below, Mapping):
            return self
        values = dict(below.values)
        for key, value in self.values.items():
            if isinstance(value, Mapping):
                values[key] = value.over(values.get(key))
            elif not (isinstance(values.get(key), Mapping) and isinstance(value, Scalar) and value.text is None):
                values[key] = value  # a section left empty takes nothing away
        keys = {**below.keys, **self.keys}
        return Mapping(place=self.place, nodes=self.nodes + below.nodes, keys=keys, values=values)


def tree_of(value: Any, place: Place) -> Node:
    """What a program gave instead of a file: dicts, lists and scalars of JSON, all of it at one place."""
    match value:
        case dict():
            keys = {str(key): Scalar(place=place, text=str(key)) for key in value}
            values = {str(key): tree_of(inner, place) for key, inner in value.items()}
            return Mapping(place=place, nodes=1 + sum(v.nodes for v in values.values()), keys=keys, values=values)
        case list() | tuple():
            items = [tree_of(inner, place) for inner in value]
            return Sequence(place=place, nodes=1 + sum(item.nodes for item in items), items=items)
        case bool():
            return Scalar(place=place, text=str(value).lower())
        case _:
            return Scalar(place=place, text=None if value is None else str(value))
