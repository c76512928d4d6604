"""Responses to authentication challenges, compared with the RFCs' examples and an independent implementation."""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import CameraTrust, SourceError
from nvision_hub.media.sources.http_auth import CameraAuth, parse_challenges

NONCE = "dcd98b7102dd2f0e8b11d0f600bfb0c093"
DIGEST = f'Digest realm="camera", nonce="{NONCE}"'
UNSUPPORTED_DIGEST = f'Digest realm="c", nonce="{NONCE}", algorithm=SHA-512-256'


def camera(username: str = "viewer", password: str = "x", **settings: Any) -> Camera:  # noqa: S107 - a test value
    url = "rtsp://10.0.0.5/cam"
    return Camera.model_validate({"id": "cam", "url": url, "username": username, "password": password, **settings})


def answer(challenges: list[str], camera: Camera, method: str, uri: str, count: int = 1) -> str:
    """Return the header of the request with this number after the challenges."""
    auth = CameraAuth(camera, CameraTrust())
    auth.on_challenge(challenges)
    headers = [auth.header(method, uri) for _ in range(count)]
    assert headers[-1] is not None
    return headers[-1]


def refusal(auth: CameraAuth, *challenges: str) -> str:
    auth.on_challenge(challenges)
    with pytest.raises(SourceError) as caught:
        auth.header("GET", "/cam")
    return str(caught.value)


