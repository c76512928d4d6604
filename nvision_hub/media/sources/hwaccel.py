"""Choice of the decoding device. This module opens devices briefly but never opens a camera.

FFmpeg receives the device together with the camera's address, so an error about a missing device would look like an
error of the camera. The hub therefore tests each device first. If no device can decode the stream, the CPU decodes it.
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

DeviceOption = Literal["none", "auto", "cuda", "qsv", "drm"]
SOFTWARE: Final = "software"
_AUTO: Final = ("cuda", "qsv", "drm")
_CODECS: Final = ("h264", "hevc")  # camera codecs for which hardware decoding is worthwhile


def try_device(device: str) -> str | None:
    """Return why this machine cannot decode a camera's video on `device`; None if it can."""
    reason = "FFmpeg has no decoder for it on this machine"
    for codec in _CODECS:
        try:
            HWAccel(device).create(av.Codec(codec, "r"))
        except NotImplementedError:
            continue
        except (av.error.FFmpegError, OSError, RuntimeError, ValueError) as error:
            reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        else:
            return None
    return reason


def choose_device(option: DeviceOption, try_device: Callable[[str], str | None] = try_device) -> str | None:
    """Return the device for decoding; None for the CPU. Log a warning if the requested device cannot be used."""
    if option in ("none", "auto"):
        devices = _AUTO if option == "auto" else ()
        return next((device for device in devices if try_device(device) is None), None)
    reason = try_device(option)
    if reason is None:
        return option
    text = "hwaccel: %s cannot be used: %s; the CPU decodes instead"
    log.warning(text, option, reason, extra={"event": "hwaccel_unavailable"})
    return None


def hwaccel(device: str | None) -> HWAccel | None:
    """Return PyAV's setting for a device. The CPU decodes any stream that the device cannot decode."""
    return None if device is None else HWAccel(device, allow_software_fallback=True)
