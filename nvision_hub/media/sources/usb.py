"""Source for USB and CSI cameras. It uses OpenCV, which supports the most drivers."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from nvision_hub.media import cv2_loader
from nvision_hub.media.sources.source import Packet, SourceError, StreamFacts
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.models import Camera


class UsbSource:
    """Camera device on this machine. Grabbing a frame reads a packet, and retrieving the frame decodes it."""

    def __init__(self, camera: Camera) -> None:
        cv2 = cv2_loader.load()
        place = camera.address.path
        self._shown = camera.address.shown
        device = place if place.startswith("/") else f"/dev/video{place}"
        if not os.path.exists(device):  # noqa: PTH110 - a device path
            raise SourceError(
                CameraState.NOT_FOUND, f"{device} does not exist; plug the camera in, or correct its `url`"
            )
        self._capture = cv2.VideoCapture(device if place.startswith("/") else int(place), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(
                CameraState.UNREACHABLE,
                f"{device} cannot be opened; close other programs that use it, or add this user to the group `video`",
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # makes reads return the newest frame
        self.facts = StreamFacts(
            codec="raw",
            width=int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)) or None,
            height=int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) or None,
            fps=float(self._capture.get(cv2.CAP_PROP_FPS)) or None,
        )

    def packets(self) -> Iterator[Packet]:
        while self._capture.grab():
            yield Packet(
                payload=None, arrived=time.monotonic(), media_s=None, keyframe=True, size_bytes=0, lasting=False
            )
        raise SourceError(CameraState.UNREACHABLE, f"{self._shown} delivers no more frames; check its cable")

    def decode(self, packet: Packet, **_: bool) -> list[tuple[float | None, Any]]:
        """Return the last grabbed frame as BGR pixels."""
        ok, frame = self._capture.retrieve()
        return [(packet.media_s, frame)] if ok else []

    def close(self) -> None:
        self._capture.release()
