"""Function call in a short-lived child process. When the child ends, all values that it used are gone."""

from __future__ import annotations

import contextlib
import errno
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
from nvision_hub.logs import record_codec
from nvision_hub.redaction import redact
from nvision_hub.runtime.forked_child import enter_child
from nvision_hub.runtime.process_resources import cause_and_fix, close_pipes_made_since, open_descriptors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from multiprocessing.context import ForkProcess
    from typing import Protocol

    class HasDescriptor(Protocol):
        def fileno(self) -> int: ...


_FORK: Final = multiprocessing.get_context("fork")
_HEADER: Final = struct.Struct("!QQ")  # number of files, bytes of the reply
_FILES_PER_MESSAGE: Final = 200  # the kernel accepts 253 (SCM_MAX_FD in include/net/scm.h)


class ForkedCallError(RuntimeError):
    """The function raised an unexpected error. The message contains the error and its traceback."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _CallOutcome:
    result: Any = None
    error: Exception | None = None
    traceback: str | None = None
    records: tuple[bytes, ...] = ()  # log records in the encoding of `record_codec`


class _Recorder(logging.Handler):
    """Handler that encodes log records so that the parent can log them."""

    def __init__(self) -> None:
        super().__init__()
        self.records: list[bytes] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record_codec.encode(record))


def call_in_child(
    function: Callable[[], tuple[Any, Sequence[HasDescriptor]]],
    *,
    timeout_s: float,
    passed_errors: tuple[type[Exception], ...] = (HubError,),
) -> tuple[Any, list[int]]:
    """Call `function` in a forked child. Return its result and new descriptors of the files that it returned.

    The result must be picklable. The caller must close the descriptors. This process handles the child's log records.

    Raises an error of `function` if its type is in `passed_errors`, and `ForkedCallError` for any other error. Raises
    `UnavailableError` if the child cannot start, ends early or takes longer than `timeout_s` seconds.
    """
    deadline = time.monotonic() + timeout_s
    process, channel = _started(function, passed_errors)
    try:
        with channel:
            reply, files = _receive(channel, deadline)
    except (OSError, EOFError) as error:
        if isinstance(error, TimeoutError):
            reason = f"it took longer than {timeout_s:.0f} s; try again"
        elif isinstance(error, OSError) and error.errno == errno.EMFILE:
            reason = cause_and_fix(error)
        else:
            reason = "its process ended; try again"
        raise UnavailableError(f"the configuration could not be read: {reason}") from error
    finally:
        process.kill()
        process.join()
        process.close()
    for line in reply.records:
        record = record_codec.decode(line, process=multiprocessing.current_process().name, pid=os.getpid())
        if (logger := logging.getLogger(record.name)).isEnabledFor(record.levelno):
            logger.handle(record)
    if reply.error is not None:
        try:
            raise reply.error
        finally:
            del reply  # otherwise, the error and this frame would refer to each other and keep the arguments alive
    if reply.traceback is not None:
        raise ForkedCallError(reply.traceback)
    return reply.result, files


def _started(
    function: Callable[[], tuple[Any, Sequence[HasDescriptor]]], passed_errors: tuple[type[Exception], ...]
) -> tuple[ForkProcess, socket.socket]:
    """Start the child, and return the process and the socket for its reply. Raises `UnavailableError` on failure."""
    with contextlib.ExitStack() as undo:
        try:
            before = open_descriptors()
            ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
            undo.enter_context(ours)
            with theirs:
                process = _FORK.Process(target=_answer, args=(function, theirs, passed_errors, os.getpid()))
                try:
                    with warnings.catch_warnings():
                        warnings.filterwarnings("ignore", message=".*multi-threaded.*fork", category=DeprecationWarning)
                        process.start()
                except OSError:
                    theirs.close()  # close it here, because the next line needs a free descriptor
                    close_pipes_made_since(before)
                    raise
        except OSError as error:
            raise UnavailableError(
                f"no process can be started to read the configuration: {cause_and_fix(error)}"
            ) from error
        undo.pop_all()
    return process, ours


def _answer(
    function: Callable[[], tuple[Any, Sequence[HasDescriptor]]],
    channel: socket.socket,
    passed_errors: tuple[type[Exception], ...],
    parent: int,
) -> None:
    """Send the outcome of `function` to the parent. Runs in the child."""
    enter_child(parent)
    recorder = _Recorder()
    logging.getLogger().handlers = [recorder]
    reply, files = _outcome(function, passed_errors, recorder)
    descriptors = [file.fileno() for file in files]
    channel.sendall(_HEADER.pack(len(descriptors), len(reply)))
    for first in range(0, len(descriptors), _FILES_PER_MESSAGE):
        socket.send_fds(channel, [b"F"], descriptors[first : first + _FILES_PER_MESSAGE])
    channel.sendall(reply)


def _outcome(
    function: Callable[[], tuple[Any, Sequence[HasDescriptor]]],
    passed_errors: tuple[type[Exception], ...],
    recorder: _Recorder,
) -> tuple[bytes, Sequence[HasDescriptor]]:
    """Return the pickled outcome of a call and the files to send."""
    try:
        try:
            result, files = function()
            return pickle.dumps(_CallOutcome(result=result, records=tuple(recorder.records))), files
        except passed_errors as error:
            return pickle.dumps(_CallOutcome(error=error, records=tuple(recorder.records))), ()
    except Exception as error:  # noqa: BLE001 - the parent raises it
        text = redact(f"{type(error).__name__}: {error}\n{traceback.format_exc()}")
        return pickle.dumps(_CallOutcome(traceback=text, records=tuple(recorder.records))), ()


def _receive(channel: socket.socket, deadline: float) -> tuple[_CallOutcome, list[int]]:
    """Return the outcome and the new descriptors.

    Raises `TimeoutError` after the deadline, `OSError` if this process has no free descriptor, and `EOFError` if the
    child has ended.
    """
    count, size = _HEADER.unpack(_receive_exactly(channel, _HEADER.size, deadline))
    files: list[int] = []
    try:
        while len(files) < count:
            _receive_descriptors(channel, deadline, files)
        # The data is safe to unpickle: the child runs this program and reads only data that operators have written.
        return pickle.loads(_receive_exactly(channel, size, deadline)), files  # noqa: S301
    except BaseException:
        for descriptor in files:
            os.close(descriptor)
        raise


def _receive_descriptors(channel: socket.socket, deadline: float, files: list[int]) -> None:
    """Receive one message and append its descriptors to `files`. Raises the same errors as `_receive`.

    If some descriptors are missing, append the received ones before raising `OSError`.
    """
    channel.settimeout(max(0.001, deadline - time.monotonic()))
    data, descriptors, flags, _ = socket.recv_fds(channel, 1, _FILES_PER_MESSAGE, socket.MSG_CMSG_CLOEXEC)
    files += descriptors
    if not data:
        raise EOFError
    if flags & socket.MSG_CTRUNC:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))


def _receive_exactly(channel: socket.socket, size: int, deadline: float) -> bytes:
    received = bytearray()
    while len(received) < size:
        channel.settimeout(max(0.001, deadline - time.monotonic()))
        if not (chunk := channel.recv(min(size - len(received), 2**20))):
            raise EOFError
        received += chunk
    return bytes(received)
