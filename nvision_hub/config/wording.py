"""What a model found wrong, in sentences for people: what is allowed, and what was probably meant.

No sentence echoes a value: any value may hold a secret, substituted or pasted into the wrong key.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nvision_hub.config.schema import Schema, resolved, schema_at
from nvision_hub.config.suggestion import did_you_mean, either, nearest
from nvision_hub.config.tree import Mapping, Node, Scalar

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

    from nvision_hub.config.problem import Loc, Problem


def worded(error: ValidationError, effective: Mapping, written: Mapping) -> Iterator[Problem]:
    """The problems of the models, placed in the file.

    `effective` is the tree that was validated, `written` the file's own: what a camera has from `defaults` or
    `nvision` is told there, once.
    """
    found: list[tuple[Loc, Any]] = [(details["loc"], details) for details in error.errors(include_url=False)]
    for loc, details in found:
        node, depth = _deepest(effective, loc)
        own, own_depth = _deepest(written, loc)
        if own_depth < depth or (isinstance(node, Scalar) and node.spoilt):
            continue
        if details["type"] in ("too_short", "too_long") and _has_worse_below(loc, found):
            continue  # pydantic counts only the items that are right
        key = loc[-1] if loc else ""
        parent = written.at(loc[:-1])
        if details["type"] == "extra_forbidden" and isinstance(parent, Mapping):
            own = parent.keys[str(key)]
        shown = loc if details["type"] == "missing" else loc[:depth]
        yield own.problem(_sentence(loc, details, node), shown)


def expected(schema: Schema) -> str:
    """What may stand where this schema holds: `must be a number above 0 and at most 60`."""
    match schema:
        case {"enum": choices}:
            return f"must be {either([f'`{choice}`' for choice in choices])}"
        case {"const": only}:
            return f"must be {only}"
        case {"type": "integer" | "number", "minimum": low, "maximum": high} if low == high:
            return f"must be {low}"
        case {"type": "integer" | "number" as kind}:
            return f"must be a {'whole ' if kind == 'integer' else ''}number{_range(schema)}"
        case {"type": "boolean"}:
            return "must be true or false"
        case {"type": "array", "prefixItems": items}:
            return f"must be a list of {len(items)} numbers, such as [0, 0.5]"
        case {"type": "array"}:
            return f"must be a list{_length(schema)}: lines that begin with `- `, or [a, b]"
        case {"type": "object"}:
            return "must be a section: `key: value` lines, indented"
        case {"type": "string", "minLength": low, "maxLength": high}:
            return f"must be a text of {low} to {high} characters"
        case _:
            return "must be a text"


def _deepest(tree: Node, loc: Loc) -> tuple[Node, int]:
    """The node at `loc`, or the last one on the way there, and how far the way led."""
    node = tree
    for depth, part in enumerate(loc):
        child = node.child(part)
        if child is None:
            return node, depth
        node = child
    return node, len(loc)


def _has_worse_below(loc: Loc, found: list[tuple[Loc, Any]]) -> bool:
    return any(len(other) > len(loc) and other[: len(loc)] == loc for other, _ in found)


def _sentence(loc: Loc, details: Any, node: Node) -> str:
    schema = schema_at(loc)
    match details["type"]:
        case "extra_forbidden":
            return _unknown(str(loc[-1]), schema_at(loc[:-1]))
        case "missing" | "too_short" if loc == ("cameras",):
            return "has no cameras, so there is nothing to run; add one, such as `- {id: lobby, url: demo://street}`"
        case "missing":
            return f"is missing{_instance(str(loc[-1]), schema)}"
        case "value_error":
            return str(details["ctx"]["error"])
        case "literal_error" if isinstance(node, Scalar) and node.text and "enum" in schema:
            return f"{expected(schema)}{did_you_mean(node.text, schema['enum'])}"
        case _ if isinstance(node, Scalar) and node.text is None:
            return f"has no value; it {expected(schema)}"
        case _:
            return expected(schema)


def _unknown(key: str, parent: Schema) -> str:
    known: dict[str, Schema] = parent.get("properties", {})
    name, colon, _ = key.partition(":")
    if colon and name in known:
        return f"unknown key; a space is missing after `{name}:`"
    near = nearest(key, known)
    if near is not None:
        return f"unknown key; did you mean `{near}`?"
    for section, schema in known.items():
        if key in resolved(schema).get("properties", {}):
            return f"unknown key here; it belongs under `{section}:`"
    return f"unknown key; known here are {', '.join(known)}"


def _instance(key: str, schema: Schema) -> str:
    examples = schema.get("examples")
    return f"; add it, for instance `{key}: {examples[0]}`" if examples else ""


def _range(schema: Schema) -> str:
    match schema:
        case {"minimum": low, "maximum": high}:
            return f" from {low:g} to {high:g}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f" above {low:g} and at most {high:g}"
        case _:
            return ""


def _length(schema: Schema) -> str:
    match schema:
        case {"minItems": low, "maxItems": high}:
            return f" of {low} to {high}"
        case {"minItems": low}:
            return f" of at least {low}"
        case _:
            return ""
