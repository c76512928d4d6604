"""One child process: fork it, talk to it, stop it, reap it. Whether it should live is the supervisor's to say."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import multiprocessing.process
import os
import signal
import socket
import stat
import sys
import threading
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from setproctitle import setproctitle

from nvision_hub.errors import EXIT_FAILED, HubError
from nvision_hub.lifeline import die_with_parent
from nvision_hub.link import COMMAND_BEGINS, MAX_RECORD_BYTES, Command, Link
from nvision_hub.logs import ChildLog
from nvision_hub.status import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

log = logging.getLogger("nvision_hub.child")

# Fork, not spawn: modules loaded before it are shared, 9 MB of private memory a worker instead of 35 (measured).
_FORK: Final = multiprocessing.get_context("fork")
# malloc.h. glibc keeps an arena per thread, and raises the size from which it maps memory to that of the largest
# block it has freed: pictures then live in arenas that fragment and are never given back (2.5 MB a worker, measured).
_MALLOC_OPTIONS: Final = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 128 * 1024), "M_TRIM_THRESHOLD": (-1, 2**18)}
_RECORDS_AT_ONCE: Final = 64  # a child that reports without end must not keep the supervisor reading

Descriptors = dict[int, tuple[int, int]]  # each with what it stands for: device and inode


@dataclass(frozen=True, kw_only=True)
class ChildSpec:
    """What a child is. Stages start in rising order, each once those before are ready, and stop in falling order."""

    name: str  # unique: "broker", "camera:lobby"
    stage: int
    entry: Callable[[Any, Link], int | None]
    settings: Any
    # The command that makes a running child of the first settings one of the second; None where only a new one will do.
    retune: Callable[[Any, Any], Command | None] = lambda _old, _new: None
    awaited: bool = True  # whether later stages wait until it is ready
    overseer: bool = False  # whether it hears of all the others, and may ask for things to be done with them
    facts: Mapping[str, Any] = field(default_factory=dict, compare=False)  # JSON, no secrets: what overseers may know


@dataclass(frozen=True, kw_only=True, slots=True)
class News:
    """What a child has sent since it was last listened to."""

    status: Status | None = None  # the newest; None where there is none
    record: bytes = b""  # that status as it came
    asks: tuple[Command, ...] = ()


class Child:
    """A process that was started from a `ChildSpec`.

    Raises `OSError`, and leaves nothing behind, where the machine has no process, thread or descriptor to give.
    """

    def __init__(self, spec: ChildSpec) -> None:
        self.spec = spec
        with contextlib.ExitStack() as undo:
            self._pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self._pipe.settimeout(0)
            undo.callback(self._pipe.close)
            with theirs:
                self._log = ChildLog(spec.name)
                undo.callback(self._log.close)
                undo.callback(self._log.forked)
                before = _open_descriptors()
                kept = {0, 1, 2, theirs.fileno(), *self._log.descriptors}
                unwanted = {number: known for number, known in before.items() if number not in kept}
                self._process = _FORK.Process(
                    target=_live, args=(spec, theirs, self._log, unwanted, os.getpid()), name=spec.name, daemon=False
                )
                try:
                    _start(self._process)
                except OSError:
                    undo.close()  # at once, for without a free descriptor nobody can look around
                    _close_pipes_made_since(before)
                    raise
            undo.pop_all()
        self._log.forked()

    @property
    def pid(self) -> int:
        """The process's id."""
        assert self._process.pid is not None  # noqa: S101 - start() returned
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._process.sentinel

    @property
    def pipe(self) -> socket.socket:
        """A descriptor that becomes readable when a status has arrived."""
        return self._pipe

    def receive(self) -> News:
        """What has arrived since the last call.

        Raises `EOFError` once all is read and its end is closed: it will report no more.
        """
        newest, heard, asks = b"", False, []
        with contextlib.suppress(BlockingIOError):
            for _ in range(_RECORDS_AT_ONCE):
                record = self._receive_record()
                if not record:
                    break
                heard = True
                if record.startswith(COMMAND_BEGINS):
                    asks.append(record)
                else:
                    newest = record
            if not heard:
                raise EOFError
        try:
            return News(
                status=Status.decode(newest) if newest else None,
                record=newest,
                asks=tuple(Command.decode(ask) for ask in asks),
            )
        except ValueError:
            log.warning("%s sent a record that cannot be read; ignored", self.spec.name)
            return News()

    def _receive_record(self) -> bytes:
        try:
            return self._pipe.recv(MAX_RECORD_BYTES)
        except ConnectionResetError:
            return b""

    def ask(self, command: Command) -> bool:
        """Send a command; False where the child does not read its pipe any more."""
        return self.tell(command.encode())

    def tell(self, record: bytes) -> bool:
        """Send a command that is encoded already; False where its pipe takes no more, now or ever."""
        try:
            self._pipe.send(record)
        except OSError:
            return False
        return True

    def terminate(self) -> None:
        """SIGTERM."""
        self._signal(signal.SIGTERM)

    def kill(self) -> None:
        """SIGKILL."""
        self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        # Not after the process was reaped: its id may be another's by then.
        if self.exit_code is None:
            os.kill(self.pid, number)

    @property
    def exit_code(self) -> int | None:
        """None while it lives; negative for the signal that ended it."""
        return self._process.exitcode

    def ended_within(self, seconds: float) -> bool:
        """Wait for its end, `seconds` at most; whether it came."""
        self._process.join(max(0.0, seconds))
        return self.exit_code is not None

    def close(self) -> None:
        """Let go of everything of a process that has ended."""
        self._process.join()
        self._process.close()
        self._pipe.close()
        self._log.close()

    def abandon(self) -> None:
        """Let go of a process that does not end, so that this one's own end does not wait for it."""
        self._pipe.close()
        # multiprocessing joins whatever it knows when the interpreter exits, and offers no other way to prevent it.
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]  # noqa: SLF001


