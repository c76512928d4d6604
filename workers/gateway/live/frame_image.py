"""Image operations: draw boxes on a frame, or encode a frame with other settings to estimate its size.

The functions perform no I/O but are slow, so callers run them in a thread. A decoded frame needs several bytes per
pixel, so callers decode only one frame at a time.
"""

from __future__ import annotations

import colorsys
import zlib
from typing import TYPE_CHECKING, Annotated, Final

import av
import numpy as np
import simplejpeg
from pydantic import BaseModel, Field, StrictInt

from nvision_hub.media import cv2_loader

if TYPE_CHECKING:
    from collections.abc import Sequence

HEADER_LENGTH_BYTES: Final = 4
# More pixels than an 8K frame. A JPEG of a few kilobytes can claim any size, for which a decoder would reserve memory.
MAX_DECODED_PIXELS: Final = 2**25
_MAX_EXACT_PIXELS: Final = 2**23  # more pixels than a 4K frame; larger frames are decoded at a fraction of their size
_QUALITY: Final = 90
_WHITE: Final = (255, 255, 255)
_MAX_TEXT: Final = 256  # characters per text
_MAX_DETECTIONS: Final = 10_000

Pixels = Annotated[StrictInt, Field(gt=0, le=65_535)]  # a JPEG has at most 65,535 pixels per side (T.81, B.2.2)
Coordinate = Annotated[float, Field(ge=-1e6, le=1e6, allow_inf_nan=False)]


class FrameImage(BaseModel):
    """One preview of a camera. `width` and `height` are the size of the frame that the worker sent to the service."""

    frame_id: Annotated[str, Field(max_length=_MAX_TEXT)]
    width: Pixels
    height: Pixels
    captured_at: Annotated[float, Field(allow_inf_nan=False)] | None = None  # seconds since the epoch
    jpeg: bytes = b""

    @classmethod
    def decode(cls, record: bytes) -> FrameImage:
        """Decode a record of the preview channel. Raises `ValueError` if the record is malformed."""
        end = HEADER_LENGTH_BYTES + int.from_bytes(record[:HEADER_LENGTH_BYTES])
        header = cls.model_validate_json(record[HEADER_LENGTH_BYTES:end])
        return header.model_copy(update={"jpeg": record[end:]})

    @property
    def is_full_size(self) -> bool:
        """Whether the preview is as large as the frame. Also True if the JPEG is unreadable."""
        try:
            height, width, *_ = simplejpeg.decode_jpeg_header(self.jpeg)
        except ValueError:
            return True
        return (width, height) == (self.width, self.height)


class DrawnBox(BaseModel):
    """Box of a detection, in pixels of the frame that the worker sent to the service."""

    left: Coordinate
    top: Coordinate
    right: Coordinate
    bottom: Coordinate


class DrawnDetection(BaseModel):
    """The part of a detection that the gateway draws. Its values come from Redis, so they are untrusted."""

    name: Annotated[str, Field(max_length=_MAX_TEXT)]
    confidence: Annotated[float, Field(allow_inf_nan=False)]
    bounding_box: DrawnBox


class DrawnResult(BaseModel):
    """The part of an event that the gateway draws."""

    frame_id: str
    detected_objects: list[DrawnDetection] = Field(default=[], max_length=_MAX_DETECTIONS)
    detected_faces: list[DrawnDetection] = Field(default=[], max_length=_MAX_DETECTIONS)


class FrameSize(BaseModel):
    """Size of a camera's frames under other settings, measured on the camera's last frame."""

    bytes_per_picture: int
    bytes_per_hour: int
    images_per_day: int
    width: int
    height: int


class FrameTooLargeError(ValueError):
    """A JPEG has more pixels than the gateway accepts."""


def _checked_size(jpeg: bytes) -> tuple[int, int]:
    """Return the width and height in a JPEG's header.

    Raises `FrameTooLargeError` above `MAX_DECODED_PIXELS`, and `ValueError` for an unreadable JPEG.
    """
    try:
        height, width, *_ = simplejpeg.decode_jpeg_header(jpeg)
    except ValueError as error:
        raise ValueError("the frame is not a readable JPEG") from error
    if width * height > MAX_DECODED_PIXELS:
        raise FrameTooLargeError(f"{width} x {height} pixels, but the gateway decodes at most {MAX_DECODED_PIXELS}")
    return width, height


def frame_size(jpeg: bytes, *, fps: float, quality: int, max_width: int | None) -> FrameSize:
    """Return the size of a JPEG after the same scaling and encoding as in a worker.

    Raises `FrameTooLargeError`, or `ValueError` for an unreadable JPEG.
    """
    width, height = _checked_size(jpeg)
    # The decoder can skip detail that scaling would remove anyway, which saves memory.
    scaled_width = max_width or 0 if width * height > _MAX_EXACT_PIXELS else 0
    pixels = simplejpeg.decode_jpeg(jpeg, "RGB", min_width=scaled_width)
    if max_width is not None and width > max_width:
        # 4:2:0 stores colors for blocks of 2 by 2 pixels, so width and height must be even.
        width, height = max_width // 2 * 2, max(2, round(height * max_width / width / 2) * 2)
        pixels = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(width, height).to_ndarray()
    size = len(simplejpeg.encode_jpeg(np.ascontiguousarray(pixels), quality, "RGB", "420"))
    return FrameSize(
        bytes_per_picture=size,
        bytes_per_hour=round(size * fps * 3600),
        images_per_day=round(fps * 3600 * 24),
        width=width,
        height=height,
    )


def draw_boxes(frame: FrameImage, detections: Sequence[DrawnDetection]) -> bytes:
    """Return the frame as a JPEG with a box and a label for each detection.

    Raises `UnavailableError` if OpenCV cannot be loaded, `FrameTooLargeError` for a frame that is too large, and
    `ValueError` for an unreadable image.
    """
    cv2 = cv2_loader.load()
    _checked_size(frame.jpeg)
    try:
        image = cv2.imdecode(np.frombuffer(frame.jpeg, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error as error:
        raise ValueError("OpenCV cannot read the image") from error
    if image is None:
        raise ValueError("OpenCV cannot read the image")
    thickness = max(1, round(image.shape[1] / 640))
    font, scale = cv2.FONT_HERSHEY_SIMPLEX, 0.5 * thickness
    for detection in detections:
        box = detection.bounding_box
        color = _color(detection.name)
        left, top = int(box.left), int(box.top)
        cv2.rectangle(image, (left, top), (int(box.right), int(box.bottom)), color, 2 * thickness)
        label = f"{detection.name} {100 * detection.confidence:.0f}%"
        (text_width, text_height), baseline = cv2.getTextSize(label, font, scale, thickness)
        top = max(0, top - text_height - baseline)  # top edge of the label, which is above the box if there is room
        bottom = top + text_height + baseline
        cv2.rectangle(image, (left, top), (left + text_width, bottom), color, cv2.FILLED)
        cv2.putText(image, label, (left, bottom - baseline), font, scale, _WHITE, thickness, cv2.LINE_AA)
    return bytes(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])[1])


def _color(name: str) -> tuple[int, int, int]:
    """Return a color (BGR) that depends only on the name and is dark enough for white text."""
    red, green, blue = colorsys.hsv_to_rgb(zlib.crc32(name.encode()) % 360 / 360, 0.9, 0.7)
    return round(255 * blue), round(255 * green), round(255 * red)
