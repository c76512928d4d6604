"""Cameras added at run time: hosts that receive the login of `defaults`, masks, and entries that are refused."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.config.added_cameras import CREDENTIALS, MAX_ADDED_CAMERAS, CameraHost, added_camera_problem
from nvision_hub.config.load import load
from nvision_hub.config.models import CameraOptions
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import ConfigError
from nvision_hub.hub import composition
from nvision_hub.hub.override_store import read, save
from nvision_hub.hub.runtime_overrides import OverrideRejectedError, Overrides
from nvision_hub.runtime.messages import AddCamera

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Camera, Config

HOSTS: Final = ("10.0.0.0/24", "10.0.1.7", "::ffff:10.0.2.0/120", "2001:db8::/32", "fe80::/10", "Camera.Example")
ENTRANCE: Final = [[0, 0], [0.5, 0], [0.5, 0.5]]
STREET: Final = [[0.5, 0.5], [1, 0.5], [1, 1]]


def written(folder: Path, *, hosts: tuple[str, ...] = HOSTS, **defaults: Any) -> Config:
    content = {
        "nvision": {"url": "wss://nvision.example/api", "streaming_key": "canary-key"},
        "gateway": {"camera_hosts": hosts},
        "defaults": {"username": "viewer", "password": "canary-password", "masks": [STREET], **defaults},
        "cameras": [{"id": "lobby", "url": "rtsp://192.0.2.1/"}],
    }
    file = folder / "cameras.yaml"
    file.write_text(json.dumps(content), encoding="utf-8")
    return load(file)


def added(config: Config, **entry: Any) -> Camera:
    overrides = Overrides().apply(AddCamera(request_id="n1", entry={"id": "yard", **entry}), config)
    return overrides.configuration(config.path).camera("yard")


def login(camera: Camera) -> tuple[str | None, str | None]:
    """Return the user name and the password that the camera receives."""
    password = camera.address.password
    return camera.address.username, None if password is None else password.reveal()


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://10.0.0.5/stream1",
        "RTSP://10.0.0.5:8554/stream1",
        "snapshot+http://10.0.1.7/x.jpg",
        "rtsp://[::ffff:10.0.0.5]/",
        "rtsp://[::ffff:a00:5]:554/",
        "rtsp://10.0.2.9/",
        "rtsp://[2001:DB8:0::1]/",
        "rtsp://[fe80::1%eth0]/",
        "https://camera.example/video.mjpg",
        "https://CAMERA.example.:8443/video.mjpg",
    ],
)
def test_a_listed_host_receives_the_login_of_defaults(tmp_path: Path, url: str) -> None:
    camera = added(written(tmp_path), url=url)
    assert login(camera) == ("viewer", "canary-password")


@pytest.mark.parametrize(
    "url",
    [
        "rtsp://10.0.3.5/stream1",
        "rtsp://10.0.1.8/",
        "snapshot+http://attacker.example/10.0.0.5/x.jpg",
        "http://attacker.example/?host=10.0.0.5",
        "http://attacker.example/#@10.0.0.5",
        "rtsp://attacker.example:554/camera.example",
        "rtsp://camera.example.attacker.example/",
        "rtsp://attacker-camera.example/",
        "rtsp://xcamera.example/",
        "rtsp://10.0.0.5.attacker.example/",
        "rtsp://0x0a000005/",
        "rtsp://[::ffff:10.0.3.5]/",
        "rtsp://[64:ff9b::10.0.0.5]/",
        "rtsp://[::10.0.0.5]/",
        "rtsp://[2001:db9::1]/",
        "usb:0",
        "demo://street",
    ],
)
def test_any_other_host_receives_no_login(tmp_path: Path, url: str) -> None:
    camera = added(written(tmp_path), url=url)
    assert login(camera) == (None, None)
    assert (camera.username, camera.password) == (None, None)


@pytest.mark.parametrize(
    ("url", "username"),
    [
        ("rtsp://10.0.0.5@attacker.example/", "10.0.0.5"),
        ("rtsp://camera.example@203.0.113.9/", "camera.example"),
        ("http://10.0.0.5%2Fx@attacker.example/", "10.0.0.5/x"),
        ("rtsp://camera.example%23@attacker.example:554/", "camera.example#"),
    ],
)
def test_a_listed_host_in_the_user_name_counts_as_a_user_name(tmp_path: Path, url: str, username: str) -> None:
    assert login(added(written(tmp_path), url=url)) == (username, None)


def test_an_own_user_name_does_not_attract_the_password_of_defaults(tmp_path: Path) -> None:
    config = written(tmp_path)
    assert login(added(config, url="rtsp://attacker.example/", username="me")) == ("me", None)
    own = {"username": "me", "password": "mine"}
    assert login(added(config, url="rtsp://attacker.example/", **own)) == ("me", "mine")
    assert login(added(config, url="rtsp://10.0.0.5/", **own)) == ("me", "mine")


@pytest.mark.parametrize("url", ["rtsp://10.0.0.5/", "rtsp://other@10.0.0.5/"])
def test_a_camera_with_the_password_of_defaults_keeps_digest(tmp_path: Path, url: str) -> None:
    config = written(tmp_path, auth="digest")
    assert added(config, url=url, auth="any").auth == "digest"
    assert added(written(tmp_path), url=url, auth="digest").auth == "digest"


def test_a_camera_without_the_password_of_defaults_may_allow_basic(tmp_path: Path) -> None:
    config = written(tmp_path, auth="digest")
    assert added(config, url="rtsp://10.0.0.5/", auth="any", password="mine").auth == "any"
    assert added(config, url="rtsp://me:mine@10.0.0.5/", auth="any").auth == "any"
    assert added(config, url="rtsp://attacker.example/", auth="any").auth == "any"
    with pytest.raises(OverrideRejectedError, match="auth"):
        added(config, url="rtsp://10.0.0.5/", auth="none")


def test_without_listed_hosts_no_added_camera_receives_the_login(tmp_path: Path) -> None:
    config = written(tmp_path, hosts=())
    assert login(added(config, url="rtsp://10.0.0.5/")) == (None, None)
    assert login(config.camera("lobby")) == ("viewer", "canary-password")


def test_every_secret_of_defaults_counts_as_a_credential() -> None:
    secrets = {name for name, field in CameraOptions.model_fields.items() if Secret.__name__ in str(field.annotation)}
    assert secrets == CREDENTIALS - {"username"}


def test_an_added_camera_uses_the_service_of_the_file(tmp_path: Path) -> None:
    camera = added(written(tmp_path), url="rtsp://attacker.example/", nvision={"service": "face-detection"})
    assert camera.nvision.url.dial() == "wss://nvision.example/api"
    assert camera.nvision.service == "face-detection"


@pytest.mark.parametrize("url", ["ws://attacker.example/api", "local", "", None, {"a": 1}])
def test_an_added_camera_may_not_choose_the_service(tmp_path: Path, url: object) -> None:
    with pytest.raises(OverrideRejectedError) as caught:
        added(written(tmp_path), url="rtsp://10.0.0.5/", nvision={"service": "face-detection", "url": url})
    (found,) = caught.value.diagnostics
    assert (found.code, found.path) == ("service_not_allowed", ("nvision", "url"))


@pytest.mark.parametrize(
    "more",
    [
        {"nvision": {"URL": "ws://attacker.example/api"}},
        {"nvision": {" url": "ws://attacker.example/api"}},
        {"nvision": [{"url": "ws://attacker.example/api"}]},
        {"nvision": "url: ws://attacker.example/api"},
        {"nvision.url": "ws://attacker.example/api"},
        {"defaults": {"nvision": {"url": "ws://attacker.example/api"}}},
        {"<<": {"nvision": {"url": "ws://attacker.example/api"}}},
    ],
)
def test_no_other_spelling_of_the_service_is_accepted(tmp_path: Path, more: dict[str, Any]) -> None:
    with pytest.raises(OverrideRejectedError):
        added(written(tmp_path), url="rtsp://10.0.0.5/", **more)


def test_entries_that_are_allowed_have_no_problem() -> None:
    for entry in ({}, {"url": None}, {"url": "rtsp://10.0.0.5/", "nvision": None}, {"nvision": {"service": "x"}}):
        assert added_camera_problem(entry) is None


@pytest.mark.parametrize("url", ["rtsp://10.0.0.5/", "rtsp://attacker.example/"])
@pytest.mark.parametrize(
    ("own", "expected"),
    [
        ({}, [STREET]),
        ({"masks": None}, [STREET]),
        ({"masks": []}, [STREET]),
        ({"masks": [ENTRANCE]}, [ENTRANCE, STREET]),
    ],
)
def test_masks_of_defaults_always_apply(tmp_path: Path, url: str, own: dict[str, Any], expected: list[Any]) -> None:
    masks = added(written(tmp_path), url=url, **own).masks
    assert [[list(point) for point in mask] for mask in masks] == expected


@pytest.mark.parametrize("masks", ["", "none", {"0": ENTRANCE}, [ENTRANCE, [[0, 0]]], [None]])
def test_invalid_masks_are_refused_at_their_position(tmp_path: Path, masks: object) -> None:
    with pytest.raises(OverrideRejectedError) as caught:
        added(written(tmp_path), url="rtsp://10.0.0.5/", masks=masks)
    assert caught.value.diagnostics
    assert {found.path[0] for found in caught.value.diagnostics} == {"masks"}
    assert {found.path[1:2] for found in caught.value.diagnostics} <= {(), (0,), (1,)}


def test_the_number_of_added_cameras_is_limited(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    config = written(tmp_path)
    entries = {f"c{n}": {"id": f"c{n}", "url": "rtsp://10.0.0.5/"} for n in range(MAX_ADDED_CAMERAS + 2)}
    full = Overrides(added=dict(list(entries.items())[:MAX_ADDED_CAMERAS]))
    with pytest.raises(OverrideRejectedError) as caught:
        full.apply(AddCamera(request_id="n1", entry={"id": "yard", "url": "rtsp://10.0.0.5/"}), config)
    (found,) = caught.value.diagnostics
    assert found.code == "too_many_cameras"
    assert str(MAX_ADDED_CAMERAS) in found.message
    config.state_dir.mkdir()
    save(config.state_dir, Overrides(added=entries))
    with caplog.at_level(logging.WARNING):
        _, overrides = read(config.path)
    assert overrides.added == full.added
    assert overrides.rejected == 2


def test_restored_cameras_obey_the_same_rules(tmp_path: Path) -> None:
    config = written(tmp_path)
    config.state_dir.mkdir()
    stored: dict[str, dict[str, Any]] = {
        "service": {"id": "service", "url": "rtsp://10.0.0.5/", "nvision": {"url": "ws://attacker.example/api"}},
        "elsewhere": {"id": "elsewhere", "url": "rtsp://attacker.example/", "masks": []},
        "listed": {"id": "listed", "url": "rtsp://10.0.0.5/"},
    }
    save(config.state_dir, Overrides(added=stored))
    found, overrides = read(config.path)
    assert [camera.id for camera in found.cameras] == ["lobby", "elsewhere", "listed"]
    assert login(found.camera("elsewhere")) == (None, None)
    assert len(found.camera("elsewhere").masks) == 1
    assert login(found.camera("listed")) == ("viewer", "canary-password")
    assert overrides.rejected == 1
    (warning,) = [line for line in composition.plan(found, overrides=overrides).warnings if "camera_hosts" in line]
    assert "(elsewhere)" in warning


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("10.0.0.5", "10.0.0.5"),
        (" 10.0.0.0/24 ", "10.0.0.0/24"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.0/120", "10.0.0.0/24"),
        ("2001:db8:0:0::/64", "2001:db8::/64"),
        ("Camera-1.Example.", "camera-1.example"),
        ("cam_1", "cam_1"),
    ],
)
def test_hosts_are_shown_in_their_usual_form(text: str, shown: str) -> None:
    assert CameraHost.parse(text).shown == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        *((text, "must be a host name") for text in ("", "*", "*.example", "http://camera.example", "a:554", "[::1]")),
        *((text, "must be a host name") for text in ("a..b", "10.0.0", "10.0.0.256", "10.0.0.0/33", "10.0.0.1-9", "8")),
        *(
            (text, "must be a host name")
            for text in ("user@camera", "fe80::1%eth0", "10.0.0.5,10.0.0.6", "a b", "ä.de")
        ),
        *((text, "write the first address") for text in ("10.0.0.5/24", "2001:db8::1/64", "::ffff:10.0.0.5/120")),
    ],
)
def test_an_invalid_host_is_an_error_of_the_file(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        written(tmp_path, hosts=("10.0.0.5", text))
    (found,) = caught.value.diagnostics
    assert found.field == "gateway.camera_hosts[1]"
    assert message in found.text
    assert found.line is not None
