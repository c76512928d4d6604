"""What a camera's work costs: milliseconds of one core, of the machine and by the measurements of docs/performance.md.

Who plans reckons with these: `grouping.py`, which knows of a camera only what cameras.yaml says, and `probe`, which has
decoded its pictures and knows better what that takes. All of a camera's milliseconds a second are its thousandths of a
core. From `python -m tests.bench sizing`.
"""

from __future__ import annotations

from typing import Final

FULL_HD: Final = (1920, 1080)

PROCESS_MS_PER_S: Final = 10.0  # reading packets, a status each second
SENT_MS: Final = 2.0  # a picture to the service, its result to Redis
CONVERTED_MS: Final = 0.5  # a megapixel of the camera's: range expanded, scaled
ENCODED_MS: Final = 2.0  # a megapixel of what is sent
DECODED_MS: Final = {"h264": 3.5, "hevc": 4.2, "mjpeg": 5.5}  # a megapixel; a busy street at usual bit rates


def decoding_ms(codec: str, size: tuple[int, int]) -> float:
    """To decode one picture of `size` (width, height); of a codec that was not measured, as of the dearest."""
    return _megapixels(size) * DECODED_MS.get(codec, max(DECODED_MS.values()))


def picture_ms(size: tuple[int, int], *, max_width: int | None = None, passed_on: bool = False) -> float:
    """To make and send one picture, once it is decoded, at most `max_width` wide. `passed_on`: a camera's own JPEG."""
    if passed_on:
        return SENT_MS
    width, height = size
    scale = 1.0 if max_width is None else min(1.0, max_width / width)
    sent = (round(width * scale), round(height * scale))
    return SENT_MS + CONVERTED_MS * _megapixels(size) + ENCODED_MS * _megapixels(sent)


def _megapixels(size: tuple[int, int]) -> float:
    return size[0] * size[1] / 1e6
