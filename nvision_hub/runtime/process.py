"""One child process: fork, messages, signals and reaping."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import multiprocessing
import multiprocessing.process
import os
import socket
import sys
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from setproctitle import setproctitle

from nvision_hub.errors import EXIT_FAILED, HubError
from nvision_hub.logs.pipe import ChildLog
from nvision_hub.logs.stray_errors import log_stray_errors
from nvision_hub.runtime.forked_child import enter_child
from nvision_hub.runtime.memory_file import MemoryFile
from nvision_hub.runtime.messages import (
    MAX_RECORD_BYTES,
    MessageError,
    Request,
    RequestInFile,
    SealedRequest,
    TurnRequest,
    decode,
    encode,
    is_status,
)
from nvision_hub.runtime.process_resources import close_pipes_made_since, identity, open_descriptors
from nvision_hub.runtime.sealed_settings import SealedSettings
from nvision_hub.runtime.status import Status
from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.messages import CameraMessage, Message, ProcessFacts
    from nvision_hub.runtime.process_resources import Descriptors

log = logging.getLogger("nvision_hub.child")

# Forked workers share the modules that are loaded before the fork. A forked worker has 9 MB of private memory, and a
# spawned worker 35 MB (measured).
_FORK: Final = multiprocessing.get_context("fork")
# Options of malloc.h. By default, glibc keeps an arena per thread and raises its mmap threshold to the size of the
# largest freed block. glibc then allocates frames in arenas and never returns the memory of fragmented arenas to the
# kernel (2.5 MB per worker, measured).
_MALLOC_OPTIONS: Final = {"M_ARENA_MAX": (-8, 1), "M_MMAP_THRESHOLD": (-3, 128 * 1024), "M_TRIM_THRESHOLD": (-1, 2**18)}
_MAX_RECORDS: Final = 64  # per `receive`, so that a child that sends continuously does not block the supervisor


def _restart(_old: object, _new: object) -> None:
    """Return None: the child must restart after any change of its settings."""


@dataclass(frozen=True, kw_only=True)
class ProcessSpec:
    """Description of a child process to run. Stages start in ascending order and stop in descending order."""

    name: str  # unique, for example "broker" or "camera:lobby"
    stage: int
    entry: Callable[[Any, SupervisorPipe], int | None]
    settings: Any  # argument of `entry`; the child replaces `SealedSettings` with their content
    # Function of the old and the new settings. It returns the message that applies the new settings to a running child,
    # or None if the child must restart.
    reconfigure: Callable[[Any, Any], CameraMessage | None] = _restart
    awaited: bool = True  # whether later stages wait until this child is ready
    subscriber: bool = False  # whether the child follows all other processes and may send requests
    facts: ProcessFacts | None = field(default=None, compare=False)  # for subscribers, without secrets


@dataclass(frozen=True, kw_only=True, slots=True)
class ChildOutput:
    status: Status | None = None  # the newest status; None if no status has arrived
    record: bytes = b""  # the record of `status` in the form in which it arrived
    requests: tuple[Request | SealedRequest | TurnRequest, ...] = ()


class ChildProcess:
    """Child process of a `ProcessSpec`.

    The constructor starts the process. Raises `OSError` if a limit on processes, threads or descriptors is reached.
    """

    def __init__(self, spec: ProcessSpec) -> None:
        self.spec = spec
        with contextlib.ExitStack() as undo:
            self.pipe, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            self.pipe.settimeout(0)
            undo.callback(self.pipe.close)
            with theirs:
                self._log = ChildLog(spec.name)
                undo.callback(self._log.close)
                undo.callback(self._log.forked)
                before = open_descriptors()
                kept = {0, 1, 2, theirs.fileno(), *self._log.descriptors}
                if isinstance(spec.settings, SealedSettings):
                    kept.add(spec.settings.file.fileno())
                unwanted = {number: known for number, known in before.items() if number not in kept}
                self._process = _FORK.Process(
                    target=_live, args=(spec, theirs, self._log, unwanted, os.getpid()), name=spec.name, daemon=False
                )
                try:
                    with warnings.catch_warnings():
                        # Python 3.12 and later warn about a fork while threads run. `ChildLog` explains why this fork
                        # is safe.
                        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
                        self._process.start()
                except OSError:
                    undo.close()  # undo here, because the next line needs a free descriptor
                    close_pipes_made_since(before)
                    raise
            undo.pop_all()
        self._log.forked(self.pid)

    @property
    def pid(self) -> int:
        assert self._process.pid is not None  # noqa: S101 - start() returned
        return self._process.pid

    @property
    def sentinel(self) -> int:
        """Descriptor that becomes readable when the process has ended."""
        return self._process.sentinel

    def receive(self) -> ChildOutput:
        """Return the messages since the last call, with at most one request from a subscriber.

        Raises `EOFError` if no message is left and the child has closed its end of the pipe.
        """
        records: list[tuple[bytes, MemoryFile | None]] = []
        with contextlib.suppress(BlockingIOError):
            while len(records) < _MAX_RECORDS and (received := self._receive_record())[0]:
                records.append(received)
                if self.spec.subscriber and not is_status(received[0]):
                    break  # a request may take a second, and the supervisor must handle its other children in between
            if not records:
                raise EOFError
        newest = next((record for record, _ in reversed(records) if is_status(record)), b"")
        status = self._decode(newest, None) if newest else None
        requests = [self._decode(record, file) for record, file in records if not is_status(record)]
        return ChildOutput(
            status=status if isinstance(status, Status) else None,
            record=newest,
            requests=tuple(each for each in requests if isinstance(each, Request | SealedRequest | TurnRequest)),
        )

    def _decode(self, record: bytes, file: MemoryFile | None) -> Message | SealedRequest | None:
        try:
            message = decode(record)
        except MessageError as error:
            log.warning("record from %s ignored: %s", self.spec.name, error, extra={"event": "message_malformed"})
            return None
        if isinstance(message, RequestInFile):
            return SealedRequest(request_id=message.request_id, file=file)
        return message

    def _receive_record(self) -> tuple[bytes, MemoryFile | None]:
        """Return a record and the memory file that arrived with it, if any."""
        try:
            record, descriptors, _, _ = socket.recv_fds(self.pipe, MAX_RECORD_BYTES, 1, socket.MSG_CMSG_CLOEXEC)
        except ConnectionResetError:
            return b"", None
        return record, MemoryFile(descriptors[0]) if descriptors else None

    def send(self, message: Message | bytes) -> bool:
        """Send a message or an encoded record. Return False if the pipe is full or closed."""
        try:
            self.pipe.send(message if isinstance(message, bytes) else encode(message))
        except OSError:
            return False
        return True

    def terminate(self) -> None:
        """Send SIGTERM unless the process has already been reaped."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL unless the process has already been reaped."""
        self._process.kill()

    @property
    def exit_code(self) -> int | None:
        """Exit code: None while the process is alive, negative if a signal ended it."""
        return self._process.exitcode

    def ended_within(self, seconds: float) -> bool:
        """Wait at most `seconds` for the process to end. Return whether it has ended."""
        self._process.join(max(0.0, seconds))
        return self.exit_code is not None

    def close(self) -> None:
        """Release all resources of a process that has ended."""
        self._process.join()
        self._process.close()
        self.pipe.close()
        self._log.close()

    def abandon(self) -> None:
        """Give up on a process that does not end, so that the supervisor can exit without waiting for it."""
        self.pipe.close()
        # multiprocessing joins all its processes when the interpreter exits, and offers no public way to prevent this.
        multiprocessing.process._children.discard(self._process)  # type: ignore[attr-defined]  # noqa: SLF001


