"""HTTP cameras with a wrong URL, redirects and truncated JPEGs: the error names the cause and the fix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

import pytest

from tests.support import clips

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.scripted_camera import ScriptedCamera
    from tests.support.watching import Watching

CLIP: Final = clips.ClipSpec(codec="mjpeg", width=640, height=360, seconds=4)
MULTIPART: Final = b"Content-Type: multipart/x-mixed-replace; boundary=frame"
PAGE: Final = b"<!DOCTYPE html>\n<html><body>Camera</body></html>\n"
PLAYLIST: Final = b"#EXTM3U\n#EXT-X-VERSION:3\nlow.m3u8\n"


class Case(NamedTuple):
    """A camera's response, and the state and the words of the error that it causes."""

    headers: tuple[bytes, ...]
    body: bytes
    state: str
    words: str


STREAMS: Final = {
    "page": Case(
        (b"Content-Type: text/html",), PAGE, "not_found", "sends a web page or text instead of video; correct"
    ),
    "page without a type": Case((), PAGE, "not_found", "sends a web page or text instead of video; correct the path"),
    "nothing": Case((b"Content-Length: 0",), b"", "not_found", "sends an empty response; correct the path"),
    "headers only": Case((MULTIPART,), b"", "unreachable", "ended the stream before the first frame; check that"),
    "playlist": Case(
        (b"Content-Type: application/vnd.apple.mpegurl",), PLAYLIST, "unsupported", "sends a playlist (HLS or DASH)"
    ),
    "movie": Case(
        (b"Content-Type: video/mp4",), b"\0\0\0\x20ftypisom", "unsupported", "not MJPEG (video/mp4); correct"
    ),
    "one JPEG": Case(
        (b"Content-Type: image/jpeg",),
        clips.access_units(CLIP)[0],
        "unsupported",
        "write snapshot+http:// in place of http://",
    ),
}
SNAPSHOTS: Final = {
    "page": STREAMS["page"],
    "nothing": STREAMS["nothing"],
    "image": Case((b"Content-Type: image/png",), b"\x89PNG\r\n", "unsupported", "not JPEG (image/png); correct"),
    "stream": Case((MULTIPART,), b"--frame\r\n", "unsupported", "write http:// in place of snapshot+http://"),
}


@pytest.mark.parametrize(
    ("scheme", "case"),
    [*(("http", each) for each in STREAMS.items()), *(("snapshot+http", each) for each in SNAPSHOTS.items())],
    ids=lambda each: each if isinstance(each, str) else each[0],
)
def test_the_error_names_what_the_url_contains(
    scripted_camera: Callable[..., ScriptedCamera],
    watch: Callable[..., Watching],
    scheme: str,
    case: tuple[str, Case],
) -> None:
    _, expected = case
    camera = scripted_camera(b"200 OK", *expected.headers, body=expected.body, closes=True)
    _, sentence = watch(f"{scheme}://127.0.0.1:{camera.port}/video").wait_for_state(expected.state)
    assert expected.words in sentence


@pytest.mark.parametrize("scheme", ["http", "snapshot+http"])
@pytest.mark.parametrize(
    ("status", "error"),
    [
        (b"204 No Content", ("not_found", "responds without content (204); correct the path")),
        (b"403 Forbidden", ("auth_failed", "refuses access (403); if the camera needs a login, set `username`")),
        (b"400 Bad Request", ("not_found", "rejects the request (400); correct the path")),
        (b"503 Busy", ("unreachable", "refused the stream (503); the camera may have reached its limit of viewers")),
    ],
)
def test_the_error_names_the_status(
    scripted_camera: Callable[..., ScriptedCamera],
    watch: Callable[..., Watching],
    scheme: str,
    status: bytes,
    error: tuple[str, str],
) -> None:
    state, words = error
    camera = scripted_camera(status, b"Content-Length: 0")
    _, sentence = watch(f"{scheme}://127.0.0.1:{camera.port}/video").wait_for_state(state)
    assert words in sentence


@pytest.mark.parametrize("auth", ["basic", "digest"])
@pytest.mark.parametrize("scheme", ["http", "snapshot+http"])
@pytest.mark.parametrize("is_absolute", [False, True])
def test_a_redirect_on_the_camera_itself_is_followed(
    http_camera: Callable[..., HttpCamera],
    watch: Callable[..., Watching],
    scheme: str,
    auth: str,
    *,
    is_absolute: bool,
) -> None:
    camera = http_camera(user="viewer", password="right", auth=auth)
    path = "/stream.mjpg" if scheme == "http" else "/snapshot.jpg"
    camera.redirects["/video"] = camera.url(path, credentials=False) if is_absolute else path
    watching = watch(f"{scheme}://127.0.0.1:{camera.port}/video", username="viewer", password="right")
    watching.wait_for(2)
    assert {state for _, state, _ in watching.states} <= {"connecting", "streaming"}


def test_a_redirect_loop_ends(http_camera: Callable[..., HttpCamera], watch: Callable[..., Watching]) -> None:
    camera = http_camera()
    camera.redirects["/video"] = "/video"
    _, sentence = watch(camera.url("/video")).wait_for_state("not_found")
    assert "redirects too often" in sentence
    assert len(camera.requests) == 4


def test_a_redirect_to_https_is_reported(
    http_camera: Callable[..., HttpCamera], watch: Callable[..., Watching]
) -> None:
    camera = http_camera()
    camera.redirects["/video"] = "https://127.0.0.1/video"
    _, sentence = watch(camera.url("/video")).wait_for_state("not_found")
    assert "accepts only encrypted connections; write https:// in place of http:// in this camera's `url`" in sentence


@pytest.mark.long
@pytest.mark.parametrize("path", ["/snapshot.jpg", "/stream.mjpg"])
def test_truncated_jpegs_are_counted_and_not_sent(
    http_camera: Callable[..., HttpCamera], watch: Callable[..., Watching], path: str
) -> None:
    camera = http_camera()
    camera.cut_to = len(min(camera.frames, key=len)) // 2
    scheme = "snapshot+" if path == "/snapshot.jpg" else ""
    watching = watch(scheme + camera.url(path), fps=20, stall_timeout=1)
    _, sentence = watching.wait_for_state("unsupported")
    assert "the camera sends JPEGs that end too early; check the network connection to the camera" in sentence
    assert watching.frames == []
    assert watching.dropped("broken") > 1
    camera.cut_to = None
    watching.wait_for(2)
