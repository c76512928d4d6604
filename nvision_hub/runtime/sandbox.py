"""Sandbox for worker processes that parse untrusted data, such as camera workers.

The sandbox consists of `no_new_privs`, a Landlock domain (`landlock.py`) and a system call filter. It isolates an
attacker who controls the worker from other processes of the same user, and from kernel interfaces that no decoder
needs.

The filter lists denied calls, not allowed calls, so new versions of FFmpeg, OpenCV or a graphics driver continue to
work. A denied call fails with EPERM.

The supervisor calls `prepare` before it forks, because pyseccomp runs `ldconfig` to find libseccomp. A worker calls
`restrict` before it opens any connection. The restrictions apply to all threads of the worker and cannot be removed.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import importlib
import logging
import os
import ssl
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import nvision_hub
from nvision_hub.errors import UnavailableError
from nvision_hub.runtime import landlock

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

log = logging.getLogger("nvision_hub.runtime")

_PR_GET_SECCOMP: Final = 21  # linux/prctl.h
_PR_SET_NO_NEW_PRIVS: Final = 38

# These lists omit kcmp, because Mesa's drivers use kcmp to compare descriptors of a graphics card.
_OTHER_PROCESSES: Final = (
    "pidfd_getfd",
    "pidfd_open",
    "pidfd_send_signal",
    "process_madvise",
    "process_mrelease",
    "process_vm_readv",
    "process_vm_writev",
    "ptrace",
    "tkill",
)
_PROGRAMS: Final = ("execve", "execveat")
_NAMESPACES_AND_MOUNTS: Final = (
    "chroot",
    "fsconfig",
    "fsmount",
    "fsopen",
    "fspick",
    "mount",
    "mount_setattr",
    "move_mount",
    "open_by_handle_at",
    "open_tree",
    "pivot_root",
    "setns",
    "umount2",
    "unshare",
)
_KERNEL: Final = (
    "acct",
    "add_key",
    "adjtimex",
    "bpf",
    "clock_adjtime",
    "clock_settime",
    "delete_module",
    "fanotify_init",
    "finit_module",
    "init_module",
    "io_uring_enter",
    "io_uring_register",
    "io_uring_setup",
    "ioperm",
    "iopl",
    "kexec_file_load",
    "kexec_load",
    "keyctl",
    "lookup_dcookie",
    "modify_ldt",
    "perf_event_open",
    "personality",
    "quotactl",
    "quotactl_fd",
    "reboot",
    "request_key",
    "sethostname",
    "setdomainname",
    "settimeofday",
    "swapoff",
    "swapon",
    "syslog",
    "userfaultfd",
    "vhangup",
)
DENIED: Final = (*_OTHER_PROCESSES, *_PROGRAMS, *_NAMESPACES_AND_MOUNTS, *_KERNEL)
_SYSTEM_PATHS: Final = (
    "/bin",
    "/etc",
    "/lib",
    "/lib32",
    "/lib64",
    "/nix",
    "/opt/amdgpu",
    "/opt/intel",
    "/opt/rocm",
    # A rule for /proc/self would lose its effect when the kernel drops that directory from its cache. The domain itself
    # protects the files of other processes in /proc.
    "/proc",
    "/sbin",
    "/sys",
    "/usr",
)
ALSO_WRITABLE: list[Path] = []  # more directories for tests, for example to measure coverage

# Signal calls whose first argument is a pid.
_SIGNALS: Final = ("kill", "tgkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo")
_TERMINAL_INPUT: Final = (0x5412, 0x541C)  # TIOCSTI and TIOCLINUX: ioctls that insert input into a shell's terminal
_NEW_NAMESPACES: Final = (  # flags of clone(2)
    0x00000080,  # CLONE_NEWTIME
    0x00020000,  # CLONE_NEWNS
    0x02000000,  # CLONE_NEWCGROUP
    0x04000000,  # CLONE_NEWUTS
    0x08000000,  # CLONE_NEWIPC
    0x10000000,  # CLONE_NEWUSER
    0x20000000,  # CLONE_NEWPID
    0x40000000,  # CLONE_NEWNET
)
_LOW_32_BITS: Final = 0xFFFF_FFFF


def prepare() -> None:
    """Load libseccomp. Raises `UnavailableError` with the reason if this machine cannot filter system calls."""
    _library()
    if ctypes.CDLL(None).prctl(_PR_GET_SECCOMP, 0, 0, 0, 0) < 0:
        raise UnavailableError("this kernel has no system call filters (CONFIG_SECCOMP_FILTER)")


def restrict(*, readable: Iterable[Path] = (), writable: Iterable[Path] = ()) -> None:
    """Restrict this process permanently, as far as the kernel and the libraries of this machine support it.

    The process can open system files, Python's files, devices, and the files and directories in `readable`. It can
    write only into the directories in `writable`, which this function creates if necessary.

    Call this function before any other thread starts, because the domain contains only threads that start later.
    """
    ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    writable = (*writable, *ALSO_WRITABLE)
    for directory in writable:
        with contextlib.suppress(OSError):  # the code that uses the directory will report the error
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    if landlock.version():
        _restrict_files(readable, writable)
    try:
        prepare()
    except UnavailableError as error:  # the supervisor has already logged a warning about the same error from `prepare`
        log.debug("no system call filter: %s", error)
        return
    try:
        _filter(_library()).load()
    except OSError as error:
        log.warning("no system call filter: %s", error, extra={"event": "sandbox_failed"})


def _restrict_files(readable: Iterable[Path], writable: Sequence[Path]) -> None:
    try:
        landlock.enter_domain(
            landlock.FileAccess(readable=(*_system_paths(), *readable), writable=writable, devices=[Path("/dev")])
        )
    except OSError as error:
        log.warning("no Landlock domain: %s", error, extra={"event": "sandbox_failed"})


def _system_paths() -> Iterator[Path]:
    """Yield the paths that libraries may read: system files, Python's modules, name resolution and certificates."""
    yield from map(Path, _SYSTEM_PATHS)
    yield from map(Path, {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix})
    yield from (Path(entry) for entry in sys.path if entry.endswith(("site-packages", "dist-packages")))
    yield Path(nvision_hub.__file__).parent  # a source checkout is not below the prefixes
    yield Path("/etc/resolv.conf").resolve().parent  # often below /run
    trusted = ssl.get_default_verify_paths()
    yield from (Path(path) for path in (trusted.cafile, trusted.capath) if path)
    yield from (Path(entry) for entry in os.environ.get("LD_LIBRARY_PATH", "").split(":") if entry)


