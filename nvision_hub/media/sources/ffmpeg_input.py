"""Inputs of FFmpeg. Each is a URL or file on this machine, or an object that FFmpeg reads.

The hub makes all connections to cameras itself, for two reasons. FFmpeg cannot identify a camera
(`camera_connection.py`), and it would send the password to any address in a redirect (`rtsp_relay.py`).
"""

from __future__ import annotations

from http.client import HTTPException
from typing import TYPE_CHECKING, Protocol

from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_connection import OpenDeadline
from nvision_hub.media.sources.http_client import HttpCameraClient
from nvision_hub.media.sources.http_content import BEGINNING_BYTES, check_stream, media_type
from nvision_hub.media.sources.rtsp_client import describe_stream
from nvision_hub.media.sources.rtsp_relay import RtspRelay
from nvision_hub.media.sources.source import SourceError

if TYPE_CHECKING:
    from http.client import HTTPResponse

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust
    from nvision_hub.media.sources.rtp_loss import LossMarks
    from nvision_hub.media.sources.rtsp_transport import Transport


class FfmpegInput(Protocol):
    """One input. FFmpeg must close its side before the caller calls `close`."""

    failure: SourceError | None  # why the input ended; None if FFmpeg's own error explains the end
    fingerprint: str | None  # SHA-256 of the camera's certificate; None without TLS
    # The transport that the camera accepted; None before that and for sources other than RTSP.
    transport: Transport | None
    marks: LossMarks | None  # marks in place of lost packets; None for sources other than RTSP

    @property
    def awaits_datagrams(self) -> bool:
        """Whether the camera has promised to send media over UDP but no media has arrived."""

    @property
    def opened_by_ffmpeg(self) -> str | MjpegInput: ...

    @property
    def sent_basic(self) -> bool:
        """Whether the hub has sent the password to the camera with Basic authentication."""

    def on_opened(self) -> None:
        """Remove the time limit for reads. FFmpeg has detected the stream within the open timeout."""

    def abort(self) -> None:
        """Disconnect the camera, which makes FFmpeg's reads return. Any thread may call this method."""

    def close(self) -> None: ...


def open_input(camera: Camera, trust: CameraTrust, known: Transport | None, *, timeout_s: float) -> FfmpegInput:
    """Connect to the camera, and return the input. `known` is the RTSP transport of the last stream, if any.

    Raises `SourceError`.
    """
    match camera.address.kind:
        case "rtsp":
            return RtspRelay(describe_stream(camera, trust, timeout_s=timeout_s), known)
        case "mjpeg":
            return MjpegInput(camera, trust, timeout_s=timeout_s)
        case _:
            return FileInput(camera.address.dial())


class MjpegInput:
    """MJPEG over HTTP. FFmpeg reads this object like a file."""

    transport: Transport | None = None
    marks: LossMarks | None = None
    awaits_datagrams = False

    def __init__(self, camera: Camera, trust: CameraTrust, *, timeout_s: float) -> None:
        self.opened_by_ffmpeg = self
        self.failure: SourceError | None = None
        self._address = camera.address
        self._deadline: OpenDeadline | None = OpenDeadline(camera.address, timeout_s)
        self._client = HttpCameraClient(camera, trust)
        self._unread = b""  # the beginning of the body, for FFmpeg's first read
        self._is_empty = True  # whether no byte of the body has arrived
        try:
            self._response: HTTPResponse = self._client.get(self._deadline)
            try:
                self._check_content()
            except BaseException:
                self._response.close()
                raise
        except BaseException:
            self._client.close()
            raise
        self.fingerprint = self._client.fingerprint
        self.sent_basic = self._client.auth.sent_basic

    def _check_content(self) -> None:
        """Raise `SourceError` unless the response is an MJPEG stream."""
        kind = media_type(self._response.headers.get("Content-Type"))
        if kind.startswith("multipart/"):
            return
        while len(self._unread) < BEGINNING_BYTES and (more := self._receive(BEGINNING_BYTES)):
            self._unread += more
        if self.failure is not None and not self._unread:
            raise self.failure
        check_stream(self._address, kind, self._unread)

    def read(self, size_bytes: int) -> bytes:
        """Return the next bytes; empty at the end or if the camera fails."""
        if self._unread:
            data, self._unread = self._unread[:size_bytes], self._unread[size_bytes:]
        else:
            data = self._receive(size_bytes)
        if not data and self._is_empty and self.failure is None:
            self.failure = errors.ended_at_once(self._address)
        return data

    def _receive(self, size_bytes: int) -> bytes:
        """Return the next bytes from the camera; empty at the end or if the camera fails."""
        try:
            if self._deadline is not None:
                self._deadline.left_s()
            data = self._response.read1(size_bytes)
        except SourceError as error:
            self.failure = error
        except TimeoutError:
            self.failure = errors.stalled(self._address, self._deadline.timeout_s if self._deadline else 0)
        except (HTTPException, OSError, ValueError):  # the connection is closed, perhaps by `abort`
            self.failure = errors.ended(self._address)
        else:
            self._is_empty = self._is_empty and not data
            return data
        return b""

    def on_opened(self) -> None:
        self._deadline = None
        self._client.remove_deadline()

    def abort(self) -> None:
        self._client.abort()

    def close(self) -> None:
        self._response.close()
        self._client.close()


class FileInput:
    """A file on this machine."""

    failure: SourceError | None = None
    fingerprint: str | None = None
    transport: Transport | None = None
    marks: LossMarks | None = None
    awaits_datagrams = False
    sent_basic = False

    def __init__(self, path: str) -> None:
        self.opened_by_ffmpeg = path

    def on_opened(self) -> None: ...

    def abort(self) -> None: ...

    def close(self) -> None: ...
