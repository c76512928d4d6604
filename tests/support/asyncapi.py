"""docs/asyncapi.yaml as a judge: whether something that the hub has told is what the document says, and no more."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import Any, Final

import jsonschema
from referencing import Registry
from referencing.jsonschema import DRAFT7
from ruamel.yaml import YAML

from tests.support import needs, npm

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
_PARSER: Final = Path(__file__).parents[1] / "asyncapi"
_PARSE_S: Final = 120
_WARNING: Final = 1  # of the parser's severities: 0 is an error, 2 and 3 are remarks


@functools.cache
def document() -> dict[str, Any]:
    """The document."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(DOCUMENT)
    return content


def diagnostics() -> list[dict[str, Any]]:
    """What the reference parser of AsyncAPI finds wrong with it."""
    node = needs.program("node", "nodejs npm")
    npm.install(_PARSER)
    ran = subprocess.run(
        [node, _PARSER / "validate.cjs"],
        input=DOCUMENT.read_text(encoding="utf-8"),
        capture_output=True,
        text=True,
        timeout=_PARSE_S,
        check=True,
    )
    return [told for told in json.loads(ran.stdout) if told["severity"] <= _WARNING]


def check(schema: str, instance: Any) -> None:
    """Fail where `instance` is not what the schema of that name says, or has a key that the document passes over."""
    validator = _validator(schema)
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]
    assert not problems, f"{problems} in {instance}"


@functools.cache
def _validator(schema: str) -> jsonschema.Draft7Validator:
    # AsyncAPI's own schemas are those of draft 7, with a few keywords more.
    schemas = {name: _closed(body) for name, body in document()["components"]["schemas"].items()}
    whole = DRAFT7.create_resource({"components": {"schemas": schemas}})
    return jsonschema.Draft7Validator(
        {"$ref": f"urn:document#/components/schemas/{schema}"},
        registry=Registry().with_resource("urn:document", whole),
        format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER,
    )


def _closed(schema: Any) -> Any:
    """The same, allowing no keys that it does not name: readers pass them over, the document must not."""
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _closed(part) for key, part in schema.items()}
    return {"additionalProperties": False, **inner} if "properties" in schema and "type" in schema else inner