def parameters(header: str) -> dict[str, str]:
    kind, _, rest = header.partition(" ")
    assert kind == "Digest"
    return {name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', rest)}


def md5(text: str) -> str:
    return hashlib.md5(text.encode(), usedforsecurity=False).hexdigest()


def test_no_header_is_sent_before_a_challenge() -> None:
    assert CameraAuth(camera(), CameraTrust()).header("GET", "/cam") is None


def test_digest_matches_rfc_2069_with_its_erratum() -> None:
    challenge = f'Digest realm="testrealm@host.com", nonce="{NONCE}", opaque="5ccc069c403ebaf9f0171e9517f40e41"'
    found = parameters(answer([challenge], camera("Mufasa", "CircleOfLife"), "GET", "/dir/index.html"))
    assert found["response"] == "1949323746fe6a43ef61f9606e7febea"
    assert found["opaque"] == "5ccc069c403ebaf9f0171e9517f40e41"
    assert found["uri"] == "/dir/index.html"
    assert "qop" not in found


def test_digest_with_qop_counts_its_requests() -> None:
    challenge = f'Digest realm="camera", nonce="{NONCE}", qop="auth,auth-int", algorithm=MD5'
    for count in (1, 11):
        found = parameters(answer([challenge], camera("viewer", "é"), "DESCRIBE", "rtsp://h/1", count))
        assert (found["qop"], found["nc"]) == ("auth", f"{count:08x}")
        middle = ":".join((NONCE, found["nc"], found["cnonce"], "auth"))
        assert found["response"] == md5(f"{md5('viewer:camera:é')}:{middle}:{md5('DESCRIBE:rtsp://h/1')}")


def test_basic_sends_user_name_and_password_as_utf8() -> None:
    header = answer(['Basic realm="camera"'], camera("viewer", "p@ss:é"), "DESCRIBE", "rtsp://h/1")
    assert base64.b64decode(header.removeprefix("Basic ")).decode() == "viewer:p@ss:é"


def test_bytes_that_are_not_utf_8_are_sent_unchanged() -> None:
    latin_1 = Camera.model_validate({"id": "cam", "url": "rtsp://viewer:%E9@10.0.0.5/cam"})
    header = answer(["Basic"], latin_1, "DESCRIBE", "rtsp://h/1")
    assert base64.b64decode(header.removeprefix("Basic ")) == b"viewer:\xe9"


@pytest.mark.parametrize(
    "offers",
    [
        ['Basic realm="camera"', DIGEST],
        [DIGEST, 'Basic realm="camera"'],
        [f'Basic realm="camera", {DIGEST}'],
        [f'{DIGEST}, Basic realm="camera"'],
        [UNSUPPORTED_DIGEST, DIGEST],
        [DIGEST.replace("Digest", "digest") + ", algorithm=md5", DIGEST + ", algorithm=SHA-256"],
    ],
)
def test_a_supported_digest_is_preferred_in_any_order(offers: list[str]) -> None:
    assert answer(offers, camera(), "DESCRIBE", "rtsp://h/1").startswith('Digest username="viewer", realm="camera"')


@pytest.mark.parametrize(
    "challenge",
    [
        UNSUPPORTED_DIGEST,
        f'Digest realm="c", nonce="{NONCE}", qop="auth-int"',
        f'Digest realm="c\nX-Injected: 1", nonce="{NONCE}"',
        'Digest realm="c"',
        "Digest abc",
        "Digest",
        "Bearer",
        "",
    ],
)
def test_unsupported_challenges_get_no_response(challenge: str) -> None:
    auth = CameraAuth(camera(), CameraTrust())
    assert "requires an unsupported authentication method" in refusal(auth, challenge)


@pytest.mark.parametrize("offer", [DIGEST, UNSUPPORTED_DIGEST, "Digest abc", f'Basic realm="c", {DIGEST}'])
def test_basic_is_never_answered_after_digest(offer: str) -> None:
    trust = CameraTrust()
    CameraAuth(camera(), trust).on_challenge([offer])
    auth = CameraAuth(camera(), trust)  # the next dial
    assert "has offered Digest before" in refusal(auth, 'Basic realm="c"')
    assert not auth.sent_basic


def test_basic_is_not_answered_beside_an_unsupported_digest() -> None:
    auth = CameraAuth(camera(), CameraTrust())
    assert "requires an unsupported authentication method" in refusal(auth, UNSUPPORTED_DIGEST, 'Basic realm="c"')
    assert not auth.sent_basic


def test_auth_digest_refuses_basic() -> None:
    auth = CameraAuth(camera(auth="digest"), CameraTrust())
    assert "`auth` of this camera is `digest`" in refusal(auth, 'Basic realm="c"')
    assert answer([DIGEST], camera(auth="digest"), "GET", "/cam").startswith("Digest ")


@pytest.mark.parametrize("algorithm", ["MD5", "MD5-sess", "SHA-256", "SHA-256-sess", "SHA-512"])
def test_digest_matches_an_independent_implementation(algorithm: str, monkeypatch: pytest.MonkeyPatch) -> None:
    challenge = f'Digest realm="camera", nonce="{NONCE}", qop="auth", algorithm={algorithm}'
    monkeypatch.setattr(httpx2.DigestAuth, "_get_client_nonce", lambda *_: b"00000000000000aa")
    monkeypatch.setattr("secrets.token_hex", lambda _: "00000000000000aa")
    request = httpx2.Request("GET", "http://h/cam?x=1")
    exchange = httpx2.DigestAuth("viewer", "é").auth_flow(request)
    next(exchange)
    exchange.send(httpx2.Response(401, headers={"www-authenticate": challenge}, request=request))
    found = answer([challenge], camera("viewer", "é"), "GET", "/cam?x=1")
    assert parameters(found)["response"] == parameters(request.headers["authorization"])["response"]


def test_several_challenges_in_one_header_are_separate() -> None:
    header = 'Digest realm = "a,b" , nonce=xyz, qop="auth,auth-int", Basic realm="q", Bearer'
    assert list(parse_challenges([header])) == [
        ("digest", {"realm": "a,b", "nonce": "xyz", "qop": "auth,auth-int"}),
        ("basic", {"realm": "q"}),
        ("bearer", {}),
    ]


@given(text=st.text(st.sampled_from('Digest Basic=",\\\r\n\0 realm nonce') | st.characters()))
def test_any_challenge_gets_one_line_or_no_response(text: str) -> None:
    for challenge in (text, f"Digest {text}", f"Basic {text}", f"{DIGEST}, {text}", f"{text}, {DIGEST}"):
        trust = CameraTrust()
        auth = CameraAuth(camera(), trust)
        auth.on_challenge([challenge])
        try:
            header = auth.header("GET", "/cam")
        except SourceError:
            continue
        assert header is not None
        assert not set("\r\n\0") & set(header)
        assert header.startswith("Digest ") or not trust.offered_digest


def test_credentials_are_hidden_in_repr() -> None:
    assert "secret" not in repr(camera("viewer", "secret"))
