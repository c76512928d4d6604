"""Cameras that answer with malformed headers and challenges. Each affects only itself, and no worker crashes."""

from __future__ import annotations

import hashlib
import re
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.scripted_camera import ScriptedCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault

ENDLESS: Final = b"Content-Length: " + b"9" * 5000  # `int` raises `ValueError` for more than 4,300 digits
DIGEST: Final = b'WWW-Authenticate: Digest realm="camera", nonce="n"'
UNANSWERABLE: Final = {
    "auth-int": DIGEST + b', qop="auth-int"',
    "no-fields": b"WWW-Authenticate: Digest abc",
    "line-break": b'WWW-Authenticate: Digest realm="a\nX-Injected: 1", nonce="n"',
}
UNSUPPORTED: Final = "requires an unsupported authentication method; set the camera to Digest or Basic"


def test_malformed_responses_affect_only_their_camera(
    scripted_camera: Callable[..., ScriptedCamera],
    http_camera: Callable[..., HttpCamera],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    responses: dict[str, tuple[bytes, ...]] = {"endless": (b"200 OK", ENDLESS)}
    for name, challenge in UNANSWERABLE.items():
        responses[name] = (b"401 Unauthorized", challenge, b"Content-Length: 0")
    latin_1 = scripted_camera(b"401 Unauthorized", DIGEST, b"Content-Length: 0")
    cameras = {"latin-1-rtsp": f"rtsp://%E9:canary@127.0.0.1:{latin_1.port}/cam"}
    cameras["latin-1-snapshot"] = f"snapshot+http://%E9:canary@127.0.0.1:{latin_1.port}/cam.jpg"
    hostile = {name: scripted_camera(*response) for name, response in responses.items()}
    for name, camera in hostile.items():
        cameras[f"{name}-rtsp"] = f"rtsp://viewer:canary@127.0.0.1:{camera.port}/cam"
        cameras[f"{name}-snapshot"] = f"snapshot+http://viewer:canary@127.0.0.1:{camera.port}/cam.jpg"
    healthy = http_camera()
    hub = start_hub(
        [
            {"id": "healthy", "url": healthy.url()},
            *({"id": name, "url": url, "stall_timeout": 2} for name, url in cameras.items()),
        ],
        recorder(),
    )
    hub.wait_for_results("healthy", 1)
    for name in cameras:
        hub.wait_until(lambda name=name: hub.camera(name).error is not None)  # type: ignore[misc]
    found = {name: hub.camera(name) for name in cameras}
    assert {camera.restarts for camera in found.values()} == {0}, found
    assert {name: camera.state for name, camera in found.items() if name.startswith("latin")} == {
        "latin-1-rtsp": "auth_failed",
        "latin-1-snapshot": "auth_failed",
    }
    for name in ("auth-int", "no-fields", "line-break"):
        assert UNSUPPORTED in (found[f"{name}-rtsp"].error or "")
    for name in ("auth-int", "no-fields"):
        assert UNSUPPORTED in (found[f"{name}-snapshot"].error or "")
    assert "sends a response that is too long" in (found["endless-rtsp"].error or "")
    assert not any(b"X-Injected" in head for camera in hostile.values() for head in camera.requests)
    assert hub.camera("healthy").restarts == 0
    assert hub.stop() == 0
    assert "Traceback" not in hub.log()
    assert "canary" not in hub.log()
    measured(
        67,
        "malformed responses of cameras",
        injected="Content-Length of 5,000 digits; Digest with auth-int, without fields, and with a line break; Latin-1 "
        "user names; over RTSP and HTTP",
        target="only that camera fails; no worker restarts",
        measured=f"{len(found)} cameras: {', '.join(sorted({camera.state for camera in found.values()}))}; no restart, "
        "no injected header line; the healthy camera streams",
    )


@pytest.mark.parametrize("kind", ["rtsp", "snapshot+http"])
def test_digest_covers_the_bytes_of_a_latin_1_user_name(
    scripted_camera: Callable[..., ScriptedCamera], watch: Callable[..., Watching], kind: str
) -> None:
    camera = scripted_camera(b"401 Unauthorized", DIGEST, b"Content-Length: 0")
    watch(f"{kind}://%E9:canary@127.0.0.1:{camera.port}/cam").wait_for_state("auth_failed")
    head = next(head for head in camera.requests if b"\r\nAuthorization: Digest " in head)
    fields = dict(re.findall(rb'(\w+)="([^"]*)"', head))
    assert fields[b"username"] == b"\xe9"
    method = head.split()[0]
    secret, request = md5(b"\xe9:camera:canary"), md5(b":".join((method, fields[b"uri"])))
    assert fields[b"response"] == md5(b":".join((secret, b"n", request)))


def test_an_unexpected_error_is_a_state_of_the_camera(
    watch: Callable[..., Watching], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    password = "canary"

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError(password)

    monkeypatch.setattr("workers.camera.capture.open_source", fail)
    _, sentence = watch("rtsp://127.0.0.1:1/cam").wait_for_state("unsupported")
    assert "internal error: RuntimeError" in sentence
    assert "open_source" in caplog.text
    assert "canary" not in caplog.text


def md5(data: bytes) -> bytes:
    return hashlib.md5(data, usedforsecurity=False).hexdigest().encode()
