"""Landlock domain for worker processes: the kernel separates the worker from other processes and from files.

A process in a domain cannot trace processes outside the domain. It also cannot do anything else that requires the right
to trace them, such as opening /proc/PID/mem. Since version 6 of the interface (Linux 6.12), the kernel also denies
signals and abstract Unix sockets. The process can open only the files that `FileAccess` lists. Files that are already
open stay open.

The numbers come from linux/landlock.h. The C library has no functions for these system calls.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import stat
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

# System call numbers, the same on all architectures.
_CREATE_RULESET: Final = 444
_ADD_RULE: Final = 445
_RESTRICT_SELF: Final = 446
_CREATE_RULESET_VERSION: Final = 1
_RULE_PATH_BENEATH: Final = 1

_WRITE_FILE: Final = 1 << 1
_READ_FILE: Final = 1 << 2
_READ_DIR: Final = 1 << 3
_REMOVE_FILE: Final = 1 << 5
_MAKE_REG: Final = 1 << 8
_TRUNCATE: Final = 1 << 14
_IOCTL_DEV: Final = 1 << 15
_ON_FILES: Final = _WRITE_FILE | _READ_FILE | _TRUNCATE | _IOCTL_DEV  # the other rights exist only for directories
# Number of rights by version of the interface. The kernel denies each right that no rule grants.
_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}

_READ: Final = _READ_FILE | _READ_DIR
_USE_DEVICES: Final = _READ | _WRITE_FILE | _TRUNCATE | _IOCTL_DEV
_WRITE: Final = _READ | _WRITE_FILE | _TRUNCATE | _MAKE_REG | _REMOVE_FILE

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


@dataclass(frozen=True, kw_only=True, slots=True)
class FileAccess:
    """Files and directories that a domain may open.

    A directory includes all files below it, even files created later.
    """

    readable: Iterable[Path]
    writable: Iterable[Path] = ()  # directories in which files may also be created and removed
    devices: Iterable[Path] = ()  # directories whose existing devices may be read, written and controlled


def version() -> int:
    """Return the version of the kernel's interface; 0 if the kernel lacks Landlock or has it disabled."""
    return max(0, int(_LIBC.syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), _CREATE_RULESET_VERSION)))


def enter_domain(files: FileAccess) -> None:
    """Move this thread, and all threads and processes that it starts later, permanently into a new domain.

    Call this function before any other thread starts and after `PR_SET_NO_NEW_PRIVS`. The function ignores paths that
    do not exist. Raises `OSError`.
    """
    found = version()
    handled = (1 << _RIGHTS[min(found, max(_RIGHTS))]) - 1 if found else 0
    attributes = _RulesetAttributes(handled_access_fs=handled)
    size = ctypes.sizeof(ctypes.c_uint64)  # size of the only field in version 1
    if found >= _SCOPES_SINCE:
        attributes.scoped = _SCOPE_ABSTRACT_UNIX_SOCKET | _SCOPE_SIGNAL
        size = ctypes.sizeof(attributes)
    rules = _call(_CREATE_RULESET, ctypes.byref(attributes), ctypes.c_size_t(size), 0)
    try:
        for paths, rights in ((files.readable, _READ), (files.writable, _WRITE), (files.devices, _USE_DEVICES)):
            for path in paths:
                _add_rule(rules, path, rights & handled)
        _call(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _add_rule(rules: int, path: Path, rights: int) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
        try:
            if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
                rights &= _ON_FILES
            rule = struct.pack("=Qi", rights, descriptor)  # struct landlock_path_beneath_attr
            _call(_ADD_RULE, rules, _RULE_PATH_BENEATH, rule, 0)
        finally:
            os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    result = int(_LIBC.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
