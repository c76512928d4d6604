"""Request to the kernel to kill this process when its parent process ends, even if the parent is killed."""

from __future__ import annotations

import ctypes
import os
import signal
from typing import Final

from nvision_hub.errors import EXIT_FAILED

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when the thread that forked it ends. Exit if the parent has already ended.

    Call this function right after the fork. The parent check is needed because the kernel does not act on the request
    if the parent has already ended. The request survives an exec.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)
