"""Worker's end of the pipe to its supervisor.

The pipe is a pair of SOCK_SEQPACKET sockets. A record arrives either completely or not at all, even if a process is
killed while it writes. Neither side ever blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime.memory_file import MemoryFile
from nvision_hub.runtime.messages import (
    MAX_RECORD_BYTES,
    AddCamera,
    Drain,
    MessageError,
    RequestInFile,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from nvision_hub.runtime.messages import Message, Request, TurnRequest
    from nvision_hub.runtime.status import Status

log = logging.getLogger("nvision_hub.child")

REPORT_INTERVAL_S: Final = 1.0
MAX_STATUS_BYTES: Final = MAX_RECORD_BYTES - 1024  # leaves room for the message that forwards a status
_MAX_ERROR_CHARACTERS: Final = 1000


class SupervisorPipe:
    """A worker's connection to its supervisor. If `pipe` is None, only signals stop the worker."""

    def __init__(self, pipe: socket.socket | None) -> None:
        self._pipe = pipe
        self.ended_by: signal.Signals | None = None  # None until a signal asks the worker to end
        if pipe is not None:
            pipe.settimeout(0)

    def report(self, status: Status) -> None:
        """Send a status. If it is too large, omit its metrics and info. If the pipe is full, discard it."""
        if self._pipe is None:
            return
        record = encode(status)
        if len(record) > MAX_STATUS_BYTES:  # the status is the heartbeat, so at least a short status must arrive
            error = status.error and status.error[:_MAX_ERROR_CHARACTERS]
            record = encode(replace(status, metrics=MetricSnapshot(), info=None, error=error))
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._pipe.send(record)

    def request(self, request: Request | TurnRequest) -> bool:
        """Send a request. Callable from any thread. Returns False if the pipe cannot send. Raises `MessageError`.

        An `AddCamera` may contain secrets, which the supervisor must not read. The method therefore sends it in a
        memory file.
        """
        if self._pipe is None:
            return False
        record = encode(request)
        try:
            if isinstance(request, AddCamera):
                file = MemoryFile.create(record)
                socket.send_fds(self._pipe, [encode(RequestInFile(request_id=request.request_id))], [file.fileno()])
            else:
                self._pipe.send(record)
        except OSError:
            return False
        return True

    async def serve(
        self,
        snapshot: Callable[[], Status],
        on_message: Callable[[Message], None] | None = None,
        started: Callable[[], Awaitable[object]] | None = None,
    ) -> None:
        """Wait for `started`. Then report a status every second, and pass received messages to `on_message`.

        Returns on `Drain`, on SIGTERM, on SIGINT without a supervisor, and when the supervisor has ended.
        """
        loop, ended, pipe = asyncio.get_running_loop(), asyncio.Event(), self._pipe
        for number in (signal.SIGTERM,) if pipe is not None else (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number, ended)
        if started is not None:
            await _wait_for_first(started(), ended.wait())
        if pipe is not None:
            loop.add_reader(pipe, self._receive, pipe, ended, on_message)
        try:
            while not ended.is_set():
                self.report(snapshot())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPORT_INTERVAL_S):
                        await ended.wait()
        finally:
            if pipe is not None:
                loop.remove_reader(pipe)

    def _end(self, number: signal.Signals, ended: asyncio.Event) -> None:
        self.ended_by = number
        ended.set()

    @staticmethod
    def _receive(pipe: socket.socket, ended: asyncio.Event, on_message: Callable[[Message], None] | None) -> None:
        try:
            record = pipe.recv(MAX_RECORD_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            record = b""
        if not record:  # the supervisor has ended
            asyncio.get_running_loop().remove_reader(pipe)
            ended.set()
            return
        try:
            message = decode(record)
        except MessageError as error:
            log.warning("message from the supervisor ignored: %s", error, extra={"event": "message_malformed"})
            return
        if isinstance(message, Drain):
            ended.set()
        elif on_message is not None:
            on_message(message)


async def _wait_for_first(*works: Awaitable[object]) -> None:
    """Wait until one of `works` ends, and cancel the others. If the ended one failed, raise its error."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
