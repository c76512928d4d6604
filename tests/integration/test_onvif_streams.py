"""`url: onvif://`: the hub chooses a camera's stream over ONVIF, and contains hostile devices."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.config.added_cameras import CameraHost
from nvision_hub.config.models import Camera
from nvision_hub.media.sources import CameraTrust, SourceError, open_source
from nvision_hub.media.sources.onvif.client import OnvifClient
from nvision_hub.media.sources.onvif.soap import MAX_RESPONSE_BYTES
from nvision_hub.media.sources.onvif.stream_choice import choose_stream
from tests.support import clips, command
from tests.support.onvif_device import Profile, envelope, fault
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.onvif_device import OnvifDevice
    from tests.support.rtsp import GstCamera
    from tests.support.scripted_camera import ScriptedCamera
    from tests.support.watching import Watching

MAIN: Final = clips.ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000, seconds=4)
SUB: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LOGIN: Final = {"user": "viewer", "password": "canary-p@ss:/?#%[] é"}
MAIN_PROFILE: Final = Profile(uri="rtsp://127.0.0.1:1/main", token="main", name="Main", width=1280, height=720)
SUB_PROFILE: Final = Profile(uri="rtsp://127.0.0.1:1/sub", token="sub", name="Sub", width=640, height=360)


def camera(device: OnvifDevice, **settings: Any) -> Camera:
    return Camera.model_validate({"id": "lobby", "url": device.url, "stall_timeout": 2, **settings})


def chosen(device: OnvifDevice, *, trust: CameraTrust | None = None, **settings: Any) -> str:
    """Return the address of the stream that fits the settings."""
    return choose_stream(camera(device, **settings), trust or CameraTrust(), timeout_s=2).camera.address.shown


def error(device: OnvifDevice, **settings: Any) -> tuple[str, str]:
    with pytest.raises(SourceError) as raised:
        choose_stream(camera(device, **settings), CameraTrust(), timeout_s=2)
    assert "canary" not in str(raised.value)
    return str(raised.value.state), str(raised.value)


@pytest.mark.parametrize(("login", "skew_s"), [("digest", 0), ("token", 0), ("token", -86_400 * 900)])
def test_the_stream_that_fits_max_width_is_read_with_the_cameras_login(
    gst_camera: Callable[..., GstCamera],
    onvif_device: Callable[..., OnvifDevice],
    watch: Callable[..., Watching],
    login: str,
    skew_s: float,
) -> None:
    rtsp = gst_camera({"/main": MAIN, "/sub": SUB}, **LOGIN)
    profiles = (
        Profile(uri=f"rtsp://127.0.0.1:{rtsp.port}/main", token="t1", name="MainStream", width=1280, height=720),
        Profile(uri=f"rtsp://127.0.0.1:{rtsp.port}/sub", token="t2", name="SubStream", width=640, height=360, fps=15),
    )
    device = onvif_device(profiles=profiles, login=login, clock_offset_s=skew_s, **LOGIN)
    settings: dict[str, Any] = {"username": LOGIN["user"], "password": LOGIN["password"]}
    for max_width, width, profile in ((640, 640, "SubStream (h264, 640x360, 15 fps)"), (1280, 1280, "MainStream")):
        watching = watch(device.url, max_width=max_width, **settings)
        watching.wait_for(2)
        assert watching.frames[0].frame.width == width
        assert (watching.capture.profile or "").startswith(profile)
        assert {state for _, state, _ in watching.states} <= {"connecting", "streaming"}
    assert device.refused_logins == 0


def test_the_address_is_asked_for_at_each_connection(
    gst_camera: Callable[..., GstCamera], onvif_device: Callable[..., OnvifDevice], watch: Callable[..., Watching]
) -> None:
    rtsp = gst_camera({"/old": SUB})
    device = onvif_device(profiles=(Profile(uri=rtsp.url("/old"), token="t", name="P", width=640, height=360),))
    watching = watch(device.url)
    watching.wait_for(1)
    rtsp.kill()
    moved = gst_camera({"/new": SUB})
    device.profiles = (Profile(uri=moved.url("/new"), token="t", name="P", width=640, height=360),)
    watching.wait_for_state("unreachable")
    watching.wait_for(2)


def test_a_wrong_password_is_tried_once_per_connection(onvif_device: Callable[..., OnvifDevice]) -> None:
    for login in ("digest", "token"):
        device = onvif_device(profiles=(MAIN_PROFILE,), login=login, **LOGIN)
        state, sentence = error(device, username="viewer", password="canary-wrong")
        assert (state, device.refused_logins) == ("auth_failed", 1)
        assert "refused the user name or password" in sentence
        state, sentence = error(device)
        assert (state, device.refused_logins) == ("auth_failed", 1)
        assert "asks for a user name and password" in sentence


def test_a_step_of_the_cameras_clock_is_no_wrong_password(onvif_device: Callable[..., OnvifDevice]) -> None:
    device = onvif_device(profiles=(MAIN_PROFILE,), login="token", **LOGIN)
    settings = camera(device, username=LOGIN["user"], password=LOGIN["password"])
    with OnvifClient(settings, CameraTrust(), timeout_s=PATIENCE_S) as client:
        client.device_information()
        device.clock_offset_s = 3600
        client.device_information()
        assert device.refused_logins == 1
        device.password = "canary-other"
        with pytest.raises(SourceError, match="refused the user name or password"):
            client.device_information()
        assert device.refused_logins == 2


def test_basic_is_refused_if_the_camera_requires_digest(onvif_device: Callable[..., OnvifDevice]) -> None:
    device = onvif_device(profiles=(MAIN_PROFILE,), login="basic", **LOGIN)
    login = {"username": LOGIN["user"], "password": LOGIN["password"]}
    assert choose_stream(camera(device, **login), CameraTrust(), timeout_s=2).sends_plain_password
    state, sentence = error(device, auth="digest", **login)
    assert (state, "`auth` of this camera is `digest`" in sentence) == ("auth_failed", True)


def test_older_and_newer_media_services_are_supported(onvif_device: Callable[..., OnvifDevice]) -> None:
    profiles = (MAIN_PROFILE, Profile(uri="rtsp://127.0.0.1:1/h265", token="h", name="H", width=640, height=360,
                                      encoding="H265"))  # fmt: skip
    newer = onvif_device(profiles=profiles, has_media2=True)
    found = choose_stream(camera(newer, max_width=640), CameraTrust(), timeout_s=2).profile
    assert (found.codec, found.fps, found.keyframe_interval_s) == ("hevc", 25, 2)
    older = onvif_device(profiles=profiles)
    capabilities = (
        "<tds:GetCapabilitiesResponse><tds:Capabilities><tt:Media><tt:XAddr>http://10.0.0.64/onvif/media</tt:XAddr>"
        "</tt:Media></tds:Capabilities></tds:GetCapabilitiesResponse>"
    )
    older.answers |= {"GetServices": fault("ActionNotSupported", "no"), "GetCapabilities": envelope(capabilities)}
    assert chosen(older) == "rtsp://127.0.0.1:1/main"


def test_a_stream_on_another_host_needs_permission(onvif_device: Callable[..., OnvifDevice]) -> None:
    elsewhere = Profile(uri="rtsp://evil:x@10.0.0.66:99/main", token="t", name="P", width=640, height=360)
    device = onvif_device(profiles=(elsewhere,))
    state, sentence = error(device)
    assert (state, "a stream on another host, 10.0.0.66" in sentence) == ("not_found", True)
    trust = CameraTrust(hosts=(CameraHost.parse("10.0.0.0/24"),))
    assert chosen(device, trust=trust) == "rtsp://10.0.0.66:99/main"


@pytest.mark.parametrize("closes", [False, True])
def test_a_camera_with_a_host_name_may_report_its_ip_address(
    onvif_device: Callable[..., OnvifDevice],
    *,
    closes: bool,
) -> None:
    device = onvif_device(profiles=(MAIN_PROFILE,), closes=closes)
    by_name = camera(device).model_copy(update={"url": camera(device).url.parse(f"onvif://localhost:{device.port}")})
    assert choose_stream(by_name, CameraTrust(), timeout_s=2).camera.address.shown == "rtsp://localhost:1/main"


@pytest.mark.parametrize(
    ("operation", "answer", "words"),
    [
        ("GetServices", b"<html><body>Camera</body></html>", "does not speak ONVIF"),
        ("GetServices", b"", "does not speak ONVIF"),
        ("GetServices", envelope("<tds:GetServicesResponse/>"), "offers no RTSP stream"),
        ("GetProfiles", b'<!DOCTYPE x [<!ENTITY a "b">]>' + envelope("<a>&amp;a;</a>")[39:], "does not speak ONVIF"),
        ("GetProfiles", envelope("<a>" * 100 + "</a>" * 100), "does not speak ONVIF"),
        ("GetProfiles", envelope("<trt:GetProfilesResponse/>"), "offers no RTSP stream"),
        ("GetProfiles", b" " * (MAX_RESPONSE_BYTES + 1), "sends a response that is too long"),
        ("GetProfiles", fault("Receiver", "out\nof\x7fmemory"), "refuses the ONVIF request GetProfiles: out of?memory"),
        ("GetStreamUri", envelope("<trt:GetStreamUriResponse><tt:Uri>file:///etc/passwd</tt:Uri>"
                                  "</trt:GetStreamUriResponse>"), "offers no RTSP stream"),
    ],
)  # fmt: skip
def test_a_hostile_response_is_reported(
    onvif_device: Callable[..., OnvifDevice], operation: str, answer: bytes, words: str
) -> None:
    device = onvif_device(profiles=(MAIN_PROFILE,))
    device.answers[operation] = answer
    state, sentence = error(device)
    assert (state, words in sentence) == ("unsupported", True), sentence


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n<"])
def test_a_silent_device_is_given_up(scripted_camera: Callable[..., ScriptedCamera], sent: bytes) -> None:
    silent = scripted_camera(b"", raw=sent)
    lobby = Camera.model_validate({"id": "lobby", "url": f"onvif://127.0.0.1:{silent.port}"})
    with pytest.raises(SourceError) as raised:
        choose_stream(lobby, CameraTrust(), timeout_s=0.3)
    assert raised.value.state == "stalled"


def test_probe_and_worker_open_the_camera_in_the_same_way(onvif_device: Callable[..., OnvifDevice]) -> None:
    with pytest.raises(SourceError) as raised:
        open_source(camera(onvif_device(profiles=(MAIN_PROFILE, SUB_PROFILE)), max_width=320))
    assert "connection refused by rtsp://127.0.0.1:1/sub" in str(raised.value)


@pytest.mark.long
def test_probe_lists_all_streams_and_measures_the_chosen_one(
    gst_camera: Callable[..., GstCamera], onvif_device: Callable[..., OnvifDevice], tmp_path: Path
) -> None:
    rtsp = gst_camera({"/sub": SUB}, **LOGIN)
    main = dataclasses.replace(MAIN_PROFILE, uri="rtsp://10.0.0.66/main")
    sub = dataclasses.replace(SUB_PROFILE, uri=f"rtsp://127.0.0.1:{rtsp.port}/sub")
    device = onvif_device(
        profiles=(sub, dataclasses.replace(sub, token="b", uri=sub.uri + "2", width=320), main), **LOGIN
    )
    words = ["probe", device.url, "--username", LOGIN["user"], "--password-env", "CAMERA", "--seconds", "2"]
    done = command.run(*words, "--json", cwd=tmp_path, env={"CAMERA": LOGIN["password"]})
    assert "reports a stream on another host" in done.stderr, "the largest stream is chosen without max_width"
    device.profiles = device.profiles[:2]
    done = command.run(*words, cwd=tmp_path, env={"CAMERA": LOGIN["password"]})
    assert done.returncode == 0, done.stderr
    assert "canary" not in done.stdout + done.stderr
    assert "Streams of the camera, at 5 fps (432,000 images per day)" in done.stdout
    assert "Sub: h264, 320x360, 25 fps, a keyframe every 2 s, about " in done.stdout
    assert "Set the rate of Sub to 5 fps in the camera" in done.stdout
    assert "one every 1.00 s" in done.stdout, "the keyframe interval of the stream itself"
    assert 'url: "onvif://127.0.0.1:' in done.stdout
