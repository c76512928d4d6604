"""Cameras added through the API that try to get the password of `defaults`, the streaming key, or unmasked frames."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import simplejpeg

from tests.support.hub import write
from tests.support.patience import PATIENCE_S
from tests.support.recorder import KEY
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.scripted_camera import ScriptedCamera

pytestmark = [pytest.mark.fault, pytest.mark.long]

PASSWORD: Final = "canary-password"
LISTED: Final = "127.0.0.1"  # host of the cameras in `gateway.camera_hosts`
ATTACKER: Final = "127.0.0.2"
GATEWAY: Final = {"listen": "127.0.0.1:0", "camera_hosts": [LISTED]}
DEFAULTS: Final = {"username": "viewer", "password": PASSWORD}
ATTACKS: Final[dict[str, dict[str, Any]]] = {
    "rtsp": {"url": "rtsp://{host}/stream1"},
    "mjpeg": {"url": "http://{host}/video.mjpg"},
    "snapshot": {"url": "snapshot+http://{host}/image.jpg"},
    "upper": {"url": "RTSP://{host}/stream1"},
    "user": {"url": f"rtsp://{LISTED}@{{host}}/stream1"},
    "escaped": {"url": f"http://{LISTED}%2Fstream@{{host}}/video.mjpg"},
    "path": {"url": f"http://{{host}}/{LISTED}/video.mjpg?host={LISTED}"},
    "own-user": {"url": "http://{host}/video.mjpg", "username": "attacker"},
}
LEFT: Final = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
TOP_RIGHT: Final = [[0.5, 0], [1, 0], [1, 0.5], [0.5, 0.5]]


def attacks(camera: ScriptedCamera) -> dict[str, dict[str, Any]]:
    host = f"{ATTACKER}:{camera.port}"
    return {name: {"id": name, **entry, "url": entry["url"].format(host=host)} for name, entry in ATTACKS.items()}


def stolen(camera: ScriptedCamera) -> list[bytes]:
    """Return what a camera received and may be the password, also inside Basic credentials."""
    received = b"\n".join(camera.requests)
    logins = [base64.b64decode(found) for found in re.findall(rb"Authorization: Basic (\S+)", received)]
    return [text for text in (received, *logins) if PASSWORD.encode() in text]


@pytest.fixture
def attacker(scripted_camera: Callable[..., ScriptedCamera]) -> ScriptedCamera:
    """Return a camera on another host that asks every client for its password."""
    return scripted_camera(
        b"401 Unauthorized", b'WWW-Authenticate: Basic realm="camera"', b"Content-Length: 0", host=ATTACKER
    )


def test_only_listed_hosts_receive_the_password_of_defaults(
    attacker: ScriptedCamera,
    http_camera: Callable[..., HttpCamera],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    trusted = http_camera(user="viewer", password=PASSWORD, auth="basic")
    lobby = {"id": "lobby", "url": http_camera().url()}
    hub = start_hub([lobby], recorder(), gateway=GATEWAY, defaults=DEFAULTS)
    with httpx2.Client(base_url=hub.gateway(), timeout=PATIENCE_S, trust_env=False) as client:
        for entry in attacks(attacker).values():
            answer = client.post("/api/v1/cameras", json=entry)
            assert answer.status_code == 201, (entry, answer.text)
        listed = {"id": "listed", "url": trusted.url(credentials=False)}
        assert client.post("/api/v1/cameras", json=listed).status_code == 201
        hub.wait_for_results("listed", 1)
        for name in ATTACKS:
            hub.wait_for_state(name, "auth_failed")
    assert len(attacker.requests) > len(ATTACKS)
    assert stolen(attacker) == []
    assert hub.stop() == 0
    measured(
        76,
        "cameras added to collect passwords",
        injected=f"POST of {len(ATTACKS)} cameras on another host, which asks for the password; listed host in user "
        "name and path",
        target="only hosts in `gateway.camera_hosts` receive the password of `defaults`",
        measured="no password in any request; the camera on the listed host streams with it",
    )


def test_a_listed_host_does_not_receive_the_password_in_plain_text_if_defaults_require_digest(
    scripted_camera: Callable[..., ScriptedCamera],
    http_camera: Callable[..., HttpCamera],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    camera = scripted_camera(
        b"401 Unauthorized", b'WWW-Authenticate: Basic realm="camera"', b"Content-Length: 0", host=LISTED
    )
    lobby = {"id": "lobby", "url": http_camera().url()}
    hub = start_hub([lobby], recorder(), gateway=GATEWAY, defaults={**DEFAULTS, "auth": "digest"})
    entry = {"id": "basic", "url": f"http://{LISTED}:{camera.port}/video.mjpg", "auth": "any"}
    with httpx2.Client(base_url=hub.gateway(), timeout=PATIENCE_S, trust_env=False) as client:
        assert client.post("/api/v1/cameras", json=entry).status_code == 201
        hub.wait_for_state("basic", "auth_failed")
    assert camera.requests
    assert stolen(camera) == []
    assert hub.stop() == 0


def test_no_added_camera_chooses_the_service(
    http_camera: Callable[..., HttpCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    camera, service, attacker = http_camera(), recorder(), recorder()
    services = (
        {"url": attacker.url},
        {"url": attacker.url.upper()},
        {"url": attacker.url, "service": "face-detection"},
        {"URL": attacker.url},
    )
    hub = start_hub([{"id": "lobby", "url": camera.url()}], service, gateway=GATEWAY)
    with httpx2.Client(base_url=hub.gateway(), timeout=PATIENCE_S, trust_env=False) as client:
        for number, nvision in enumerate(services):
            entry = {"id": f"added{number}", "url": camera.url(), "nvision": nvision}
            answer = client.post("/api/v1/cameras", json=entry)
            assert answer.status_code == 422, (entry, answer.text)
            (error,) = answer.json()["errors"]
            (key,) = {"url", "URL"} & set(nvision)
            assert error["pointer"] == f"/body/nvision/{key}"
            assert error["code"] == {"url": "service_not_allowed", "URL": "unknown_key"}[key]
        changed = client.patch("/api/v1/cameras/lobby", json={"nvision": services[0]})
        assert changed.status_code == 422
        assert client.post("/api/v1/cameras", json={"id": "yard", "url": camera.url()}).status_code == 201
        hub.wait_for_results("yard", 1)
        ids = [found["id"] for found in client.get("/api/v1/cameras").json()["cameras"]]
    assert ids == ["lobby", "yard"]
    assert attacker.handshakes() == []
    assert {handshake.key for handshake in service.handshakes()} == {KEY}
    assert hub.stop() == 0
    measured(
        76,
        "cameras added to collect the streaming key",
        injected=f"POST of {len(services)} cameras and a PATCH with `nvision.url` of a recording service",
        target="rejected; no connection to that service",
        measured="all 422 with the key; no connection",
    )


def test_added_cameras_keep_the_masks_of_defaults(
    http_camera: Callable[..., HttpCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    camera, service = http_camera(), recorder()
    lobby = {"id": "lobby", "url": camera.url()}
    hub = start_hub([lobby], service, gateway=GATEWAY, defaults={"masks": [LEFT]})
    masks: dict[str, Any] = {"none": None, "empty": [], "own": [TOP_RIGHT]}
    with httpx2.Client(base_url=hub.gateway(), timeout=PATIENCE_S, trust_env=False) as client:
        for name, own in masks.items():
            entry = {"id": name, "url": camera.url(), "masks": own}
            assert client.post("/api/v1/cameras", json=entry).status_code == 201
    for name in masks:
        for message in service.wait_for(3, name):
            shown = simplejpeg.decode_jpeg(service.frame(message), "GRAY")[:, :, 0]
            height, width = shown.shape
            assert shown[:, : width // 2 - 10].max() < 5, "the mask of `defaults` is missing"
            assert (shown[: height // 2 - 10, width // 2 + 10 :].max() < 5) == (name == "own")
            assert shown[height // 2 + 10 :, width // 2 + 10 :].mean() > 20
    assert hub.stop() == 0
    measured(
        76,
        "cameras added to see masked areas",
        injected="POST of cameras whose masks are null, empty and another area",
        target="the masks of `defaults` apply as well",
        measured="the masked area is black in every frame received",
    )


def test_a_restart_restores_added_cameras_under_the_same_rules(
    tmp_path: Path,
    attacker: ScriptedCamera,
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_command: Callable[..., Running],
) -> None:
    camera, service, collector = http_camera(), recorder(), recorder()
    added = {**attacks(attacker), "service": {"id": "service", "url": camera.url(), "nvision": {"url": collector.url}}}
    lobby = {"id": "lobby", "url": camera.url()}
    write(tmp_path, [lobby], service, gateway=GATEWAY, defaults=DEFAULTS)
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    (state_dir / "run-time.json").write_text(json.dumps({"added": added}), encoding="utf-8")
    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
    url = re.findall(r"gateway listening at (\S+)", running.err)[-1]
    with httpx2.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:

        def states() -> dict[str, str]:
            cameras = client.get("/api/v1/cameras").raise_for_status().json()["cameras"]
            return {camera["id"]: camera["state"] for camera in cameras}

        expected = dict.fromkeys(ATTACKS, "auth_failed") | {"lobby": "streaming"}
        running.wait_for(lambda: states() == expected)
    assert stolen(attacker) == []
    assert collector.handshakes() == []
    running.process.terminate()
    assert running.wait() == 0
    assert running.err.count("stored run-time change of camera 'service' not restored") == 1
    assert PASSWORD not in running.err
    measured(
        76,
        "cameras in run-time.json that collect secrets",
        injected=f"{len(ATTACKS)} cameras on another host, and one with `nvision.url`; hub started",
        target="no password, no connection to that service",
        measured="no password in any request; the last camera is set aside",
    )
