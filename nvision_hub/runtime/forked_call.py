"""Call of a function in a short-lived child process. When the child ends, all values that it used are gone."""

from __future__ import annotations

import logging
import multiprocessing
import os
import pickle
import socket
import struct
import time
import traceback
import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.redaction import redact
from nvision_hub.runtime.forked_child import enter_child

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Protocol

    class HasDescriptor(Protocol):
        def fileno(self) -> int: ...


_FORK: Final = multiprocessing.get_context("fork")
_HEADER: Final = struct.Struct("!QQ")  # number of files, bytes of the reply
_FILES_PER_MESSAGE: Final = 200  # the kernel accepts 253 (SCM_MAX_FD in include/net/scm.h)


class ForkedCallError(RuntimeError):
    """The function raised an unexpected error. The message contains its traceback."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _CallOutcome:
    result: Any = None
    error: Exception | None = None
    traceback: str | None = None
    records: tuple[logging.LogRecord, ...] = ()


class _Recorder(logging.Handler):
    """Handler that keeps records as redacted text, so that the parent can log them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = {"name": record.name, "levelno": record.levelno, "levelname": record.levelname}
        event = {"event": record.event} if hasattr(record, "event") else {}
        self.records.append(logging.makeLogRecord(facts | event | {"msg": redact(record.getMessage())}))


def call_in_child(
    function: Callable[[], tuple[Any, Sequence[HasDescriptor]]],
    *,
    timeout_s: float,
    passed_errors: tuple[type[Exception], ...] = (HubError,),
) -> tuple[Any, list[int]]:
    """Call `function` in a forked child. Returns its result, and new descriptors of the files that it returned.

    The result must be picklable. The caller closes the descriptors. This process handles the child's log records.

    Raises the errors of `function` that are `passed_errors`, `ForkedCallError` for other errors, and `UnavailableError`
    if the child cannot start, ends early or takes longer than `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    process = _FORK.Process(target=_answer, args=(function, theirs, passed_errors, os.getpid()))
    with ours:
        with theirs, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
            try:
                process.start()
            except OSError as error:
                raise UnavailableError(
                    f"no process can be started to read the configuration: {error.strerror}"
                ) from error
        try:
            reply, files = _receive(ours, deadline)
        except (OSError, EOFError) as error:
            reason = (
                f"it took longer than {timeout_s:.0f} s" if isinstance(error, TimeoutError) else "its process ended"
            )
            raise UnavailableError(f"the configuration could not be read: {reason}; try again") from error
        finally:
            process.kill()
            process.join()
            process.close()
    for record in reply.records:
        if (logger := logging.getLogger(record.name)).isEnabledFor(record.levelno):
            logger.handle(record)
    if reply.error is not None:
        raise reply.error
    if reply.traceback is not None:
        raise ForkedCallError(reply.traceback)
    return reply.result, files


def _answer(
    function: Callable[[], tuple[Any, Sequence[HasDescriptor]]],
    channel: socket.socket,
    passed_errors: tuple[type[Exception], ...],
    parent: int,
) -> None:
    """Send the result of `function`. Runs in the child."""
    enter_child(parent)
    recorder = _Recorder()
    logging.getLogger().handlers = [recorder]
    files: Sequence[HasDescriptor] = ()
    result, error, text = None, None, None
    try:
        result, files = function()
    except passed_errors as caught:
        error = caught
    except Exception:  # noqa: BLE001 - the parent raises it
        text = redact(traceback.format_exc())
    reply = pickle.dumps(_CallOutcome(result=result, error=error, traceback=text, records=tuple(recorder.records)))
    descriptors = [file.fileno() for file in files]
    channel.sendall(_HEADER.pack(len(descriptors), len(reply)))
    for first in range(0, len(descriptors), _FILES_PER_MESSAGE):
        socket.send_fds(channel, [b"F"], descriptors[first : first + _FILES_PER_MESSAGE])
    channel.sendall(reply)


def _receive(channel: socket.socket, deadline: float) -> tuple[_CallOutcome, list[int]]:
    """Raises `TimeoutError` after the deadline, and `EOFError` if the child has ended."""
    count, size = _HEADER.unpack(_receive_exactly(channel, _HEADER.size, deadline))
    files: list[int] = []
    while len(files) < count:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        _, descriptors, _, _ = socket.recv_fds(channel, 1, _FILES_PER_MESSAGE, socket.MSG_CMSG_CLOEXEC)
        if not descriptors:
            raise EOFError
        files += descriptors
    # The child is this program, and it read only what operators have written.
    return pickle.loads(_receive_exactly(channel, size, deadline)), files  # noqa: S301


def _receive_exactly(channel: socket.socket, size: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        if not (chunk := channel.recv(min(size - len(received), 2**20))):
            raise EOFError
        received += chunk
    return bytes(received)
