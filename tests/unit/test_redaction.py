"""Known secret values are hidden in every form in which a client or Python writes them."""

from __future__ import annotations

import base64
import json
import string
import time
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub import redaction
from nvision_hub.config.models import Config
from nvision_hub.config.secret_values import secret_values
from nvision_hub.config.value_types import Secret
from nvision_hub.config.yaml_nodes import tree_of
from nvision_hub.redaction import MAX_VALUES, MIN_CHARACTERS, ORDINARY_WORDS, KnownSecrets, redact, secret_parameters

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

    from pydantic import BaseModel

LETTERS = string.ascii_letters + string.digits
SECRETS = st.text(LETTERS + string.punctuation + " éß漢\n\udce9", min_size=8, max_size=40).filter(
    lambda text: any(character in LETTERS for character in text) and text.lower() not in ORDINARY_WORDS
)


def scrubbed(text: str, *values: str) -> str:
    known = KnownSecrets()
    known.add(values)
    return known.scrub(text)


def secrets_in(data: dict[str, Any]) -> set[str]:
    return secret_values(tree_of(data))


@given(SECRETS)
def test_a_secret_is_hidden_in_every_form(secret: str) -> None:
    escaped = [escape(secret, errors="surrogateescape") for escape in (partial(quote, safe=""), quote_plus)]
    for form in (secret, *escaped, repr(secret)[1:-1], json.dumps(secret)[1:-1]):
        assert scrubbed(f"cannot open x{form}y", secret) == "cannot open x***y"


@given(st.lists(SECRETS, min_size=1, max_size=5), st.text())
def test_no_secret_is_left_among_several(secrets: list[str], around: str) -> None:
    text = around.join(secrets)
    assert not any(secret in scrubbed(text, *secrets) for secret in secrets)


def test_of_two_secrets_the_longer_one_is_hidden_completely() -> None:
    assert scrubbed("open hunter22-and-more", "hunter22", "hunter22-and-more") == "open ***"


@pytest.mark.parametrize("value", ["", "12345", "admin", "*" * 8, *sorted(ORDINARY_WORDS)])
def test_short_and_ordinary_values_are_not_hidden(value: str) -> None:
    assert scrubbed(f"camera {value} streams", value) == f"camera {value} streams"


def test_a_value_of_few_characters_is_hidden_only_as_a_whole_word() -> None:
    assert len("lobby1") == MIN_CHARACTERS
    assert scrubbed("lobby1: camera:lobby10 sent 'lobby1'", "lobby1") == "***: camera:lobby10 sent '***'"


def test_text_without_secrets_is_returned_unchanged() -> None:
    text = "camera unreachable"
    assert scrubbed(text) is text


def test_the_oldest_values_are_forgotten_beyond_the_limit() -> None:
    known = KnownSecrets()
    known.add(["first-secret", "kept-secret"])
    known.add(f"secret-{number}" for number in range(MAX_VALUES - 2))
    known.add(["kept-secret", "one-more-secret"])
    assert known.scrub("first-secret kept-secret one-more-secret") == "first-secret *** ***"


def test_thousands_of_secrets_cost_little() -> None:
    known = KnownSecrets()
    known.add(f"{number:x}-secret-of-a-camera" for number in range(3000))
    known.scrub("")
    began = time.process_time()
    for _ in range(100):
        known.scrub("camera unreachable: connection refused by rtsp://10.0.0.5:554/stream1; retrying in 4 s")
    assert time.process_time() - began < 1.0


@pytest.mark.parametrize(
    "name", ["password", "passwd", "pwd", "token", "api_key", "streaming_key", "secret", "x-auth-key", "sessid"]
)
def test_secret_parameters_of_an_address_are_hidden(name: str) -> None:
    assert redact(f"GET http://h/x?user=a&{name}=hunter2&n=1 fails") == f"GET http://h/x?user=a&{name}=***&n=1 fails"
    assert secret_parameters(f"rtsp://h/user=a&{name}=hunter2&channel=1") == ["hunter2"]


