"""The JSON Schema for editors accepts and rejects the same files as the loader."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from ruamel.yaml import YAML

from nvision_hub.config.load import load
from nvision_hub.config.schema import json_schema, schema_text, template
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jsonschema import Draft202012Validator

ROOT = Path(__file__).parents[2]
CAMERA = "cameras: [{id: a, url: demo://street}]\n"


@functools.cache
def _validator() -> Draft202012Validator:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - this import takes a second of CPU time

    return Draft202012Validator(json_schema())


def _errors(text: str) -> list[str]:
    return [error.message for error in _validator().iter_errors(YAML(typ="safe", pure=True).load(text))]


def test_the_committed_schema_is_the_current_one() -> None:
    _validator().check_schema(json_schema())
    assert (ROOT / "cameras.schema.json").read_text() == schema_text(), "run `nvision-hub schema > cameras.schema.json`"


def test_the_schema_accepts_the_files_of_the_repository() -> None:
    assert _errors(template()) == []
    assert _errors((ROOT / "cameras.yaml").read_text()) == []


@pytest.mark.parametrize(
    "text",
    [
        CAMERA,
        "cameras: [{id: '${ID}', url: '${URL}', fps: '${FPS}', jpeg_quality: '${Q:-8}5', when: '${WHEN}'}]",
        "cameras: [{id: a, url: 'usb:0', max_width: '${W}', masks: [[['${X}', 0], [1, 0], [1, 1]]]}]",
        CAMERA + "defaults: {max_width: null, username: 1234, labels: {floor: 1}}\n",
        "include: cameras.d/*.yaml",
        CAMERA + "include: [cameras.d/*.yaml, more.yaml]\n",
        "include: a.yaml\ncameras: []\n",
        CAMERA + "defaults:\nwebhooks:\nredis:\nnvision:\n",
        CAMERA + "nvision: {url: '${U}', service: '${S}', output_cropped_image: '${C}', streaming_key: '${K:-}'}\n",
        CAMERA + "gateway: {listen: '${LISTEN}'}\nversion: ${V:-1}\n",
        CAMERA
        + "webhooks: [{id: w, url: 'https://x', secret: '${S}'}, {id: v, url: 'http://x', secret: ['${S}', a]}]\n",
    ],
)
def test_the_schema_accepts_what_the_loader_accepts(text: str) -> None:
    assert _errors(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        "cameras: []",
        "cameras: [{id: a}]",
        "cameras: [{id: A B, url: demo://street}]",
        "cameras: [{id: a, url: rtps://10.0.0.5}]",
        "cameras: [{id: a, url: demo://street, fsp: 5}]",
        CAMERA + "defaults: {fps: 0}",
        CAMERA + "defaults: {fps: 1000}",
        CAMERA + "defaults: {fps: fast}",
        CAMERA + "defaults: {jpeg_quality: 1.5}",
        CAMERA + "defaults: {when: never}",
        CAMERA + "defaults: {masks: [[[0, 0], [1, 2]]]}",
        CAMERA + "redis: {url: http://x}",
        CAMERA + "version: 2",
        CAMERA + "include: /etc/cameras.yaml",
        CAMERA + "include: ../*.yaml",
        CAMERA + "include: cameras.d/",
        CAMERA + "include: [1, {}]",
    ],
)
def test_the_schema_rejects_what_the_loader_rejects(tmp_path: Path, text: str) -> None:
    assert _errors(text)
    path = tmp_path / "cameras.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError):
        load(path, environ={})


def test_every_key_has_a_description() -> None:
    def without_description(schema: dict[str, Any], path: str) -> Iterator[str]:
        for name, part in schema.get("properties", {}).items():
            if not part.get("description"):
                yield f"{path}.{name}"

    schema = json_schema()
    missing = [*without_description(schema, "")]
    for name, section in schema["$defs"].items():
        missing += without_description(section, name)
    # These keys only refer to their section, whose description is sufficient.
    assert [
        key for key in missing if key.rpartition(".")[2] not in ("nvision", "redis", "gateway", "motion", "defaults")
    ] == []
