"""Source for cameras that send one JPEG per HTTP request. Each response is both a packet and its frame."""

from __future__ import annotations

import contextlib
import time
from http.client import HTTPException
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_connection import OpenDeadline
from nvision_hub.media.sources.http_client import HttpCameraClient
from nvision_hub.media.sources.http_content import BEGINNING_BYTES, check_snapshot, media_type
from nvision_hub.media.sources.source import Packet, SourceError, StreamFacts, uninterrupted
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust
    from nvision_hub.media.sources.source import Wait

_MAX_BODY_BYTES: Final = 32 * 2**20
_READ_BYTES: Final = 2**16


class SnapshotSource:
    """Source that polls a camera at its `fps`."""

    def __init__(self, camera: Camera, trust: CameraTrust, *, wait: Wait = uninterrupted) -> None:
        self._wait = wait
        self._address = camera.address
        self._period_s = 1 / camera.fps
        self._timeout_s = camera.stall_timeout
        self._client = HttpCameraClient(camera, trust)
        try:
            self._first: bytes | None = self._get()
        except BaseException:
            self._client.close()
            raise
        self.facts = StreamFacts(
            codec="jpeg",
            width=None,
            height=None,
            fps=camera.fps,
            certificate=self._client.fingerprint,
            sends_plain_password=self._client.auth.sent_basic and not camera.address.is_encrypted,
        )

    def packets(self) -> Iterator[Packet]:
        """Yield one response per period until a wait is interrupted. After a slow response, skip the missed periods."""
        due = time.monotonic()
        while True:
            jpeg, self._first = self._first or self._get(), None
            yield Packet(payload=jpeg, arrived=time.monotonic(), media_s=None, keyframe=True, size_bytes=len(jpeg))
            due = max(due + self._period_s, time.monotonic())
            if self._wait(max(0.0, due - time.monotonic())):
                return

    def _get(self) -> bytes:
        """Return the camera's JPEG.

        Raises `SourceError` on failure, or if the body is late, too large or not a JPEG.
        """
        address, body = self._address, bytearray()
        deadline = OpenDeadline(address, self._timeout_s)
        response = self._client.get(deadline)
        with contextlib.closing(response):  # does not close the connection
            kind = media_type(response.headers.get("Content-Type"))
            if kind.startswith("multipart/"):  # a multipart body may never end
                check_snapshot(address, kind, b"")
            try:
                while piece := response.read1(_READ_BYTES):
                    body += piece
                    if len(body) > _MAX_BODY_BYTES:
                        raise SourceError(
                            CameraState.UNSUPPORTED,
                            f"{address.shown} sends more than {_MAX_BODY_BYTES >> 20} MiB for one frame; "
                            "if the camera sends a stream, remove `snapshot+` from this camera's `url`",
                        )
                    deadline.left_s()  # raises an error after the deadline
            except TimeoutError as error:
                raise errors.stalled(address, self._timeout_s) from error
            except (HTTPException, OSError) as error:
                raise errors.incomplete(address) from error
            length = response.length  # number of missing bytes
        if length:
            raise errors.incomplete(address)
        check_snapshot(address, kind, bytes(body[:BEGINNING_BYTES]))
        return bytes(body)

    def decode(self, packet: Packet, **_: bool) -> list[tuple[float | None, Any]]:
        return [(None, packet.payload)]

    def close(self) -> None:
        self._client.close()