def test_parameters_without_secrets_are_shown() -> None:
    text = "rtsp://h/x?channel=1&subtype=2; lobby fps=2; sort key=name"
    assert redact(text) == text


def _secret_fields(section: type[BaseModel]) -> Iterator[str]:
    for name, field in section.model_fields.items():
        if Secret.__name__ in str(field.annotation):
            yield name
        for kind in (found for found in _classes(field.annotation) if hasattr(found, "model_fields")):
            yield from _secret_fields(kind)


def _classes(annotation: Any) -> Iterator[Any]:
    yield annotation
    for inner in getattr(annotation, "__args__", ()):
        yield from _classes(inner)


def test_every_secret_key_of_the_models_counts_as_a_secret() -> None:
    names = set(_secret_fields(Config))
    assert names == {"password", "sentinel_password", "streaming_key", "token", "callback_token", "fleet_key", "secret"}
    for name in names:
        assert "S3cret-value" in secrets_in({"section": {name: "S3cret-value"}}), name


@pytest.mark.parametrize(
    ("url", "secret"),
    [
        ("rtsp://viewer:Hunter22@10.0.0.5/stream1", "Hunter22"),
        ("rtsp://viewer:Hunt%40er22@10.0.0.5/stream1", "Hunt@er22"),
        ("rtsp://viewer:Hunt@er22/x@host/@other", "Hunt@er22/x@host/"),
        ("rstp://viewer:Hunter22@10.0.0.5/stream1", "Hunter22"),
        ("http://10.0.0.5/x.mjpg?user=a&password=Hunter22", "Hunter22"),
        ("rtsp://10.0.0.5/user=a&password=Hunt%40er22&channel=1", "Hunt@er22"),
        ("redis://:Hunter22@10.0.0.5", "Hunter22"),
        ("unix://:Hunter22@/run/redis.sock", "Hunter22"),
    ],
)
def test_secrets_of_addresses_are_found(url: str, secret: str) -> None:
    assert secret in secrets_in({"cameras": [{"id": "lobby", "url": url}]})


def test_the_path_of_a_webhook_and_both_forms_of_its_secret_are_found() -> None:
    hook = {"url": "https://hooks.example.com/services/T0AB/XyZ12345678", "secret": ["whsec_c2VjcmV0LXNlY3JldA=="]}
    assert secrets_in({"webhooks": [{"id": "alarms", **hook}]}) >= {
        "/services/T0AB/XyZ12345678", "XyZ12345678", "whsec_c2VjcmV0LXNlY3JldA==", "c2VjcmV0LXNlY3JldA=="
    }  # fmt: skip


def test_the_login_of_a_camera_is_found_as_clients_send_it() -> None:
    found = secrets_in({"cameras": [{"id": "lobby", "url": "http://h/x", "username": "a", "password": "Hunter22"}]})
    assert base64.b64encode(b"a:Hunter22").decode().rstrip("=") in found


def test_a_mistyped_key_holds_a_secret_and_openly_shown_values_are_none() -> None:
    camera = {"id": "lobby-1", "url": "rtsp://10.0.0.5/x", "pasword": "Hunter22", "labels": {"key": "reception"}}
    same = {"id": "gate-1", "url": "rtsp://10.0.0.6/x", "username": "operator", "password": "lobby-1"}
    found = secrets_in({"cameras": [camera, same]})
    assert "Hunter22" in found
    assert not found & {"lobby-1", "reception", "operator", "10.0.0.5"}


def test_a_value_that_is_added_during_a_scrub_is_hidden_from_then_on(monkeypatch: pytest.MonkeyPatch) -> None:
    secrets = KnownSecrets()
    secrets.add(["first-secret"])
    compile_values = redaction._pattern

    def compile_slowly(values: Iterable[str]) -> re.Pattern[str] | None:
        pattern = compile_values(values)
        monkeypatch.setattr(redaction, "_pattern", compile_values)
        secrets.add(["second-secret"])  # as another thread does
        return pattern

    monkeypatch.setattr(redaction, "_pattern", compile_slowly)
    assert secrets.scrub("first-secret") == "***"
    assert secrets.scrub("first-secret second-secret") == "*** ***"
