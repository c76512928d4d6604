"""Where packets come from: one file per kind of camera, all behind `Source`; `open_source` picks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workers.camera.source.snapshot import SnapshotSource
from workers.camera.source.source import Packet, Source, SourceError, StreamFacts
from workers.camera.source.stream import OPEN_WITHIN_S, StreamSource
from workers.camera.source.usb import UsbSource

if TYPE_CHECKING:
    from nvision_hub.config import Camera

__all__ = ["OPEN_WITHIN_S", "Packet", "Source", "SourceError", "StreamFacts", "open_source"]


def open_source(camera: Camera) -> Source:
    """Connect to the camera. Raises `SourceError`, and `UnavailableError` where a library is missing."""
    match camera.address.kind:
        case "usb":
            return UsbSource(camera)
        case "snapshot":
            return SnapshotSource(camera)
        case _:
            return StreamSource(camera)