def _start(process: multiprocessing.process.BaseProcess) -> None:
    with warnings.catch_warnings():
        # Python 3.12 and later warn of forking beside threads; `logs/pipe.py` says why it is safe here.
        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
        process.start()


def _identity(descriptor: int) -> tuple[int, int]:
    known = os.fstat(descriptor)
    return known.st_dev, known.st_ino


def _open_descriptors() -> Descriptors:
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):  # the one that lists them, or a log thread's that has just ended
            found[int(entry.name)] = _identity(int(entry.name))
    return found


def _close_pipes_made_since(before: Descriptors) -> None:
    """After a fork that failed: multiprocessing forgets the pipes it had made for it."""
    for descriptor, known in _open_descriptors().items():
        if before.get(descriptor) != known and stat.S_ISFIFO(os.fstat(descriptor).st_mode):
            os.close(descriptor)


def _close_descriptors(unwanted: Descriptors) -> None:
    """Close what is still what it was: a number may have been freed by a thread, and given to our own sentinel."""
    for descriptor, known in unwanted.items():
        with contextlib.suppress(OSError):
            if _identity(descriptor) == known:
                os.close(descriptor)


def _live(spec: ChildSpec, pipe: socket.socket, child_log: ChildLog, unwanted: Descriptors, supervisor: int) -> None:
    """In the child: leave everything of the supervisor's behind, then be the worker."""
    die_with_parent(supervisor)
    # Ctrl-C reaches the whole group; the order in which to stop is the supervisor's to decide.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    # Fresh streams: a thread of the supervisor may have held a lock of the old ones at the fork. What a library prints
    # goes to stderr, too: stdout is for the supervisor's data.
    sys.stdout = sys.stderr = open(2, "w", buffering=1, closefd=False, encoding="utf-8", errors="replace")  # noqa: SIM115
    # The objects behind these descriptors stay referenced by the supervisor's frames below us on this stack, so no
    # finalizer can close a number again after it has been given to something else.
    _close_descriptors(unwanted)
    child_log.enter_child()
    threading.excepthook = _log_thread_error
    setproctitle(f"nvision-hub {spec.name}")
    libc = ctypes.CDLL(None)
    for option, value in _MALLOC_OPTIONS.values():
        libc.mallopt(option, value)
    try:
        code = spec.entry(spec.settings, Link(pipe)) or 0
    except HubError as error:
        log.error("%s", error)  # noqa: TRY400 - the sentence is for people, who need no traceback
        code = error.exit_code
    except BaseException:
        log.exception("%s ended by an error of its own", spec.name)
        code = EXIT_FAILED
    sys.exit(code)


def _log_thread_error(error: threading.ExceptHookArgs) -> None:
    """A thread's last error: as a record, which loses its secrets, and not printed, which would show them."""
    if error.exc_value is not None:
        log.error(
            "the thread %s ended by an error of its own",
            error.thread.name if error.thread else "of an unknown name",
            exc_info=(error.exc_type, error.exc_value, error.exc_traceback),
        )
