"""Model of the CPU time that a camera costs, in milliseconds of one core, as measured in docs/performance.md.

One millisecond per second is one thousandth of a core. Source: `python -m tests.bench sizing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.config.models import Camera

FULL_HD: Final = (1920, 1080)

PROCESS_MS_PER_S: Final = 10.0  # for reading packets, and for sending one status report per second
SEND_MS: Final = 2.0  # per frame, for sending the frame to the service and the result to Redis
CONVERT_MS: Final = 0.5  # per megapixel of the camera's frame, for expanding the color range and scaling
ENCODE_MS: Final = 2.0  # per megapixel of the sent frame
DECODE_MS: Final = {"h264": 3.5, "hevc": 4.2, "mjpeg": 5.5}  # per megapixel, for a busy street at common bitrates

# The model does not know a camera's codec, size or frame rate. It therefore assumes a typical camera: 1080p H.264 at 25
# frames per second.
_MIN_MILLICORES: Final = 40  # limits a default group to 100 cameras, because all cameras of a group fail together
_PACKETS_PER_S: Final = 25
_DECODE_ALL_FROM_FPS: Final = 2.0  # below this rate, the worker skips packets on which no sent frame depends


def decoding_ms(codec: str, size: tuple[int, int]) -> float:
    """Return the cost of decoding one frame of `size` (width, height).

    For an unknown codec, assume the costliest one.
    """
    return _megapixels(size) * DECODE_MS.get(codec, max(DECODE_MS.values()))


def frame_ms(size: tuple[int, int], *, max_width: int | None = None, passed_on: bool = False) -> float:
    """Return the cost of encoding and sending one frame. If `passed_on`, the hub sends the camera's JPEG unchanged."""
    if passed_on:
        return SEND_MS
    width, height = size
    scale = 1.0 if max_width is None else min(1.0, max_width / width)
    sent = (round(width * scale), round(height * scale))
    return SEND_MS + CONVERT_MS * _megapixels(size) + ENCODE_MS * _megapixels(sent)


def stream_ms_per_s(
    codec: str, size: tuple[int, int], *, fps: float, keyframe_interval_s: float | None, sent_fps: float
) -> float:
    """Estimate the cost of sending `sent_fps` full-size frames per second from a stream with `fps` frames per second.

    If keyframes come often enough, the hub decodes only keyframes. `keyframe_interval_s` is None if unknown.
    """
    is_sparse = keyframe_interval_s is None or keyframe_interval_s * sent_fps > 1
    decoded_per_s = fps if is_sparse or not keyframe_interval_s else min(fps, 1 / keyframe_interval_s)
    if codec == "mjpeg":
        return PROCESS_MS_PER_S + sent_fps * frame_ms(size, passed_on=True)
    return PROCESS_MS_PER_S + decoded_per_s * decoding_ms(codec, size) + sent_fps * frame_ms(size)


def camera_millicores(camera: Camera) -> int:
    """Estimate a camera's cost from its configuration, in thousandths of a core.

    The estimate is an upper bound for most cameras. `when: motion` costs no less: motion detection needs decoding, and
    cameras in the same place tend to see motion at the same time.
    """
    if camera.url.kind in ("mjpeg", "snapshot"):
        passed_on = camera.max_width is None and not camera.masks and camera.when != "motion"
        codec, decoded_per_s = "mjpeg", 0.0 if passed_on else camera.fps
    else:
        share = 1.0 if camera.when == "motion" else min(1.0, camera.fps / _DECODE_ALL_FROM_FPS)
        codec, decoded_per_s = "h264", _PACKETS_PER_S * share
    decoding = decoded_per_s * decoding_ms(codec, FULL_HD)
    sending = camera.fps * frame_ms(FULL_HD, max_width=camera.max_width, passed_on=not decoded_per_s)
    return max(_MIN_MILLICORES, round(PROCESS_MS_PER_S + decoding + sending))


def _megapixels(size: tuple[int, int]) -> float:
    return size[0] * size[1] / 1e6
