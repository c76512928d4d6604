"""The JSON Schema of cameras.yaml: for editors, and for the sentences of `wording.py`."""

from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.models import Config

if TYPE_CHECKING:
    from nvision_hub.config.problem import Loc

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_REFERENCE: Final = {"type": "string", "pattern": r"\$\{"}


def json_schema() -> Schema:
    """Schema (2020-12) of the file as people write it: `${...}` may stand for any value, sections may be empty."""
    schema = _widened(exact_schema())
    schema["properties"]["version"]["description"] += " Always 1."
    return {"$schema": DIALECT, "title": "cameras.yaml of nvision-hub", **schema}


def schema_text() -> str:
    """The schema as `cameras.schema.json` holds it."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


@functools.cache
def exact_schema() -> Schema:
    """Schema of the values once variables are replaced. Not to be changed by who gets it."""
    return Config.model_json_schema()


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


def _widened(schema: Any) -> Any:
    """Every scalar may also be a `${...}` text, every list and section may be left empty."""
    if isinstance(schema, list):
        return [_widened(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {
        key: {name: _widened(part) for name, part in value.items()}
        if key in ("properties", "$defs")
        else _widened(value)
        for key, value in schema.items()
        if key not in ("default", "title")
    }
    return {**inner, **({"default": schema["default"]} if "default" in schema else {})}
