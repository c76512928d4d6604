"""Diagnostics for values that the models reject: the allowed values, and the word that the user probably meant.

No message contains a value, because any value may be a secret: it may come from a variable or be pasted into a wrong
key.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.field_types import HOST_PATTERN, ID_PATTERN, PREFIX_PATTERN, TOPIC_PATTERN
from nvision_hub.config.gateway_section import HEADER_PATTERN
from nvision_hub.config.schedule_section import DAYS_PATTERN, END_PATTERN, TIME_PATTERN
from nvision_hub.config.schema import Schema, resolved, schema_at
from nvision_hub.errors import Diagnostic, InvalidValueError, KeyPath, did_you_mean, either, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import ValidationError

    from nvision_hub.config.yaml_nodes import YamlNode

    Message = tuple[str, str, str | None]  # code, what is wrong, and how to fix it

_ID: Final = f"^{ID_PATTERN}$"
_PATTERNS: Final = {  # pattern of a string -> the pattern's meaning in words
    _ID: ("must be 1 to 63 lower-case letters, digits, - and _, and not begin with - or _, such as lobby-2"),
    PREFIX_PATTERN: "must be 1 to 64 letters, digits, _ . : and -, beginning with a letter or digit; "
    'or the same with a hash tag of up to 31 characters in braces, such as "{nvision}"',
    HOST_PATTERN: "must be a host name in lower-case letters, digits, - and ., such as hub.example.com",
    HEADER_PATTERN: "must be the name of an HTTP header, such as X-Forwarded-User",
    DAYS_PATTERN: "must be a day, or a range of days: mon, tue, wed, thu, fri, sat, sun, or such as mon-fri",
    TIME_PATTERN: 'must be a time from "00:00" to "23:59", such as "06:00"',
    END_PATTERN: 'must be a time from "00:00" to "24:00", such as "06:00"',
    TOPIC_PATTERN: "must be letters, digits, _ and -, with / between the levels, such as home/nvision",
}
_RENAMED: Final[dict[KeyPath, str]] = {("motion", "calm_after"): "cooldown"}  # (section, old key) -> new key


def describe_errors(error: ValidationError, effective: YamlNode, written: YamlNode) -> Iterator[Diagnostic]:
    """Yield a diagnostic for each value that the models reject, with its location in the file.

    `effective` is the validated tree, and `written` is the tree of the file. Cameras inherit values from `defaults` and
    `nvision`. The function reports a problem with an inherited value once, at its location in `defaults` or `nvision`.
    """
    found: list[Any] = error.errors(include_url=False)
    for details in found:
        path: KeyPath = details["loc"]
        node, depth = _deepest(effective, path)
        own, own_depth = _deepest(written, path)
        if own_depth < depth or node.is_invalid:
            continue
        if details["type"] in ("too_short", "too_long") and any(
            len(other["loc"]) > len(path) and other["loc"][: len(path)] == path for other in found
        ):
            continue  # this error only follows from others: pydantic counts only the valid items
        parent = written.at(path[:-1])
        if details["type"] == "extra_forbidden" and parent is not None:
            own = parent.keys.get(str(path[-1]), own)  # a camera added at run time has no location
        code, message, fix = _message(path, details, node)
        yield own.diagnostic(code, message, path if details["type"] == "missing" else path[:depth], fix=fix)


def expected(schema: Schema) -> str:
    """Return a phrase that describes the allowed values, such as `must be a number above 0 and at most 60`."""
    match schema:
        case {"enum": choices}:
            return f"must be {either([f'`{choice}`' for choice in choices])}"
        case {"const": only}:
            return f"must be {only}"
        case {"minimum": low, "maximum": high} if low == high:
            return f"must be {low}"
        case {"type": "integer" | "number" as kind}:
            number = "must be a whole number" if kind == "integer" else "must be a number"
            return number + _range(schema)
        case {"type": "boolean"}:
            return "must be true or false"
        case {"type": "array", "prefixItems": items}:
            return f"must be a list of {len(items)} numbers, such as [0, 0.5]"
        case {"type": "array"}:
            return f"must be a list{_range(schema)}: lines that begin with `- `, or [a, b]"
        case {"type": "object"}:
            return "must be a section of indented `key: value` lines"
        case {"type": "string", "minLength": low, "maxLength": high}:
            return f"must be text of {low} to {high} characters"
        case _:
            return "must be text"


def _range(schema: Schema) -> str:
    match schema:
        case {"minimum": low, "maximum": high}:
            return f" from {low:.15g} to {high:.15g}"
        case {"exclusiveMinimum": low, "maximum": high}:
            return f" above {low:.15g} and at most {high:.15g}"
        case {"minItems": low, "maxItems": high}:
            return f" of {low} to {high} items"
        case {"minItems": low}:
            return f" of {low} or more items"
        case _:
            return ""


def _deepest(tree: YamlNode, path: KeyPath) -> tuple[YamlNode, int]:
    """Return the deepest existing node on `path`, and the length of the path to this node."""
    node = tree
    for depth, part in enumerate(path):
        child = node.child(part)
        if child is None:
            return node, depth
        node = child
    return node, len(path)


def _message(path: KeyPath, details: Any, node: YamlNode) -> Message:
    schema = schema_at(path)
    match details["type"]:
        case "extra_forbidden":
            return _unknown_key(path)
        case "missing":
            examples = schema.get("examples")
            fix = f"add it, such as `{path[-1]}: {examples[0]}`" if examples else None
            return "missing_key", "is missing", fix
        case "value_error":
            error = details["ctx"]["error"]
            if isinstance(error, InvalidValueError):
                return "invalid_value", error.message, error.fix
            return "invalid_value", str(error), None
        case "string_pattern_mismatch":
            pattern = details["ctx"]["pattern"]
            return "invalid_value", _PATTERNS[pattern], _id_like(node) if pattern == _ID else None
        case "literal_error" if node.text and "enum" in schema:
            return "invalid_value", f"{expected(schema)}{did_you_mean(node.text, schema['enum'])}", None
        case _ if node.value is None:
            return "invalid_value", f"has no value; it {expected(schema)}", None
        case _:
            return "invalid_value", expected(schema), None


def _id_like(node: YamlNode) -> str | None:
    """Return a suggestion: the valid id that is most similar to the given id.

    Returns None if the given id has no usable character or may contain a secret.
    """
    text = "" if node.is_substituted else node.text or ""
    found = re.sub("[^a-z0-9_-]+", "-", text.lower()).strip("-_")[:63]
    return f"did you mean `{found}`?" if found else None


def _unknown_key(path: KeyPath) -> Message:
    key, new = str(path[-1]), _RENAMED.get(path[-2:])
    known: dict[str, Schema] = schema_at(path[:-1]).get("properties", {})
    if new is not None:
        return "renamed_key", f"was renamed to `{new}`", f"write `{new}:` instead"
    name, colon, _ = key.partition(":")
    if colon and name in known:
        return "unknown_key", "unknown key", f"a space is missing after `{name}:`"
    near = nearest(key, known)
    if near is not None:
        return "unknown_key", "unknown key", f"did you mean `{near}`?"
    for other, schema in known.items():
        if key in resolved(schema).get("properties", {}):
            return "unknown_key", "unknown key here", f"it belongs under `{other}:`"
    return "unknown_key", "unknown key", f"known here are {', '.join(known)}"
