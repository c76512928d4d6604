"""Camera sources: one module per kind of camera, all behind the `Source` protocol."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from nvision_hub.media.sources.camera_trust import CameraTrust, KnownCertificates
from nvision_hub.media.sources.ffmpeg_stream import MAX_OPEN_TIMEOUTS, OPEN_TIMEOUT_S, StreamSource
from nvision_hub.media.sources.onvif.stream_choice import MAX_ONVIF_TIMEOUTS, choose_stream
from nvision_hub.media.sources.snapshot import SnapshotSource
from nvision_hub.media.sources.source import Packet, Source, SourceError, StreamFacts, Wait, uninterrupted
from nvision_hub.media.sources.usb import UsbSource

if TYPE_CHECKING:
    from nvision_hub.config.models import Camera

__all__ = [
    "MAX_ONVIF_TIMEOUTS",
    "MAX_OPEN_TIMEOUTS",
    "OPEN_TIMEOUT_S",
    "CameraTrust",
    "KnownCertificates",
    "Packet",
    "Source",
    "SourceError",
    "StreamFacts",
    "Wait",
    "open_source",
]


def open_source(camera: Camera, *, trust: CameraTrust | None = None, wait: Wait = uninterrupted) -> Source:
    """Connect to the camera and return its source.

    `trust` is what the caller has learned about the camera so far (by default nothing).
    The source waits by calling `wait`. After `wait` returns True, the source yields no more packets. Raises
    `SourceError` if the camera cannot be opened, and `UnavailableError` if a library is missing.
    """
    trust = trust or CameraTrust()
    match camera.address.kind:
        case "usb":
            return UsbSource(camera)
        case "snapshot":
            return SnapshotSource(camera, trust, wait=wait)
        case "onvif":
            return _open_onvif(camera, trust, wait)
        case _:
            return StreamSource(camera, trust, wait=wait)


def _open_onvif(camera: Camera, trust: CameraTrust, wait: Wait) -> Source:
    chosen = choose_stream(camera, trust, timeout_s=max(OPEN_TIMEOUT_S, camera.stall_timeout))
    source = StreamSource(chosen.camera, trust, wait=wait)
    is_plain = source.facts.sends_plain_password or chosen.sends_plain_password
    source.facts = replace(source.facts, profile=chosen.profile.shown, sends_plain_password=is_plain)
    return source
