"""JPEG encoder, which takes the cheapest correct path from a decoded frame to JPEG.

JPEG uses full-range BT.601 (ITU-T T.871). Most cameras send limited range: luma from 16 to 235, and chroma from 16 to
240 (ITU-R BT.601, 2.5). Without range expansion, the JPEG would look washed out (PSNR 30 dB instead of 42 dB). OpenCV
expands the range in half the time that swscale needs. If a frame also needs other conversions, one swscale pass does
all of them. The encoder does not copy frames of even size that need neither conversion nor masks.

For interlaced video, the encoder keeps one field and scales it to the full height (`interlacing.py`).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
import simplejpeg
from av.video.reformatter import ColorRange, Interpolation, VideoReformatter

from nvision_hub.errors import HubError
from nvision_hub.media import cv2_loader
from nvision_hub.media.encode.privacy_masks import Masks
from nvision_hub.media.interlacing import Field, even_lines
from nvision_hub.media.memory_limits import MAX_PIXELS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import ModuleType

    from nvision_hub.media.encode.privacy_masks import Planes, Polygon

_JPEG_PLANES: Final = "yuvj420p"
_LUMA_GAIN: Final = 255 / (235 - 16)
_CHROMA_GAIN: Final = 255 / (240 - 16)
_CHROMA_SCALE: Final = _CHROMA_GAIN, 128 - 128 * _CHROMA_GAIN
_SCALES: Final = ((_LUMA_GAIN, -16 * _LUMA_GAIN), _CHROMA_SCALE, _CHROMA_SCALE)  # gain and offset of each plane
_BROKEN: Final = "the camera sends broken JPEGs; check the network connection to the camera, or set the camera to H.264"
_CUT_OFF: Final = (
    "the camera sends JPEGs that end too early; check the network connection to the camera, or set a lower resolution "
    "in the camera"
)
_SEGMENT: Final = re.compile(rb"\xff+([^\0\xff])", re.DOTALL)  # marker; two bytes with a length follow (T.81, B.1.1)
_SCAN: Final = b"\xda"  # marker that begins the compressed data
_END: Final = b"\xff\xd9"


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegFrame:
    data: bytes
    width: int
    height: int


@dataclass(frozen=True, kw_only=True, slots=True)
class JpegSettings:
    quality: int  # 1..100
    max_width: int | None  # pixels; if None, frames are never scaled

    def scaled(self, width: int, height: int) -> tuple[int, int]:
        """Return the width and height at which to send a frame of this size."""
        if self.max_width is None or width <= self.max_width:
            return width, height
        # Width and height must be even, because chroma planes have half the width and half the height.
        return self.max_width & ~1, max(2, round(height * self.max_width / width) & ~1)


class RangeExpander:
    """Expander of planes from limited to full range.

    The expander reuses its output planes: allocating new planes for every frame would increase the cost by 50 %.
    """

    def __init__(self, cv2: ModuleType) -> None:
        self._cv2: Any = cv2
        self._output: Planes | None = None

    def expand(self, planes: Planes) -> Planes:
        """Return the planes in full range, valid until the next call."""
        if self._output is None or any(a.shape != b.shape for a, b in zip(self._output, planes, strict=True)):
            luma, blue, red = (np.empty(plane.shape, np.uint8) for plane in planes)
            self._output = (luma, blue, red)
        for plane, output, (gain, offset) in zip(planes, self._output, _SCALES, strict=True):
            # No other OpenCV function scales, adds, rounds and saturates in a single pass.
            self._cv2.addWeighted(plane, gain, plane, 0, offset, output)
        return self._output


class JpegEncoder:
    """JPEG encoder of one camera.

    Any thread may replace `settings` at any time. New settings apply from the next call of `encode`.
    """

    def __init__(self, *, quality: int, max_width: int | None, masks: Sequence[Polygon] = ()) -> None:
        self.settings = JpegSettings(quality=quality, max_width=max_width)
        self._masks = Masks(masks)
        self._reformatter = VideoReformatter()
        cv2 = cv2_loader.loaded()
        self._expander = None if cv2 is None else RangeExpander(cv2)
        self._jpeg_decoder: av.VideoCodecContext | None = None

    def encode(self, frame: av.VideoFrame | np.ndarray[Any, Any] | bytes) -> JpegFrame:
        """Encode an `av.VideoFrame`, BGR pixels of shape (height, width, 3), or a JPEG from the camera.

        A camera's JPEG stays unchanged unless it must be scaled or masked. Raises `EncodeError` if the JPEG is broken
        or has more than `MAX_PIXELS`.
        """
        settings = self.settings  # read once, because another thread may replace the settings
        if isinstance(frame, bytes):
            return self._pass_through(frame, settings)
        if isinstance(frame, np.ndarray):
            frame = av.VideoFrame.from_ndarray(frame, format="bgr24")
        return self._encode(frame, settings)

    def _encode(self, frame: av.VideoFrame, settings: JpegSettings) -> JpegFrame:
        is_field = isinstance(frame.opaque, Field)
        width, height = settings.scaled(frame.width, frame.height * (2 if is_field else 1))
        if frame.interlaced_frame and not is_field and frame.height > 1:
            frame = even_lines(frame)
        luma, blue, red = planes = self._planes(frame, width, height)
        if self._masks:
            self._masks.blank(planes)
        if width % 2 or height % 2:
            # turbojpeg.c reads luma in pairs. In a plane with an odd width or height, it would read beyond the end.
            luma = np.pad(luma, ((0, 1), (0, 1)), "edge")[:height, :width]
        data = bytes(simplejpeg.encode_jpeg_yuv_planes(luma, blue, red, quality=settings.quality))
        return JpegFrame(data=data, width=width, height=height)

    def _pass_through(self, data: bytes, settings: JpegSettings) -> JpegFrame:
        try:
            height, width = simplejpeg.decode_jpeg_header(data)[:2]
        except ValueError as error:
            raise EncodeError(_BROKEN) from error
        if width * height > MAX_PIXELS:
            raise EncodeError(
                f"the camera sends JPEGs of {width} x {height} pixels, which are too large; "
                "set a lower resolution in the camera"
            )
        if not has_end(data):
            raise EncodeError(_CUT_OFF)
        if not self._masks and settings.scaled(width, height) == (width, height):
            return JpegFrame(data=data, width=width, height=height)
        if self._jpeg_decoder is None:
            self._jpeg_decoder = av.VideoCodecContext.create("mjpeg", "r")
            self._jpeg_decoder.thread_count = 1
        try:
            frame, *_ = self._jpeg_decoder.decode(av.Packet(data))
        except (av.error.FFmpegError, ValueError) as error:  # decoding failed or produced no frame
            raise EncodeError(_BROKEN) from error
        return self._encode(frame, settings)

    def _planes(self, frame: av.VideoFrame, width: int, height: int) -> Planes:
        # If the stream declares no range, its range is limited (H.264, E.2.1). RGB always has full range.
        is_full = frame.format.is_rgb or frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        fits = frame.format.name in {"yuv420p", _JPEG_PLANES} and (width, height) == (frame.width, frame.height)
        if fits and is_full:
            if self._masks:
                frame.make_writable()  # the decoder still needs the unmasked frame for frames that build on it
            return _arrays(frame)
        if fits and self._expander is not None:
            return self._expander.expand(_arrays(frame))
        return _arrays(
            self._reformatter.reformat(
                frame,
                width=width,
                height=height,
                format=_JPEG_PLANES,
                src_color_range=ColorRange.JPEG if is_full else ColorRange.MPEG,
                dst_color_range=ColorRange.JPEG,
                interpolation=Interpolation.AREA,
                threads=1,
            )
        )


def has_end(jpeg: bytes) -> bool:
    """Return whether a JPEG has its end marker, which a truncated JPEG lacks.

    The function skips the segments before the compressed data, because a thumbnail in them also has an end marker.
    """
    position = 2
    while (segment := _SEGMENT.match(jpeg, position)) and segment[1] != _SCAN:
        position = segment.end() + int.from_bytes(jpeg[segment.end() : segment.end() + 2])
    return jpeg.rfind(_END, position) >= 0


def _arrays(frame: av.VideoFrame) -> Planes:
    luma, blue, red = (
        np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[: plane.height, : plane.width]
        for plane in frame.planes
    )
    return luma, blue, red


class EncodeError(HubError):
    """Error for one frame that cannot be encoded as JPEG. Later frames may succeed."""
