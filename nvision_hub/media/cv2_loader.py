"""On-demand loader for OpenCV. Its error names the package or libraries to install.

The OpenCV wheel links against libGL and GLib, which servers usually lack.
"""

from __future__ import annotations

import importlib
import sys
from typing import TYPE_CHECKING

from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from types import ModuleType


def load() -> ModuleType:
    """Return the module `cv2`, configured to run only in the calling thread.

    Call this function before importing any module that itself imports `cv2`. Raises `UnavailableError` if OpenCV or a
    system library is missing.
    """
    try:
        cv2 = importlib.import_module("cv2")
    except ModuleNotFoundError as error:
        raise UnavailableError(
            f"Python has no module {error.name}, which OpenCV needs; run `pip install opencv-python`."
        ) from error
    except ImportError as error:
        # A failed import leaves this attribute behind. OpenCV would then report "recursion" at the next import.
        vars(sys).pop("OpenCV_LOADER", None)
        raise UnavailableError(
            f"OpenCV cannot be loaded ({error}); install the system libraries that it needs (on Debian and Ubuntu: "
            "`apt-get install libgl1 libglib2.0-0`)."
        ) from error
    # The camera workers together already use every core, so OpenCV's thread pool would only add contention.
    cv2.setNumThreads(1)
    # OpenCV would write its warnings to stderr and ignore the log settings.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)
    return cv2


def loaded() -> ModuleType | None:
    """Return the module `cv2` if it is loaded, or else None.

    Camera workers use the copy that they inherit from the supervisor. A separate copy would take 25 MB per worker.
    """
    return sys.modules.get("cv2")
