"""OpenCV, loaded where it is used and nowhere before; a machine that cannot load it is told what to install.

Its wheel links against libGL and GLib even where nothing is ever shown on a screen, and servers have neither.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from types import ModuleType


def load() -> ModuleType:
    """The module `cv2`, doing its work in the calling thread alone.

    Code that wants its types writes `import cv2` in a module of its own, imported only after this call.
    Raises `UnavailableError` where the library is missing, or a system library that it needs.
    """
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"Python has no module {error.name}, which OpenCV needs; `pip install opencv-python` brings it."
        ) from error
    except ImportError as error:
        # OpenCV's loader leaves this mark behind when it fails, and would blame the next try on "recursion".
        vars(sys).pop("OpenCV_LOADER", None)
        raise UnavailableError(
            f"OpenCV cannot be loaded ({error}); on Debian and Ubuntu `apt-get install libgl1 libglib2.0-0` "
            "brings the system libraries that it needs."
        ) from error
    # One process per camera already uses every core; OpenCV's own pool would only make them fight for them.
    cv2.setNumThreads(1)
    # It would write its warnings straight to stderr, past every log setting.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2


def loaded() -> ModuleType | None:
    """The module, where somebody has loaded it before; a worker must not: its own copy takes 25 MB."""
    return sys.modules.get("cv2")