def _library() -> Any:
    """Return pyseccomp. Raises `UnavailableError`."""
    try:
        return importlib.import_module("pyseccomp")
    except ImportError:
        raise UnavailableError("pyseccomp is not installed; install it: pip install pyseccomp") from None
    except (RuntimeError, OSError, AttributeError) as error:  # no libseccomp, or its version lacks a function
        raise UnavailableError(f"{error}; install it: apt-get install libseccomp2") from None


def _filter(seccomp: Any) -> Any:
    """Return the system call filter for this process. Raises `OSError`."""
    deny, self = seccomp.ERRNO(errno.EPERM), os.getpid()
    rules = seccomp.SyscallFilter(defaction=seccomp.ALLOW)
    rules.set_attr(seccomp.Attr.CTL_TSYNC, 1)
    with contextlib.suppress(OSError):  # libseccomp before 2.5 lacks this attribute
        # Otherwise, kernels before 5.16 slow down every filtered process (mitigation of Speculative Store Bypass).
        rules.set_attr(seccomp.Attr.CTL_SSB, 1)

    def add(action: int, call: str, *arguments: Any) -> None:
        with contextlib.suppress(OSError, ValueError):  # this architecture or version of libseccomp lacks the call
            rules.add_rule(action, call, *arguments)

    for call in DENIED:
        add(deny, call)
    for call in _SIGNALS:
        add(deny, call, seccomp.Arg(0, seccomp.NE, self))
    for request in _TERMINAL_INPUT:
        add(deny, "ioctl", seccomp.Arg(1, seccomp.MASKED_EQ, _LOW_32_BITS, request))
    for flag in _NEW_NAMESPACES:
        add(deny, "clone", seccomp.Arg(0, seccomp.MASKED_EQ, flag, flag))
    # A filter cannot read the flags of clone3. If clone3 seems not to exist, the C library uses clone instead.
    add(seccomp.ERRNO(errno.ENOSYS), "clone3")
    # Deny access to the resource limits of other processes. Pid 0 means this process.
    add(deny, "prlimit64", seccomp.Arg(0, seccomp.NE, 0))
    return rules
