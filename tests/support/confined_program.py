"""Run a program under the system call filter of a systemd unit, without systemd. Needs the system's Python.

Usage: `/usr/bin/python3 confined_program.py UNIT PROGRAM ARGUMENT...`. This script applies the unit's
SystemCallFilter=, RestrictAddressFamilies= and MemoryDenyWriteExecute= as `man systemd.exec` describes them. A filtered
call fails with EPERM. All other settings would need a service manager.

This script does not import pytest. It needs only Debian's python3-seccomp and systemd.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

EXIT_UNAVAILABLE = 69  # a requirement is missing; the last line on stderr names its package

try:
    import seccomp
except ImportError:
    print("`apt-get install python3-seccomp` brings the system call filter", file=sys.stderr)
    sys.exit(EXIT_UNAVAILABLE)

EPERM, EAFNOSUPPORT = 1, 97
PR_SET_NO_NEW_PRIVS, PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN = 38, 65, 1  # linux/prctl.h
FAMILIES = {"AF_UNIX": 1, "AF_INET": 2, "AF_INET6": 10}
MAX_FAMILIES = 46  # linux/socket.h, AF_MAX


def values(unit: str, key: str) -> list[str]:
    """Return the values of a key in the unit, one per line with this key."""
    return [line.partition("=")[2] for line in unit.splitlines() if line.startswith(f"{key}=")]


def members(group: str) -> set[str]:
    """Return the system calls of a group such as @system-service."""
    listed = subprocess.run(["systemd-analyze", "syscall-filter", group], capture_output=True, text=True, check=True)
    words = [line.strip() for line in listed.stdout.splitlines()[1:]]
    found: set[str] = set()
    for word in words:
        if word and not word.startswith("#"):
            found |= members(word) if word.startswith("@") else {word}
    return found


def allowed(unit: str) -> set[str]:
    """Return the system calls that the unit's filters allow."""
    calls: set[str] = set()
    for value in values(unit, "SystemCallFilter"):
        for group in value.removeprefix("~").split():
            found = members(group) if group.startswith("@") else {group}
            calls = calls - found if value.startswith("~") else calls | found
    return calls


def confine(unit: str) -> None:
    """Confine this process and its future children."""
    libc = ctypes.CDLL(None, use_errno=True)
    if "yes" in values(unit, "MemoryDenyWriteExecute"):
        libc.prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0)  # kernels before 6.3 reject this option
    libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    families = {FAMILIES[word] for value in values(unit, "RestrictAddressFamilies") for word in value.split()}
    rules = seccomp.SyscallFilter(defaction=seccomp.ERRNO(EPERM))
    for call in sorted(allowed(unit) - {"socket"}):
        try:
            rules.add_rule(seccomp.ALLOW, call)
        except RuntimeError:  # this architecture lacks the system call
            continue
    for family in range(MAX_FAMILIES):
        action = seccomp.ALLOW if family in families else seccomp.ERRNO(EAFNOSUPPORT)
        rules.add_rule(action, "socket", seccomp.Arg(0, seccomp.EQ, family))
    rules.load()


def main() -> None:
    _, unit, program, *arguments = sys.argv
    confine(Path(unit).read_text(encoding="utf-8"))
    os.execv(program, [program, *arguments])  # noqa: S606 - the tests choose the program


if __name__ == "__main__":
    main()
