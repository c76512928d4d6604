"""First steps of a forked child: the parent-death signal, signal handlers and output streams."""

from __future__ import annotations

import ctypes
import os
import signal
import sys
from typing import Final

from nvision_hub.errors import EXIT_FAILED

_PR_SET_PDEATHSIG: Final = 1  # linux/prctl.h


def enter_child(parent: int) -> None:
    """Replace everything that the child must not share with its parent. Call this function right after the fork."""
    die_with_parent(parent)
    # Ctrl-C reaches the whole process group. The child ignores it, because the supervisor stops its children in order.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    # Open new streams, because a thread of the supervisor may have held a lock of the old streams at the time of the
    # fork. Output from libraries goes to stderr, because stdout is reserved for the supervisor's data.
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115


def die_with_parent(parent: int) -> None:
    """Ask the kernel to kill this process when its parent ends, even if a signal kills the parent.

    The kernel acts when the thread that forked this process ends. If the parent has already ended, the kernel no longer
    acts, so this function exits. Call this function right after the fork. The request stays valid after an exec.
    """
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        os._exit(EXIT_FAILED)
