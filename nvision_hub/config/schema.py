"""The JSON Schema of cameras.yaml: for editors, and for the sentences of `wording.py`."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from nvision_hub.config.labels import Labels
from nvision_hub.config.models import Config, Section
from nvision_hub.config.written import Written

if TYPE_CHECKING:
    from nvision_hub.config.problem import Loc

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_TOLD: Final = ("description", "default", "examples")  # for people; the rest of a schema is the rule
_REFERENCE: Final = r"\$\{"


def json_schema() -> Schema:
    """Schema (2020-12) of the file as people write it.

    More than the values need: `${...}` may stand for any of them, a section or list may be left empty, and a text
    may look like a number.
    """
    exact = exact_schema()
    sections = {name: _widened(section) for name, section in exact["$defs"].items()}
    return {"$schema": DIALECT, "title": "cameras.yaml of nvision-hub", **_widened(exact), "$defs": sections}


def schema_text() -> str:
    """The schema as `cameras.schema.json` holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


@functools.cache
def exact_schema() -> Schema:
    """Schema of the values once variables are replaced. Not to be changed by who gets it."""
    return Config.model_json_schema(schema_generator=_Generator)


def schema_at(loc: Loc) -> Schema:
    """The part of the exact schema for one key, without references and without null; empty where it knows none."""
    schema = resolved(exact_schema())
    for part in loc:
        if isinstance(part, int):
            inner = schema.get("prefixItems", [])
            schema = inner[part] if part < len(inner) else schema.get("items", {})
        else:
            schema = schema.get("properties", {}).get(part) or schema.get("additionalProperties") or {}
        schema = resolved(schema)
    return schema


def resolved(schema: Schema) -> Schema:
    """The same without reference and without the choice of null."""
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    if choices:
        return resolved({**schema, "anyOf": [], **choices[0]})
    if "$ref" in schema:
        target = exact_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


class _Generator(GenerateJsonSchema):
    """Pydantic's, but a section left out is told as left out, not as all its defaults at length."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, Written):
            return dft.shown
        return {} if isinstance(dft, Section | Labels) else super().encode_default(dft)


def _widened(schema: Schema) -> Schema:
    """The schema of what people write where `schema` holds for the value that is meant.

    Keywords apply to their own type only (`minimum` to numbers, `pattern` to texts), so that most of it is a matter
    of allowing one more type; editors then still say what exactly is wrong.
    """
    told = {key: value for key, value in schema.items() if key in _TOLD}
    rule = {key: _inside(key, value) for key, value in schema.items() if key not in (*_TOLD, "title")}
    match rule:
        case {"type": "object" | "array" as kind}:
            rule["type"] = [kind, "null"]
        case {"type": "number" | "integer" | "boolean" as kind}:
            rule |= {"type": [kind, "string"], "pattern": _REFERENCE}
        case {"type": "string", "pattern": pattern}:
            rule["pattern"] = f"{pattern}|{_REFERENCE}"
        case {"type": "string", "enum": _}:
            rule = {"anyOf": [rule, {"type": "string", "pattern": _REFERENCE}]}
        case {"type": "string"}:
            rule["type"] = ["string", "number", "boolean"]
    return told | rule


def _inside(key: str, value: Any) -> Any:
    match key:
        case "properties":
            return {name: _widened(part) for name, part in value.items()}
        case "items" | "additionalProperties" if isinstance(value, dict):
            return _widened(value)
        case "prefixItems" | "anyOf":
            return [_widened(part) for part in value]
        case _:
            return value
