"""Encode stage: encodes due frames as JPEG and puts them into the latest-frame slot. Runs in the capture thread."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from nvision_hub.media.encode.jpeg_encoder import EncodeError, JpegEncoder
from nvision_hub.metrics import catalogue
from workers.camera.latest_frame import EncodedFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.config.models import Camera
    from nvision_hub.metrics.meter import Meter


class EncodeStage:
    """Encode stage of one camera. `deliver` stores a frame and returns the number of unsent frames that it replaced."""

    def __init__(self, camera: Camera, meter: Meter, deliver: Callable[[EncodedFrame], int]) -> None:
        self._meter = meter
        self._deliver = deliver
        self.encoder = JpegEncoder(quality=camera.jpeg_quality, max_width=camera.max_width, masks=camera.masks)
        self.encoded = float("-inf")  # monotonic time of the last successful encoding
        self.error: str | None = None  # why the last frame could not be encoded; None after a success

    def push(self, frame: Any, at: float, is_behind: bool) -> None:  # noqa: FBT001 - as `DecodePipeline` calls it
        """Encode and deliver a frame captured at `at` (monotonic).

        `is_behind` says whether the frame is late because of a pre-roll.
        """
        try:
            jpeg = self.encoder.encode(frame)
        except EncodeError as error:
            self.error = str(error)
            self._meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="broken")
            return
        self.encoded, self.error = time.monotonic(), None
        captured_at = time.time() - (self.encoded - at)
        self._meter.set_gauge(catalogue.LAST_FRAME_TIMESTAMP_SECONDS, captured_at)
        encoded = EncodedFrame(
            jpeg=jpeg.data,
            width=jpeg.width,
            height=jpeg.height,
            captured_mono=at,
            captured_at=captured_at,
            behind=is_behind,
        )
        if overwritten := self._deliver(encoded):
            self._meter.count(catalogue.FRAMES_DROPPED_TOTAL, by=overwritten, reason="overwritten")
