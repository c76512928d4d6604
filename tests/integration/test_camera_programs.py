"""Third-party programs that act as cameras, from Debian and npm."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import clips
from tests.support.certificates import Authority

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.camera_programs import CameraPrograms
    from tests.support.http_camera import HttpCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.long

CLIP: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
JPEGS: Final = clips.ClipSpec(codec="mjpeg", width=640, height=360, seconds=4)
MOTION: Final = pytest.mark.peer("HTTP camera", "Motion", "debian:motion")
USTREAMER: Final = pytest.mark.peer("HTTP camera", "uStreamer", "debian:ustreamer")
VLC: Final = pytest.mark.peer("RTSP camera", "VLC", "debian:vlc-bin")
RTSP_STREAMING_SERVER: Final = pytest.mark.peer(
    "RTSP camera", "rtsp-streaming-server", "npm:tests/peers:rtsp-streaming-server"
)
RTSP_SERVER_PERL: Final = pytest.mark.peer("RTSP camera", "rtsp-server-perl", "debian:rtsp-server-perl")
NGINX: Final = pytest.mark.peer("HTTP camera", "nginx with JPEGs", "debian:nginx")
LOGIN: Final = {"username": "viewer", "password": "right"}


@MOTION
@pytest.mark.parametrize("address", ["http://127.0.0.1:{}/0/stream", "snapshot+http://127.0.0.1:{}/0/current"])
def test_motion_with_digest(
    camera_programs: CameraPrograms,
    http_camera: Callable[..., HttpCamera],
    watch: Callable[..., Watching],
    address: str,
) -> None:
    """Motion 4.5 writes `algorithm=md5` in lower case."""
    port = camera_programs.motion(http_camera().url())
    watching = watch(address.format(port), **LOGIN, fps=2, stall_timeout=10)
    watching.wait_for(3)
    assert watching.frames[-1].frame.width == 640


@MOTION
def test_motion_with_a_wrong_password(
    camera_programs: CameraPrograms, http_camera: Callable[..., HttpCamera], watch: Callable[..., Watching]
) -> None:
    port = camera_programs.motion(http_camera().url())
    watching = watch(f"http://127.0.0.1:{port}/0/stream", username="viewer", password="wrong")
    _, sentence = watching.wait_for_state("auth_failed")
    assert "refused the user name or password" in sentence


@USTREAMER
@pytest.mark.parametrize("address", ["http://127.0.0.1:{}/stream", "snapshot+http://127.0.0.1:{}/snapshot"])
def test_ustreamer(camera_programs: CameraPrograms, watch: Callable[..., Watching], address: str) -> None:
    watching = watch(address.format(camera_programs.ustreamer()), **LOGIN, stall_timeout=10)
    watching.wait_for(1)


@USTREAMER
@pytest.mark.parametrize(
    ("address", "state", "words"),
    [
        ("http://127.0.0.1:{}/", "not_found", "sends a web page or text instead of video; correct the path"),
        ("http://127.0.0.1:{}/snapshot", "unsupported", "write snapshot+http:// in place of http://"),
        ("snapshot+http://127.0.0.1:{}/stream", "unsupported", "write http:// in place of snapshot+http://"),
        ("http://127.0.0.1:{}/none", "not_found", "does not exist; correct the path"),
    ],
)
def test_wrong_paths_of_ustreamer(
    camera_programs: CameraPrograms, watch: Callable[..., Watching], address: str, state: str, words: str
) -> None:
    watching = watch(address.format(camera_programs.ustreamer()), **LOGIN)
    _, sentence = watching.wait_for_state(state)
    assert words in sentence


@VLC
def test_vlc_sends_only_udp(camera_programs: CameraPrograms, watch: Callable[..., Watching]) -> None:
    watching = watch(f"rtsp://127.0.0.1:{camera_programs.vlc(CLIP)}/cam", stall_timeout=10)
    watching.wait_for(5)
    assert watching.capture.trust.transport == "udp"


@RTSP_STREAMING_SERVER
def test_rtsp_streaming_server_sends_only_udp(camera_programs: CameraPrograms, watch: Callable[..., Watching]) -> None:
    port = camera_programs.rtsp_streaming_server(CLIP)
    watching = watch(f"rtsp://127.0.0.1:{port}/cam", **LOGIN, stall_timeout=10)
    watching.wait_for(5)
    assert watching.capture.trust.transport == "udp"
    _, sentence = watch(f"rtsp://127.0.0.1:{port}/cam", **LOGIN, transport="tcp").wait_for_state("unsupported")
    assert "set `transport: udp` of this camera, or `transport: auto`" in sentence


@RTSP_SERVER_PERL
def test_rtsp_server_perl_refuses_tcp_as_a_bad_request(
    camera_programs: CameraPrograms, watch: Callable[..., Watching]
) -> None:
    url = f"rtsp://127.0.0.1:{camera_programs.rtsp_server_perl(CLIP)}/cam"
    watching = watch(url, stall_timeout=10)
    watching.wait_for(5)
    assert watching.capture.trust.transport == "udp"
    _, sentence = watch(url, transport="tcp").wait_for_state("unsupported")
    assert "refuses RTP over TCP (400); set `transport: udp` of this camera, or `transport: auto`" in sentence


@NGINX
def test_nginx_with_a_self_signed_certificate(
    camera_programs: CameraPrograms, watch: Callable[..., Watching], tmp_path: Path
) -> None:
    certificate = Authority(folder=tmp_path).certify("127.0.0.1", self_signed=True)
    port = camera_programs.nginx(clips.access_units(JPEGS)[0], certificate)
    url = f"snapshot+https://127.0.0.1:{port}/still.jpg"
    watch(url).wait_for(1)  # trust on first use
    watch(url, tls=f"fingerprint:{certificate.fingerprint}").wait_for(1)
    _, sentence = watch(url, tls="verify").wait_for_state("auth_failed")
    assert f"set `tls: fingerprint:{certificate.fingerprint}` of this camera" in sentence


@NGINX
def test_nginx_with_a_certificate_of_a_known_authority(
    camera_programs: CameraPrograms,
    watch: Callable[..., Watching],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    authority = Authority(folder=tmp_path)
    port = camera_programs.nginx(clips.access_units(JPEGS)[0], authority.certify("127.0.0.1"))
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    watch(f"snapshot+https://127.0.0.1:{port}/still.jpg", tls="verify").wait_for(1)
