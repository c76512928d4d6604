"""Sentences for people, and that no secret is in them."""

from __future__ import annotations

import string
import time
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.errors import ConfigError, HubError, UnavailableError, redact

SCHEMES = st.sampled_from(["rtsp", "rtsps", "http", "https", "snapshot+http", "redis", "rediss", "ws", "WSS"])
# What people paste into a URL: anything that can be seen.
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
def test_no_part_of_an_escaped_one_either(scheme: str, user: str, password: str, host: str) -> None:
    userinfo = f"{quote(user, safe='', errors='replace')}:{quote(password, safe='', errors='replace')}"
    assert redact(f"open {scheme}://{userinfo}@{host}/a b") == f"open {scheme}://***@{host}/a b"


@given(st.text())
def test_redacting_is_done_once_and_for_all(text: str) -> None:
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
def test_what_holds_no_user_information_stays(text: str) -> None:
    assert redact(text) == text


def test_each_address_of_a_sentence_is_redacted() -> None:
    assert redact("from rtsp://a:b@c/d to redis://:e@f:1/0") == "from rtsp://***@c/d to redis://***@f:1/0"


@pytest.mark.parametrize("text", ["x" * 2**18, "a://" * 2**14, "@" * 2**18, "rtsp://" + ":" * 2**18])
def test_long_lines_take_no_time(text: str) -> None:
    began = time.process_time()
    redact(text)
    assert time.process_time() - began < 5.0


def test_exit_codes() -> None:
    assert [HubError("x").exit_code, ConfigError(["x"]).exit_code, UnavailableError("x").exit_code] == [1, 78, 69]
    assert str(ConfigError(["one", "two"])) == "one\ntwo"
