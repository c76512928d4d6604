"""What is done to one picture for somebody who asked for it: boxes drawn, or encoded again to see what it would cost.

Pure, and slow enough for a thread of its own. Knows neither cameras nor HTTP.
"""

from __future__ import annotations

import colorsys
import json
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
import simplejpeg

from nvision_hub import opencv

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER_LENGTH_BYTES: Final = 4
_QUALITY: Final = 90
_SECONDS_AN_HOUR: Final = 3600
_HOURS_A_DAY: Final = 24


@dataclass(frozen=True, kw_only=True)
class Picture:
    """One preview as a camera has published it. `width` and `height` are those of the picture that was sent."""

    frame_id: str
    width: int
    height: int
    jpeg: bytes

    @classmethod
    def of(cls, record: bytes) -> Picture:
        """From the channel. Raises `ValueError` for a record that is none."""
        end = HEADER_LENGTH_BYTES + int.from_bytes(record[:HEADER_LENGTH_BYTES])
        try:
            header = json.loads(record[HEADER_LENGTH_BYTES:end])
            return cls(
                frame_id=str(header["frame_id"]),
                width=int(header["width"]),
                height=int(header["height"]),
                jpeg=record[end:],
            )
        except (TypeError, KeyError) as error:
            raise ValueError("not a preview") from error

    @property
    def whole(self) -> bool:
        """Whether it has all the pixels that were sent; one that cannot be read is taken for whole."""
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(self.jpeg)
        except ValueError:
            return True
        return (width, height) == (self.width, self.height)


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a picture would be with other settings."""

    width: int
    height: int
    jpeg_bytes: int

    def per_hour(self, fps: float) -> int:
        """Bytes."""
        return round(self.jpeg_bytes * fps * _SECONDS_AN_HOUR)

    @staticmethod
    def images_per_day(fps: float) -> int:
        """Pictures sent, and charged for."""
        return round(fps * _SECONDS_AN_HOUR * _HOURS_A_DAY)


def encoded_again(jpeg: bytes, *, quality: int, max_width: int | None) -> Cost:
    """The picture scaled and encoded as a camera's worker does it. Raises `ValueError` for one that cannot be read."""
    pixels = simplejpeg.decode_jpeg(jpeg, "RGB")
    height, width = pixels.shape[:2]
    if max_width is not None and width > max_width:
        # Even, since colours are stored for two pixels by two.
        width, height = max_width // 2 * 2, max(2, round(height * max_width / width / 2) * 2)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(width, height)
        pixels = frame.to_ndarray()
    again = simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420")
    return Cost(width=width, height=height, jpeg_bytes=len(again))


def drawn(picture: Picture, detections: Sequence[dict[str, Any]]) -> bytes:
    """The picture with a box and a name for each detection. Raises `UnavailableError` without OpenCV."""
    cv2 = opencv.load()
    image = cv2.imdecode(np.frombuffer(picture.jpeg, np.uint8), cv2.IMREAD_COLOR)
    if image is None:
        raise ValueError("not a picture that OpenCV reads")
    thick = max(1, round(image.shape[1] / 640))
    for found in detections:
        box = found["bounding_box"]
        colour = _colour(str(found["name"]))
        corner = int(box["left"]), int(box["top"])
        cv2.rectangle(image, corner, (int(box["right"]), int(box["bottom"])), colour, 2 * thick)
        label = f"{found['name']} {100 * float(found['confidence']):.0f}%"
        (wide, high), below = cv2.getTextSize(label, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick, thick)
        foot = max(corner[1], high + below)
        cv2.rectangle(image, (corner[0], foot - high - below), (corner[0] + wide, foot), colour, cv2.FILLED)
        place = (corner[0], foot - below)
        cv2.putText(image, label, place, cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thick, (255, 255, 255), thick, cv2.LINE_AA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _colour(name: str) -> tuple[int, int, int]:
    """Always the same for one name, and dark enough for white text on it."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(name.encode()) % 360 / 360, 0.9, 0.7)
    return round(255 * blue), round(255 * green), round(255 * red)
