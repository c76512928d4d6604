"""Cameras that give one JPEG per request: asked at the camera's rate, each answer a packet that is its picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx2

from nvision_hub.status import CameraState
from workers.camera.source.source import Packet, SourceError, StreamFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config import Camera

_JPEG_STARTS: Final = b"\xff\xd8"


class SnapshotSource:
    """A camera that is asked for every picture. Redirects are not followed: they could lead away from it."""

    def __init__(self, camera: Camera) -> None:
        self._address = camera.address
        self._period_s = 1 / camera.fps
        url = urlsplit(camera.address.dial())
        bare = url._replace(netloc=url.netloc.rpartition("@")[2]).geturl()
        self._url = bare
        self._user = camera.address.username
        self._password = camera.address.password.reveal() if camera.address.password else ""
        self._client = httpx2.Client(timeout=camera.stall_timeout, follow_redirects=False, trust_env=False)
        if self._user is not None:
            self._client.auth = httpx2.BasicAuth(self._user, self._password)
        self.facts = StreamFacts(codec="jpeg", width=None, height=None, fps=camera.fps)
        self._first: bytes | None = self._get()

    def packets(self) -> Iterator[Packet]:
        """One answer per period; the next request waits for the time it is due, never for a backlog."""
        due = time.monotonic()
        while True:
            picture, self._first = self._first or self._get(), None
            yield Packet(
                payload=picture, arrived=time.monotonic(), media_s=None, keyframe=True, size_bytes=len(picture)
            )
            due = max(due + self._period_s, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _get(self) -> bytes:
        where = self._address.shown
        try:
            answer = self._client.get(self._url)
            if answer.status_code == httpx2.codes.UNAUTHORIZED and isinstance(self._client.auth, httpx2.BasicAuth):
                # Most cameras want the one or the other and say which only by refusing.
                self._client.auth = httpx2.DigestAuth(self._user or "", self._password)
                answer = self._client.get(self._url)
        except httpx2.TimeoutException as error:
            raise SourceError(CameraState.STALLED, f"{where} does not answer; check the camera") from error
        except httpx2.HTTPError as error:
            raise SourceError(
                CameraState.UNREACHABLE, f"nobody answers at {where}; check the address and that the camera is on"
            ) from error
        match answer.status_code:
            case 200:
                pass
            case 401 | 403:
                raise SourceError(
                    CameraState.AUTH_FAILED,
                    f"{where} refused the user name or password; correct `username` and `password` of this camera",
                )
            case 404:
                raise SourceError(CameraState.NOT_FOUND, f"{where} does not exist there; correct this camera's `url`")
            case code if answer.is_redirect:
                raise SourceError(
                    CameraState.NOT_FOUND, f"{where} answers with a redirect ({code}); name the final address instead"
                )
            case code:
                raise SourceError(CameraState.UNREACHABLE, f"{where} answers {code}")
        if not answer.content.startswith(_JPEG_STARTS):
            raise SourceError(CameraState.UNSUPPORTED, f"{where} answers with something that is no JPEG")
        return answer.content

    def decode(self, packet: Packet) -> list[tuple[float | None, Any]]:
        """The packet is its picture."""
        return [(None, packet.payload)]

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
