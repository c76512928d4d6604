"""USB and CSI cameras, through OpenCV, which knows the machine's drivers best."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Any

from nvision_hub import opencv
from nvision_hub.status import CameraState
from workers.camera.source.source import Packet, SourceError, StreamFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config import Camera


class UsbSource:
    """A device of this machine. Grabbing a picture is its packet; retrieving it is its decoding."""

    def __init__(self, camera: Camera) -> None:
        cv2 = opencv.load()
        place = camera.address.place
        self._shown = camera.address.shown
        device = place if place.startswith("/") else f"/dev/video{place}"
        if not os.path.exists(device):  # noqa: PTH110 - a device is no file to make a Path of
            raise SourceError(CameraState.NOT_FOUND, f"{device} is not there; plug the camera in, or correct its `url`")
        self._capture = cv2.VideoCapture(device if place.startswith("/") else int(place), cv2.CAP_V4L2)
        if not self._capture.isOpened():
            raise SourceError(
                CameraState.UNREACHABLE,
                f"{device} cannot be opened; another program may use it, or this user may lack the group `video`",
            )
        self._capture.set(cv2.CAP_PROP_BUFFERSIZE, 1)  # the newest picture, not the driver's queue
        self.facts = StreamFacts(
            codec="raw",
            width=int(self._capture.get(cv2.CAP_PROP_FRAME_WIDTH)) or None,
            height=int(self._capture.get(cv2.CAP_PROP_FRAME_HEIGHT)) or None,
            fps=float(self._capture.get(cv2.CAP_PROP_FPS)) or None,
        )

    def packets(self) -> Iterator[Packet]:
        """One per picture that the driver has ready."""
        while self._capture.grab():
            yield Packet(
                payload=None, arrived=time.monotonic(), media_s=None, keyframe=True, size_bytes=0, lasting=False
            )
        raise SourceError(CameraState.UNREACHABLE, f"{self._shown} gives no more pictures; check its cable")

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:  # noqa: ARG002 - no saving
        """The picture that was grabbed last, as BGR."""
        good, picture = self._capture.retrieve()
        return [(packet.media_s, picture)] if good else []

    def decode_alone(self, packet: Packet) -> Any | None:
        """The picture that was grabbed last."""
        pictures = self.decode(packet)
        return pictures[0][1] if pictures else None

    def close(self) -> None:
        """Let go of the device."""
        self._capture.release()
