"""Which decoding hardware to use, and why not the one that was asked for. Opens devices for a moment, never a camera.

A decoder is handed to FFmpeg together with the camera's address, and a device that is missing would look like a camera
that is. So each is tried first, alone. Where none will do, or the stream is nothing for it, the processor decodes.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final, Literal

import av
import av.error
from av.codec.hwaccel import HWAccel

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("nvision_hub.camera")

Wanted = Literal["none", "auto", "cuda", "qsv", "drm"]
SOFTWARE: Final = "software"
_AUTO: Final = ("cuda", "qsv", "drm")
_CODECS: Final = ("h264", "hevc")  # what cameras send that is worth hardware


def trial(device: str) -> str | None:
    """What keeps this machine from decoding a camera's video on `device`; None where nothing does."""
    why = "FFmpeg knows no decoder for it here"
    for codec in _CODECS:
        try:
            HWAccel(device).create(av.Codec(codec, "r"))
        except NotImplementedError:
            continue
        except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
            why = getattr(error, "strerror", None) or str(error) or type(error).__name__
        else:
            return None
    return why


def choose(wanted: Wanted, tried: Callable[[str], str | None] = trial) -> str | None:
    """The device to decode on; None for the processor, told as a warning where a certain one was wanted."""
    match wanted:
        case "none":
            return None
        case "auto":
            return next((device for device in _AUTO if tried(device) is None), None)
        case device:
            why = tried(device)
            if why is None:
                return device
            log.warning("hwaccel: %s cannot be used (%s); the processor decodes instead", device, why)
            return None


def acceleration(device: str | None) -> HWAccel | None:
    """For FFmpeg. A stream that the device cannot decode is decoded by the processor."""
    return None if device is None else HWAccel(device, allow_software_fallback=True)
