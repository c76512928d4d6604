"""Checks of the hub's messages against docs/asyncapi.yaml, and of that file with the AsyncAPI reference parser."""

from __future__ import annotations

import functools
import json
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from referencing import Registry
from referencing.jsonschema import DRAFT7
from ruamel.yaml import YAML

from tests.support import needs, npm

if TYPE_CHECKING:
    import jsonschema

DOCUMENT: Final = Path(__file__).parents[2] / "docs" / "asyncapi.yaml"
_PARSER: Final = Path(__file__).parents[1] / "asyncapi"
_PARSE_S: Final = 120
_WARNING: Final = 1  # severities of the parser: 0 is an error, 1 a warning, 2 and 3 are notes


@functools.cache
def document() -> dict[str, Any]:
    """Return the content of docs/asyncapi.yaml."""
    content: dict[str, Any] = YAML(typ="safe", pure=True).load(DOCUMENT)
    return content


def diagnostics() -> list[dict[str, Any]]:
    """Return the errors and warnings of the AsyncAPI reference parser."""
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
    return [item for item in json.loads(ran.stdout) if item["severity"] <= _WARNING]


def check(schema: str, instance: Any) -> None:
    """Fail if `instance` violates the schema named `schema` or has a key that the document does not describe."""
    validator = _validator(schema)
    problems = [f"{error.json_path}: {error.message}" for error in validator.iter_errors(instance)]
    assert not problems, f"{problems} in {instance}"


@functools.cache
def _validator(schema: str) -> jsonschema.Draft7Validator:
    import jsonschema  # noqa: PLC0415 - its import takes a second of CPU time, and most test processes do not need it

    # AsyncAPI schemas are JSON Schema draft 7 with a few additional keywords.
    schemas = {name: _closed(body) for name, body in document()["components"]["schemas"].items()}
    whole = DRAFT7.create_resource({"components": {"schemas": schemas}})
    return jsonschema.Draft7Validator(
        {"$ref": f"urn:document#/components/schemas/{schema}"},
        registry=Registry().with_resource("urn:document", whole),
        format_checker=jsonschema.Draft7Validator.FORMAT_CHECKER,
    )


def _closed(schema: Any) -> Any:
    """Return a variant of the schema that forbids additional keys.

    Consumers ignore unknown keys, but the document must describe every key.
    """
    if isinstance(schema, list):
        return [_closed(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    inner = {key: _closed(part) for key, part in schema.items()}
    return {"additionalProperties": False, **inner} if "properties" in schema and "type" in schema else inner
