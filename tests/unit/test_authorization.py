"""Answers to challenges, against the examples of the RFCs and a second reading of them."""

from __future__ import annotations

import base64
import hashlib
import re

import pytest

from nvision_hub.config import CameraAddress
from workers.camera.source.authorization import Credentials, answer_to

NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"


def parameters(answer: str | None) -> dict[str, str]:
    assert answer is not None
    kind, _, rest = answer.partition(" ")
    assert kind == "Digest"
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', rest)}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_digest_as_in_rfc_2069_with_its_erratum() -> None:
    challenge = f'Digest realm="testrealm@host.com", nonce="{NONCE}", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    found = parameters(answer_to([challenge], Credentials("Mufasa", "CircleOfLife"), "GET", "/dir/index.html", 1))
    assert found["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert found["opaque"] == "5ccc069c403ebaf9f0171e9517f40e41"
    assert found["uri"] == "/dir/index.html"
    assert "qop" not in found


def test_digest_with_quality_of_protection() -> None:
    challenge = f'Digest realm="camera", nonce="{NONCE}", qop="auth,auth-int", algorithm=MD5'
    for count in (1, 11):
        found = parameters(answer_to([challenge], Credentials("viewer", "é"), "DESCRIBE", "rtsp://h/1", count))
        assert (found["qop"], found["nc"]) == ("auth", f"{count:08x}")
        middle = ":".join((NONCE, found["nc"], found["cnonce"], "auth"))
        assert found["response"] == md5(f"{md5('viewer:camera:é')}:{middle}:{md5('DESCRIBE:rtsp://h/1')}")


def test_basic() -> None:
    answer = answer_to(['Basic realm="camera"'], Credentials("viewer", "p@ss:é"), "DESCRIBE", "rtsp://h/1", 1)
    assert answer is not None
    assert base64.b64decode(answer.removeprefix("Basic ")).decode() == "viewer:p@ss:é"


def test_bytes_that_are_no_utf_8_are_sent_as_they_were_written() -> None:
    address = CameraAddress.parse("rtsp://viewer:%E9@10.0.0.5/cam")
    credentials = Credentials.of(address)
    assert credentials is not None
    answer = answer_to(["Basic"], credentials, "DESCRIBE", "rtsp://h/1", 1)
    assert answer is not None
    assert base64.b64decode(answer.removeprefix("Basic ")) == b"viewer:\xe9"


def test_digest_is_preferred_in_either_order() -> None:
    offers = ['Basic realm="camera"', f'Digest realm="camera", nonce="{NONCE}"']
    for challenges in (offers, offers[::-1]):
        answer = answer_to(challenges, Credentials("viewer", "x"), "DESCRIBE", "rtsp://h/1", 1)
        assert answer is not None
        assert answer.startswith("Digest ")


@pytest.mark.parametrize("challenge", [f'Digest realm="c", nonce="{NONCE}", algorithm=SHA-512-256', "Bearer", ""])
def test_what_is_not_known_has_no_answer(challenge: str) -> None:
    assert answer_to([challenge], Credentials("viewer", "x"), "DESCRIBE", "rtsp://h/1", 1) is None


def test_credentials_hide_themselves() -> None:
    assert "secret" not in repr(Credentials("viewer", "secret"))
    assert Credentials.of(CameraAddress.parse("rtsp://10.0.0.5/cam")) is None
