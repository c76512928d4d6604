"""Kinds of content in HTTP responses, to recognize wrong URLs. Performs no I/O.

A wrong path on a camera often returns other content: a web page, one JPEG, or a playlist. The bytes determine the kind.
The Content-Type matters only if the bytes do not decide, because many cameras send a wrong type.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from nvision_hub.media.sources.source import SourceError
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from nvision_hub.config.camera_address import CameraAddress

ContentKind = Literal["stream", "jpeg", "playlist", "page", "nothing", "other"]

BEGINNING_BYTES: Final = 64  # enough to recognize every kind
_JPEG_START: Final = b"\xff\xd8"
_BOUNDARY_START: Final = b"--"  # start of a multipart body (RFC 2046, 5.1.1)
_PLAYLIST: Final = re.compile(r"mpegurl|dash\+xml|smooth")
_TEXT: Final = re.compile(r"text/|application/(json|xml|xhtml)")
_MEDIA_TYPE: Final = re.compile(r"[a-z0-9][a-z0-9.+-]{0,40}/[a-z0-9][a-z0-9.+-]{0,40}")
_PLAIN_STREAM: Final = {"snapshot+http": "http", "snapshot+https": "https"}


def media_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type header in lowercase; empty if the header is missing or malformed."""
    found = _MEDIA_TYPE.match((content_type or "").strip().lower())
    return found[0] if found else ""


def content_kind(declared: str, beginning: bytes) -> ContentKind:
    """Return the kind of content in a response. `declared` is the media type, and `beginning` the first bytes."""
    begin = beginning.lstrip()
    if beginning.startswith(_JPEG_START):
        return "jpeg"
    if begin.startswith(_BOUNDARY_START) or declared.startswith("multipart/"):
        return "stream"
    if not begin:
        return "nothing"
    if begin.startswith((b"#EXTM3U", b"<MPD", b"<SmoothStreamingMedia")) or _PLAYLIST.search(declared):
        return "playlist"
    if begin.startswith((b"<", b"{")) or _TEXT.match(declared):
        return "page"
    return "other"


def check_stream(address: CameraAddress, declared: str, beginning: bytes) -> None:
    """Raise `SourceError` unless a response to an MJPEG camera's URL is a stream of JPEGs."""
    match content_kind(declared, beginning):
        case "stream":
            return
        case "jpeg":
            raise SourceError(
                CameraState.UNSUPPORTED,
                f"{address.shown} sends one JPEG per request instead of a stream; write snapshot+{address.scheme}:// "
                f"in place of {address.scheme}:// in this camera's `url`",
            )
        case wrong:
            raise _wrong(address, wrong, declared, expected="MJPEG")


def check_snapshot(address: CameraAddress, declared: str, beginning: bytes) -> None:
    """Raise `SourceError` unless a response to a snapshot camera's URL is a JPEG."""
    match content_kind(declared, beginning):
        case "jpeg":
            return
        case "stream":
            plain = _PLAIN_STREAM.get(address.scheme, address.scheme)
            raise SourceError(
                CameraState.UNSUPPORTED,
                f"{address.shown} sends a stream instead of one JPEG per request; write {plain}:// in place of "
                f"{address.scheme}:// in this camera's `url`",
            )
        case wrong:
            raise _wrong(address, wrong, declared, expected="JPEG")


def _wrong(address: CameraAddress, wrong: ContentKind, declared: str, *, expected: str) -> SourceError:
    match wrong:
        case "nothing":
            return SourceError(
                CameraState.NOT_FOUND,
                f"{address.shown} sends an empty response; correct the path in this camera's `url`, and check that the "
                "camera's video is on",
            )
        case "playlist":
            return SourceError(
                CameraState.UNSUPPORTED,
                f"{address.shown} sends a playlist (HLS or DASH), which the hub cannot read; use the camera's RTSP, "
                "MJPEG or snapshot address as this camera's `url`",
            )
        case "page":
            return SourceError(
                CameraState.NOT_FOUND,
                f"{address.shown} sends a web page or text instead of video; correct the path in this camera's `url`",
            )
        case _:
            named = f" ({declared})" if declared else ""
            return SourceError(
                CameraState.UNSUPPORTED,
                f"{address.shown} sends something that is not {expected}{named}; correct the path in this camera's "
                "`url`, or use the camera's RTSP address",
            )
