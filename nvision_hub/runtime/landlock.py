"""Landlock domain for worker processes: a separation from other processes of the same user, enforced by the kernel.

The kernel denies a process in a domain everything that tracing allows on processes outside the domain. This includes
files such as /proc/PID/mem, which a system call filter cannot distinguish from other files. Since
version 6 of the interface (Linux 6.12), it also denies signals and abstract Unix sockets. In addition, the rules deny
executing programs and creating device files anywhere.

The numbers are from linux/landlock.h. The C library has no functions for these system calls.
"""

from __future__ import annotations

import ctypes
import os
from typing import Final

# The same on all architectures.
_CREATE_RULESET: Final = 444
_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_EXECUTE: Final = 1 << 0
_MAKE_CHAR: Final = 1 << 6
_MAKE_BLOCK: Final = 1 << 11
_SCOPE_ABSTRACT_UNIX_SOCKET: Final = 1 << 0
_SCOPE_SIGNAL: Final = 1 << 1
_SCOPES_SINCE: Final = 6

_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _RulesetAttributes(ctypes.Structure):
    """`struct landlock_ruleset_attr`."""

    _fields_ = (
        ("handled_access_fs", ctypes.c_uint64),
        ("handled_access_net", ctypes.c_uint64),
        ("scoped", ctypes.c_uint64),
    )


def version() -> int:
    """Return the version of the kernel's interface; 0 if the kernel has no Landlock or does not use it."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, 0, _CREATE_RULESET_VERSION)))


def enter_domain() -> None:
    """Move this thread, and the threads and processes that it starts later, into a new domain for good.

    Call this function before any other thread starts, and after `PR_SET_NO_NEW_PRIVS`. Raises `OSError`.
    """
    attributes = _RulesetAttributes(handled_access_fs=_EXECUTE | _MAKE_CHAR | _MAKE_BLOCK)
    size = ctypes.sizeof(ctypes.c_uint64)  # all that version 1 knows
    if version() >= _SCOPES_SINCE:
        attributes.scoped = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL
        size = ctypes.sizeof(attributes)
    rules = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    try:
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _call(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
