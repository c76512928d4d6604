"""Cameras that give one JPEG per request: asked at the camera's rate, each answer a packet that is its picture."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import httpx2

from nvision_hub.status import CameraState
from workers.camera.source import faults
from workers.camera.source.source import Packet, SourceError, StreamFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config import Camera

_JPEG_STARTS: Final = b"\xff\xd8"
_BODY_MAX_BYTES: Final = 32 * 2**20


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
        self._client = httpx2.Client(
            timeout=camera.stall_timeout,
            follow_redirects=False,
            trust_env=False,
            headers={"Accept-Encoding": "identity"},  # a JPEG does not shrink, and what unpacks may unpack without end
        )
        self._within_s = camera.stall_timeout
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
        address, deadline = self._address, time.monotonic() + self._within_s
        try:
            status, headers, body = self._ask(deadline)
            if status == httpx2.codes.UNAUTHORIZED and self._user is not None and self._client.auth is None:
                # Asked without a password first, the camera says how it wants it; a wrong one then costs one try.
                self._client.auth = self._authorization(headers)
                status, headers, body = self._ask(deadline)
        except httpx2.TimeoutException as error:
            raise faults.silent(address, self._within_s) from error
        except httpx2.ConnectError as error:
            raise faults.nobody(address) from error
        except httpx2.HTTPError as error:
            raise faults.away(address) from error
        match status:
            case 200:
                pass
            case 401 | 403:
                raise faults.refused(address)
            case 404 | 410:
                raise faults.not_there(address)
            case code if 300 <= code < 400:  # noqa: PLR2004 - redirects (RFC 9110, 15.4)
                raise faults.moved(address)
            case code:
                raise faults.busy(address, code)
        if not body.startswith(_JPEG_STARTS):
            raise SourceError(CameraState.UNSUPPORTED, f"{address.shown} answers with something that is no JPEG")
        return body

    def _ask(self, deadline: float) -> tuple[int, httpx2.Headers, bytes]:
        """Status, headers and body. A body that comes in drips or never ends is given up, not waited for."""
        with self._client.stream("GET", self._url) as answer:
            body = bytearray()
            if answer.status_code == httpx2.codes.OK:
                for piece in answer.iter_raw():
                    body += piece
                    if len(body) > _BODY_MAX_BYTES:
                        raise SourceError(
                            CameraState.UNSUPPORTED,
                            f"{self._address.shown} sends more than {_BODY_MAX_BYTES >> 20} MiB for one picture; "
                            "is it a stream? Then leave `snapshot+` out of this camera's `url`",
                        )
                    if time.monotonic() > deadline:
                        raise faults.silent(self._address, self._within_s)
            return answer.status_code, answer.headers, bytes(body)

    def _authorization(self, headers: httpx2.Headers) -> httpx2.Auth:
        challenges = " ".join(headers.get_list("www-authenticate")).lower()
        if "digest" in challenges:
            return httpx2.DigestAuth(self._user or "", self._password)
        return httpx2.BasicAuth(self._user or "", self._password)

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:  # noqa: ARG002 - no saving
        """The packet is its picture."""
        return [(None, packet.payload)]

    def decode_alone(self, packet: Packet) -> Any | None:
        """The packet is its picture."""
        return packet.payload

    def close(self) -> None:
        """Close the connection."""
        self._client.close()
