"""No process of the hub outlives the one that started it, even where that one is killed."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

from nvision_hub.errors import EXIT_FAILED

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent's forking thread dies; end at once if it already has.

    For use in a child right after its fork: the request is not retroactive. It survives an exec.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)
