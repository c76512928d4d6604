"""Secrets never appear in printed, formatted or serialized values, nor in errors."""

from __future__ import annotations

import copy
import json
import pickle
import traceback
from typing import TYPE_CHECKING

import pytest
from pydantic import TypeAdapter

from nvision_hub.config.load import load
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Config

CANARY = "canary7f3a"
RANDOM = "5f0c8e2b7d94413aa6b1de3870c952f4"
ENCODED_CANARY = "Y2FuYXJ5N2YzY"  # the canary in base64, as in webhook secrets

EVERY_SECRET = f"""\
nvision: {{url: wss://nvision.example/api, streaming_key: {CANARY}}}
redis: {{url: "redis://user:{CANARY}@10.0.0.2/0"}}
mqtt: {{url: "mqtt://user:{CANARY}@broker.example"}}
gateway: {{listen: 0.0.0.0:8080, insecure: true, token: {CANARY}{RANDOM}, callback_token: "{CANARY}"}}
cameras:
  - {{id: a, url: "rtsp://viewer:{CANARY}@10.0.0.5/s"}}
  - {{id: b, url: "http://10.0.0.5/s?pwd={CANARY}", username: viewer, password: "${{CAMERA_PASSWORD}}"}}
webhooks:
  - id: w
    url: https://user:{CANARY}@hooks.example/{CANARY}?t={CANARY}
    secret: [whsec_Y2FuYXJ5N2YzYWNhbmFyeTdmM2FjYW5hcnk3ZjNh, whsec_Y2FuYXJ5N2YzYWNhbmFyeTdmM2FjYW5hcnk3ZjNi]
"""


def test_only_reveal_returns_the_text() -> None:
    secret = Secret(CANARY)
    assert secret.reveal() == CANARY
    assert str(secret) == repr(secret) == f"{secret}" == "***"
    assert f"{secret:>5}" == "  ***"
    assert f"{[secret]!r}" == "[***]"
    with pytest.raises(TypeError):
        json.dumps(secret)


def test_secrets_compare_by_their_text() -> None:
    assert Secret("a") == Secret("a")
    assert hash(Secret("a")) == hash(Secret("a"))
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    assert Secret("\udce9é") == Secret("\udce9é")
    assert not Secret("")
    assert copy.deepcopy(Secret("a")) == pickle.loads(pickle.dumps(Secret("a"))) == Secret("a")  # noqa: S301 - our own


def test_the_json_schema_of_a_secret_is_a_string() -> None:
    assert TypeAdapter(Secret).json_schema()["type"] == "string"


def test_a_configuration_shows_no_secret(tmp_path: Path) -> None:
    config = _load(tmp_path, EVERY_SECRET)
    shown = [
        str(config),
        repr(config),
        f"{config}",
        config.model_dump_json(),
        repr(config.model_dump()),
        *(json.dumps(camera.shown()) for camera in config.cameras),
        *(f"{camera.address} {camera.address!r} {camera.address.shown}" for camera in config.cameras),
        f"{config.redis.url} {config.webhooks[0].url.shown}",
    ]
    for text in shown:
        assert CANARY not in text
        assert ENCODED_CANARY not in text
    assert config.nvision.streaming_key == Secret(CANARY)
    assert config.cameras[1].address.dial() == f"http://viewer:{CANARY}@10.0.0.5/s?pwd={CANARY}"
    assert pickle.loads(pickle.dumps(config)) == config  # noqa: S301 - our own
    assert hash(config) == hash(_load(tmp_path, EVERY_SECRET))


@pytest.mark.parametrize(
    "text",
    [
        EVERY_SECRET.replace("{id: a", "{id: A A, fsp: 1"),
        EVERY_SECRET.replace("rtsp://", "rtps://"),
        EVERY_SECRET.replace("streaming_key: ", "url: "),
        EVERY_SECRET.replace("streaming_key: ", "streaming_key:"),
        EVERY_SECRET.replace("streaming_key: ", "confidence_threshold: "),
        EVERY_SECRET.replace("streaming_key: ", "service: "),
        EVERY_SECRET.replace("@10.0.0.5", "@300.0.0.5"),
        EVERY_SECRET.replace("hooks.example", ""),
        EVERY_SECRET.replace("whsec_", CANARY),
        EVERY_SECRET.replace("id: b", f"id: a, fps: {CANARY}, url: {CANARY}:x, password:{CANARY}, name: [{CANARY}]"),
        EVERY_SECRET.replace("listen: 0.0.0.0:8080", f"listen: {CANARY}"),
        EVERY_SECRET.replace("}\n", f"\nsite: {CANARY}: {CANARY}\n", 1),
        EVERY_SECRET.replace("redis: ", f"redis: !!python/object:{CANARY} "),
        EVERY_SECRET.replace(f"token: {CANARY}", f"token: '{CANARY}", 1),
        EVERY_SECRET.replace(f"token: {CANARY}", f"token: *{CANARY}", 1),
        EVERY_SECRET.replace(f"token: {CANARY}", f"token: %{CANARY}", 1),
        EVERY_SECRET.replace(f"token: {CANARY}", f"token: '{CANARY}' {CANARY}", 1),
        EVERY_SECRET.replace(f"token: {CANARY}", f'token: "{CANARY}\\q"', 1),
        EVERY_SECRET.replace(f"token: {CANARY}", f"token: {CANARY}\x07", 1),
    ],
)
def test_no_mistake_puts_a_secret_into_the_error_or_its_traceback(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    _assert_hidden(caught.value)


def test_a_file_in_another_encoding_puts_no_secret_into_the_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"cameras\.yaml:1:\d+: is not UTF-8") as caught:
        _load(tmp_path, EVERY_SECRET.replace(CANARY, f"{CANARY}é"), encoding="latin-1")
    _assert_hidden(caught.value)


def test_a_secret_in_the_wrong_place_does_not_appear_in_the_error(tmp_path: Path) -> None:
    (tmp_path / "key").write_text(f"{CANARY}\n")
    text = """\
cameras:
  - id: A${file:key}
    url: ${CAMERA_PASSWORD}://x
    fps: ${CAMERA_PASSWORD}
    when: ${file:key}
"""
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text)
    assert len(caught.value.diagnostics) == 4
    _assert_hidden(caught.value)


def _assert_hidden(error: ConfigError) -> None:
    text = "".join(traceback.format_exception(error)) + repr(error) + repr(error.diagnostics)
    assert "cameras.yaml" in text
    assert CANARY not in text
    assert ENCODED_CANARY not in text


def _load(folder: Path, text: str, encoding: str = "utf-8") -> Config:
    path = folder / "cameras.yaml"
    path.write_bytes(text.encode(encoding))
    return load(path, environ={"CAMERA_PASSWORD": CANARY})
