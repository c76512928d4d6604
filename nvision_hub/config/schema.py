"""JSON Schema of cameras.yaml, and the template that `nvision-hub init` writes."""

from __future__ import annotations

import functools
import json
from importlib.resources import files
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import GenerateJsonSchema

from nvision_hub.config.field_types import Section
from nvision_hub.config.models import Config
from nvision_hub.config.value_types import ConfigString, Labels

if TYPE_CHECKING:
    from nvision_hub.errors import KeyPath

Schema = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"
_ANNOTATIONS: Final = ("description", "default", "examples")  # all other keywords restrict the values
_REFERENCE: Final = r"\$\{"


def json_schema() -> Schema:
    """Return the schema (draft 2020-12) of cameras.yaml as users write it.

    In the file, `${...}` may replace any value, a section or list may be empty, and a number may be a quoted string.
    """
    exact = exact_schema()
    sections = {name: _widened(section) for name, section in exact["$defs"].items()}
    cameras = {"required": ["cameras"], "properties": {"cameras": {"minItems": 1}}}
    return {
        "$schema": DIALECT,
        "title": "cameras.yaml of nvision-hub",
        **_widened(exact),
        "anyOf": [cameras, {"required": ["include"]}],
        "$defs": sections,
    }


def template() -> str:
    """Return a cameras.yaml that works unchanged and shows the main settings."""
    return files("nvision_hub.config").joinpath("template.yaml").read_text(encoding="utf-8")


def schema_text() -> str:
    """Return the content of `cameras.schema.json`."""
    return json.dumps(json_schema(), indent=2, ensure_ascii=False) + "\n"


@functools.cache
def exact_schema() -> Schema:
    """Return the schema of the values after variables are replaced. Do not modify the result, because it is cached."""
    return Config.model_json_schema(schema_generator=_Generator)


def schema_at(path: KeyPath) -> Schema:
    """Return the exact schema of one key, with references resolved and null removed. It is empty for an unknown key."""
    schema = resolved(exact_schema())
    for part in path:
        if isinstance(part, int):
            inner = schema.get("prefixItems", [])
            schema = inner[part] if part < len(inner) else schema.get("items", {})
        else:
            # Schema of the entries that users name.
            named = next(iter(schema.get("patternProperties", {}).values()), None)
            schema = schema.get("properties", {}).get(part) or named or schema.get("additionalProperties") or {}
        schema = resolved(schema)
    return schema


def resolved(schema: Schema) -> Schema:
    """Return the schema with its reference resolved and null removed from its choices."""
    choices = [choice for choice in schema.get("anyOf", []) if choice.get("type") != "null"]
    if choices:
        return resolved({**schema, "anyOf": [], **choices[0]})
    if "$ref" in schema:
        target = exact_schema()["$defs"][schema["$ref"].rpartition("/")[2]]
        return {**target, **{key: value for key, value in schema.items() if key != "$ref"}}
    return schema


class _Generator(GenerateJsonSchema):
    """Generator that shows `{}` as the default of a section instead of the defaults of all keys in the section."""

    def encode_default(self, dft: Any) -> Any:
        if isinstance(dft, ConfigString):
            return dft.shown
        return {} if isinstance(dft, Section | Labels) else super().encode_default(dft)


def _widened(schema: Schema) -> Schema:
    """Return `schema` extended to all values that users may write in the file.

    Each keyword applies to values of one type only. For example, `minimum` applies only to numbers. In most cases, it
    is therefore sufficient to allow one more type. Editors still report the exact problem.
    """
    annotations = {key: value for key, value in schema.items() if key in _ANNOTATIONS}
    rule = {key: _inside(key, value) for key, value in schema.items() if key not in (*_ANNOTATIONS, "title")}
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
    return annotations | rule


def _inside(key: str, value: Any) -> Any:
    match key:
        case "properties" | "patternProperties":
            return {name: _widened(part) for name, part in value.items()}
        case "items" | "additionalProperties" if isinstance(value, dict):
            return _widened(value)
        case "prefixItems" | "anyOf":
            return [_widened(part) for part in value]
        case _:
            return value
