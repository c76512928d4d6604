"""Transport of RTSP media: which one the relay requests, and what a refusal means. Performs no I/O.

With `transport: auto`, the relay requests TCP first. If the camera refuses TCP with status 461 (RFC 2326, 11.3.16), the
relay requests UDP on the same connection. Some servers refuse TCP with status 400 instead. The hub remembers the
transport of the last stream and requests it first.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, Literal

from nvision_hub.media.sources.source import SourceError
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.config.models import Camera

Transport = Literal["tcp", "udp"]

_BAD_REQUEST, _UNSUPPORTED_TRANSPORT = 400, 461
REFUSES_TRANSPORT: Final = frozenset({_BAD_REQUEST, _UNSUPPORTED_TRANSPORT})
_VIDEO_PROFILE: Final = re.compile(rb"^m=video \S+ (\S+)", re.MULTILINE)


def requested(camera: Camera, known: Transport | None) -> list[Transport]:
    """Return the transports to request in order. `known` is the transport of the last stream, if any."""
    if camera.address.is_encrypted:  # UDP would not encrypt the media
        return ["tcp"]
    if camera.transport != "auto":
        return [camera.transport]
    return ["udp", "tcp"] if known == "udp" else ["tcp", "udp"]


def chosen_transport(headers: Iterable[str]) -> Transport:
    """Return the transport in the Transport headers of a successful SETUP response."""
    return "tcp" if any("/TCP" in header.upper() or "INTERLEAVED" in header.upper() for header in headers) else "udp"


def is_cause(camera: Camera, method: str, status: int) -> bool:
    """Return whether a camera refused a request because of the transport.

    With `auto`, a status of 400 has another cause.
    """
    if status == _BAD_REQUEST:
        return method == "SETUP" and camera.transport != "auto" and not camera.address.is_encrypted
    return status == _UNSUPPORTED_TRANSPORT


def refused(camera: Camera, description: bytes, status: int) -> SourceError:
    """Return the error for a camera that refuses the requested transports. `description` is its SDP."""
    shown, setting = camera.address.shown, camera.transport
    profiles = _VIDEO_PROFILE.findall(description)
    if profiles and all(profile.startswith(b"RTP/SAVP") for profile in profiles):
        sentence = (
            f"{shown} sends only encrypted media (SRTP), which the hub cannot read; turn SRTP off in the camera; "
            "if the camera has rtsps://, use it to encrypt the stream"
        )
    elif camera.address.is_encrypted:
        sentence = (
            f"{shown} refuses to send its media over the encrypted connection (461); set the camera to RTP over TCP, "
            "or write rtsp:// in place of rtsps://, which leaves the video unencrypted"
        )
    elif setting == "auto":
        sentence = (
            f"{shown} refuses unicast over TCP and over UDP (461), so it probably sends only multicast, which the hub "
            "cannot read; set the camera to unicast"
        )
    else:
        other = "udp" if setting == "tcp" else "tcp"
        sentence = (
            f"{shown} refuses RTP over {setting.upper()} ({status}); set `transport: {other}` of this camera, or "
            "`transport: auto`, which tries both"
        )
    return SourceError(CameraState.UNSUPPORTED, sentence)


def no_media_over_udp(camera: Camera, waited_s: float) -> SourceError:
    """Return the error for a camera that accepts UDP but sends no packets."""
    advice = ", or set `transport: auto` of this camera" if camera.transport == "udp" else ""
    return SourceError(
        CameraState.STALLED,
        f"{camera.address.shown} has sent no packet over UDP for {waited_s:.0f} s; let UDP packets of the camera pass "
        f"all firewalls{advice}",
    )