def _live(spec: ProcessSpec, pipe: socket.socket, child_log: ChildLog, unwanted: Descriptors, supervisor: int) -> None:
    """Release the supervisor's resources, and then run the worker. Runs in the child."""
    enter_child(supervisor)
    # The fork copied the supervisor's stack frames, so the objects that own these descriptors stay alive. No finalizer
    # can therefore close a descriptor number after the kernel has reused it.
    for descriptor, known in unwanted.items():
        with contextlib.suppress(OSError):
            # A thread may have closed the descriptor before the fork. The number may now belong to the child's
            # sentinel.
            if identity(descriptor) == known:
                os.close(descriptor)
    child_log.enter_child()
    log_stray_errors()
    setproctitle(f"nvision-hub {spec.name}")
    libc = ctypes.CDLL(None)
    for option, value in _MALLOC_OPTIONS.values():
        libc.mallopt(option, value)
    try:
        settings = spec.settings.reveal() if isinstance(spec.settings, SealedSettings) else spec.settings
        code = spec.entry(settings, SupervisorPipe(pipe)) or 0
    except HubError as error:
        log.error("%s", error, extra={"event": "worker_failed"})  # noqa: TRY400 - a traceback would not help the user
        code = error.exit_code
    except BaseException:
        log.exception("%s failed: unexpected error", spec.name, extra={"event": "worker_crashed"})
        code = EXIT_FAILED
    sys.exit(code)
