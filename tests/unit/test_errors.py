"""Errors as text and as data, both without secrets."""

from __future__ import annotations

import pickle
import string
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.errors import ConfigError, Diagnostic, HubError, UnavailableError
from nvision_hub.redaction import redact

SCHEMES = st.sampled_from(["rtsp", "rtsps", "http", "https", "snapshot+http", "redis", "rediss", "ws", "WSS"])
# A pasted password may contain any printable character.
PASTED = st.text(string.ascii_letters + string.digits + string.punctuation + "éß漢", min_size=1, max_size=64)
HOSTS = st.sampled_from(["10.0.0.5", "[2001:db8::1]", "cam.example.com:554", "_gateway"])
AROUND = st.sampled_from(
    ["{}", "cannot open {}", "'{}': refused", '{{"url": "{}"}}', "<{}>", "({}).", "two\nlines {}\nand more"]
)


@given(scheme=SCHEMES, user=PASTED, password=PASTED, host=HOSTS, around=AROUND)
def test_no_part_of_a_pasted_password_is_left(scheme: str, user: str, password: str, host: str, around: str) -> None:
    text = around.format(f"{scheme}://{user}:{password}@{host}/stream1")
    shown = redact(text)
    assert shown == around.format(f"{scheme}://***@{host}/stream1")


@given(scheme=SCHEMES, user=st.text(min_size=1), password=st.text(), host=HOSTS)
def test_no_part_of_an_escaped_password_is_left(scheme: str, user: str, password: str, host: str) -> None:
    userinfo = f"{quote(user, safe='', errors='replace')}:{quote(password, safe='', errors='replace')}"
    assert redact(f"open {scheme}://{userinfo}@{host}/a b") == f"open {scheme}://***@{host}/a b"


@given(st.text())
def test_redacting_twice_changes_nothing(text: str) -> None:
    assert redact(redact(text)) == redact(text)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://10.0.0.5/stream1",
        "write to admin@example.com",
        "http://127.0.0.1:8080/healthz is up",
        "first rtsp://a/b then mail c@d.e",
        "",
    ],
)
def test_text_without_user_information_is_unchanged(text: str) -> None:
    assert redact(text) == text


def test_every_address_in_a_text_is_redacted() -> None:
    assert redact("from rtsp://a:b@c/d to redis://:e@f:1/0") == "from rtsp://***@c/d to redis://***@f:1/0"


@pytest.mark.parametrize("text", ["x" * 2**18, "a://" * 2**14, "@" * 2**18, "rtsp://" + ":" * 2**18])
def test_long_lines_are_redacted_quickly(text: str) -> None:
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 5.0


def test_each_error_class_has_its_exit_code() -> None:
    assert [HubError("x").exit_code, ConfigError([]).exit_code, UnavailableError("x").exit_code] == [1, 78, 69]


def test_the_text_of_a_config_error_is_made_from_its_diagnostics() -> None:
    located = Diagnostic(
        code="invalid_value",
        message="0 is out of range",
        fix="use a value above 0 and up to 60",
        path=("cameras", 1, "fps"),
        file="cameras.yaml",
        line=12,
        column=5,
    )
    error = ConfigError([located, Diagnostic(code="file_empty", message="is empty", file="cameras.yaml")])
    assert str(error) == (
        "cameras.yaml:12:5: cameras[1].fps: 0 is out of range; use a value above 0 and up to 60\ncameras.yaml: is empty"
    )
    assert located.as_dict() == {
        "code": "invalid_value",
        "message": "0 is out of range",
        "fix": "use a value above 0 and up to 60",
        "field": "cameras[1].fps",
        "path": ["cameras", 1, "fps"],
        "file": "cameras.yaml",
        "line": 12,
        "column": 5,
    }
    assert pickle.loads(pickle.dumps(error)).diagnostics == error.diagnostics  # noqa: S301 - made here


def test_a_diagnostic_never_shows_a_key_that_may_hold_a_secret() -> None:
    found = Diagnostic(code="unknown_key", message="unknown key", path=("cameras", 0, "password:hunter2"))
    assert found.field == "cameras[0].password…"
    assert "hunter2" not in repr(found)
