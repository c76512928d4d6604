"""Values of cameras that would add lines to requests, or read files: rejected through the API and in cameras.yaml."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.models import Camera
from tests.support import command
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = pytest.mark.fault

INJECTED: Final = "canary\r\nX-Injected: 1"
SENTENCE: Final = "contains a line break or another control character; remove it"
SETTINGS: Final[tuple[tuple[str, dict[str, Any]], ...]] = (
    ("username", {"username": INJECTED}),
    ("username", {"username": "canary\x1b[2J"}),
    ("username", {"username": "canary\x9b2J"}),
    ("password", {"username": "viewer", "password": INJECTED}),
    ("password", {"username": "viewer", "password": "canary\0"}),
    ("url", {"url": "http://canary%0d%0aX-Injected%3A%201:pass@{host}/snapshot.jpg"}),
    ("url", {"url": "http://viewer:canary%00@{host}/snapshot.jpg"}),
    ("url", {"url": "http://{host}/snapshot.jpg\r\nX-Injected: 1"}),
    ("url", {"url": "http://{host}/snapshot.jpg\n"}),
    ("name", {"name": "canary\x1b]0;title\x07"}),
    ("labels", {"labels": {"floor": "canary\n"}}),
    ("nvision", {"nvision": {"streaming_key": INJECTED}}),
)
FILES: Final = ("file:clip.mp4", "FILE:clip.mp4", " file:clip.mp4", "File://clip.mp4", "\u3000fIlE:clip.mp4")


def entries(host: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the name of the rejected key and the entry of each case."""
    found = []
    for number, (key, settings) in enumerate(SETTINGS):
        entry = {"id": f"added{number}", "url": "snapshot+http://{host}/snapshot.jpg", **settings}
        found.append((key, {**entry, "url": entry["url"].replace("{host}", host)}))
    return found


@pytest.mark.long
def test_the_api_refuses_control_characters_and_files(
    http_camera: Callable[..., HttpCamera], start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    lobby, target = http_camera(), http_camera(user="viewer", password="secret", auth="basic")
    hub = start_hub([{"id": "lobby", "url": lobby.url()}], recorder(), gateway=True)
    hub.wait_for_results("lobby", 1)
    (hub.folder / "clip.mp4").write_bytes(b"private")
    with httpx2.Client(base_url=hub.gateway(), timeout=30.0, trust_env=False) as client:
        for key, entry in entries(f"127.0.0.1:{target.port}"):
            answer = client.post("/api/v1/cameras", json=entry)
            assert answer.status_code == 422, (entry, answer.text)
            assert "canary" not in answer.text
            (error,) = answer.json()["errors"]
            assert error["pointer"].startswith(f"/body/{key}")
            assert error["detail"].endswith(SENTENCE)
        for number, url in enumerate(FILES):
            answer = client.post("/api/v1/cameras", json={"id": f"file{number}", "url": url})
            assert answer.status_code == 422, (url, answer.text)
            (error,) = answer.json()["errors"]
            assert error["code"] == "file_not_allowed"
        ids = [camera["id"] for camera in client.get("/api/v1/cameras").json()["cameras"]]
    assert ids == ["lobby"]
    assert target.requests == []
    assert hub.stop() == 0
    assert "canary" not in hub.log()
    measured(
        68,
        "header lines and files through the API",
        injected=f"POST of {len(SETTINGS)} cameras with line breaks and escape characters in user name, password, url, "
        f"name, label and key, and of {len(FILES)} spellings of file:",
        target="rejected; no request to the camera",
        measured="all 422 with the key; the camera got no request",
    )


def test_cameras_yaml_with_control_characters_is_refused(tmp_path: Path) -> None:
    cameras = entries("10.0.0.5")
    file = tmp_path / "cameras.yaml"
    file.write_text(json.dumps({"version": 1, "cameras": [entry for _, entry in cameras]}), encoding="utf-8")
    done = command.run("check", file, "--json", cwd=tmp_path)
    assert done.returncode == 78
    assert "canary" not in done.stdout + done.stderr
    problems = json.loads(done.stdout)["problems"]
    assert {(problem["path"][1], problem["path"][2]) for problem in problems} == {
        (index, key) for index, (key, _) in enumerate(cameras)
    }
    for problem in problems:
        assert f"{problem['message']}; {problem['fix']}" == SENTENCE


def test_a_variable_may_not_hide_a_control_character(tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text("cameras: [{id: lobby, url: 'rtsp://10.0.0.5/', username: '${WHO}', password: '${WORD}'}]")
    done = command.run("check", file, cwd=tmp_path, env={"WHO": INJECTED, "WORD": INJECTED})
    assert done.returncode == 78
    assert done.stderr.count(SENTENCE) == 2
    assert "canary" not in done.stdout + done.stderr


@given(
    scheme=st.sampled_from(["rtsp", "http", "snapshot+https", "file", "usb", "demo"]),
    rest=st.text(st.sampled_from("ab@:/%0d?#.[]\r\n\x1b\x9b ") | st.characters(), max_size=40),
    username=st.text(max_size=10),
)
def test_an_accepted_address_has_no_control_character(scheme: str, rest: str, username: str) -> None:
    try:
        address = CameraAddress.parse(f"{scheme}://{rest}")
        camera = Camera.model_validate({"id": "lobby", "url": f"{scheme}://{rest}", "username": username})
    except ValueError:
        return
    parts = (address.username, address.password and address.password.reveal(), address.path, camera.username)
    assert not any(ord(character) < 32 or 127 <= ord(character) < 160 for part in parts for character in part or "")
