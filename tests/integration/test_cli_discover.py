"""`discover` with virtual ONVIF cameras: multicast search, stream queries and the printed entries."""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import pytest

from nvision_hub.cli.onvif_discovery import camera_id, interfaces
from nvision_hub.config.load import load
from tests.support import command

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.onvif_camera import OnvifNetwork

pytestmark = pytest.mark.long


PASSWORD = "canary-p@ss:/?#%[] é"


@pytest.mark.peer("ONVIF camera", "ipycam", "pypi:ipycam")
def test_cameras_become_entries(onvif_network: OnvifNetwork, tmp_path: Path) -> None:
    onvif_network.add(name="Gate", onvif_port=8081, rtsp_port=8554, main_width=2560, main_height=1440)
    onvif_network.add(name="Gate", onvif_port=8082, rtsp_port=8555)
    onvif_network.add(name="Yard", onvif_port=8083, rtsp_port=8556, username="viewer", password=PASSWORD)

    done = onvif_network.run("discover", "--seconds", "2")
    assert done.returncode == 0, done.stderr
    assert "Found 3 cameras; 1 of them refused access" in done.stderr
    assert "Yard: requires a user name and password; use --user" in done.stdout

    env = {"CAMERAS": PASSWORD}
    done = onvif_network.run("discover", "--user", "viewer", "--password-env", "CAMERAS", "--seconds", "2", env=env)
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    file = tmp_path / "cameras.yaml"
    file.write_text(f"cameras:\n{done.stdout}")
    config = load(file, environ=env)
    assert [camera.id for camera in config.cameras] == ["gate", "gate-2", "yard"]
    gate, _, yard = config.cameras
    assert gate.address.shown == "onvif://***@127.0.0.1:8081"
    assert yard.username == "viewer"
    assert yard.password is not None
    assert yard.password.reveal() == PASSWORD
    main, sub = "rtsp://127.0.0.1:8554/video_main", "rtsp://127.0.0.1:8554/video_sub"
    assert f'# url: "{main}"  # MainStream: h264, 2560x1440, 30 fps, about ' in done.stdout
    assert f'# url: "{sub}"  # SubStream: h264, 640x360' in done.stdout
    assert "fps: 1  # 86,400 images per day" in done.stdout

    done = onvif_network.run("discover", "--user", "viewer", "--password-stdin", "--json", "--seconds", "2",
                             "--interface", "127.0.0.1", stdin="canary-wrong\n")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    cameras = {camera["id"]: camera for camera in json.loads(done.stdout)["cameras"]}
    assert cameras["yard"]["locked"] is True
    assert cameras["yard"]["error"].startswith("requires a different user name or password")
    assert cameras["gate"]["maker"] == "PythonCam VirtualCam-1"
    assert cameras["gate"]["device"] == "http://127.0.0.1:8081/onvif/device_service"
    streams = cameras["gate"]["streams"]
    assert [stream["width"] for stream in streams] == [2560, 640]
    assert streams[0]["core_percent"] > 5 * streams[1]["core_percent"]


def test_a_search_without_a_response_is_reported(onvif_network: OnvifNetwork) -> None:
    done = onvif_network.run("discover", "--seconds", "0.5")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "No camera responded on 127.0.0.1" in done.stderr
    done = onvif_network.run("discover", "--seconds", "0.5", "--json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == {"cameras": []}


def test_a_device_that_announces_another_host_is_not_queried(onvif_network: OnvifNetwork) -> None:
    onvif_network.add(name="Gate", onvif_port=8081, xaddrs="http://127.0.0.2:8081/onvif/device_service")
    done = onvif_network.run("discover", "--seconds", "0.5")
    assert "No camera responded on 127.0.0.1" in done.stderr


def test_a_password_needs_a_user(tmp_path: Path) -> None:
    done = command.run("discover", "--password-env", "HOME", cwd=tmp_path)
    assert done.returncode == 2
    assert "a password requires --user" in done.stderr


@pytest.mark.parametrize(
    ("name", "taken", "expected"),
    [
        ("Lobby, north door", [], "lobby-north-door"),
        ("Lobby", ["lobby"], "lobby-2"),
        ("Lobby", ["lobby", "lobby-2"], "lobby-3"),
        ("ПАРКИНГ", [], "camera"),
        ("-_-", ["camera"], "camera-2"),
        ("x" * 200, [], "x" * 50),
        ("../../etc", [], "etc"),
    ],
)
def test_ids_derive_from_names(name: str, taken: list[str], expected: str) -> None:
    assert camera_id(name, taken) == expected


def test_found_addresses_belong_to_this_machine() -> None:
    addresses = interfaces()
    assert addresses
    for address in addresses:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            any_socket.bind((address, 0))
