"""A worker's end of its private pipe: status up, commands down.

The pipe is a pair of SOCK_SEQPACKET sockets: a record arrives whole or not at all, so a worker stopped or killed
in the middle of writing can never leave half a record for the supervisor to wait on. Neither side ever blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from nvision_hub.status import Status

REPORT_EVERY_S: Final = 1.0
COMMAND_BEGINS: Final = b'{"verb"'  # what tells a command from a status
MAX_RECORD_BYTES: Final = 128 * 1024  # below Linux's default socket buffer, past which a packet cannot be sent
MAX_STATUS_BYTES: Final = MAX_RECORD_BYTES - 1024  # so that it can be handed on to an overseer, with its name
_ERROR_KEPT: Final = 1000  # characters


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """What the supervisor asks of a worker, such as `drain` or `set`; and what an overseer asks of the supervisor."""

    verb: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def encode(self) -> bytes:
        """As one packet of the pipe."""
        return json.dumps({"verb": self.verb, "arguments": self.arguments}).encode()

    @classmethod
    def decode(cls, data: bytes) -> Command:
        """From one packet. Raises `ValueError` for anything else."""
        try:
            fields = json.loads(data)
            return cls(verb=str(fields["verb"]), arguments=dict(fields["arguments"]))
        except (TypeError, KeyError, ValueError, RecursionError) as error:
            raise ValueError("not a command") from error


class Link:
    """What a worker has of its supervisor. `Link(None)` stands alone: nobody reads, signals alone stop it."""

    def __init__(self, pipe: socket.socket | None) -> None:
        self._pipe = pipe
        self.ended_by: signal.Signals | None = None  # None until a signal asked for the end
        if pipe is not None:
            pipe.settimeout(0)

    def report(self, status: Status) -> None:
        """Send one record up; a supervisor that reads too slowly misses it and gets the next.

        One too large for the pipe goes without its metrics and row.
        """
        if self._pipe is None:
            return
        record = status.encode()
        if len(record) > MAX_STATUS_BYTES:  # the heartbeat must arrive, whatever a worker has gathered
            error = status.error and status.error[:_ERROR_KEPT]
            record = replace(status, metrics={}, row={}, error=error).encode()
        with contextlib.suppress(BlockingIOError, BrokenPipeError, ConnectionResetError):
            self._pipe.send(record)

    def ask(self, command: Command) -> bool:
        """An overseer's request to the supervisor; False where it does not get there, which the caller must tell."""
        if self._pipe is None:
            return False
        try:
            self._pipe.send(command.encode())
        except OSError:
            return False
        return True

    async def run(self, snapshot: Callable[[], Status], on_command: Callable[[Command], None] | None = None) -> None:
        """Report at once, then each second, and hand on commands, until the worker is asked to end.

        Returns on a `drain` command, on SIGTERM, on SIGINT where it stands alone, and when the supervisor is gone.
        """
        loop = asyncio.get_running_loop()
        ended = asyncio.Event()
        for number in (signal.SIGTERM,) if self._pipe is not None else (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._end, number, ended)
        reader = self._pipe
        if reader is not None:
            loop.add_reader(reader, self._receive, ended, on_command)
        try:
            while not ended.is_set():
                self.report(snapshot())
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(REPORT_EVERY_S):
                        await ended.wait()
        finally:
            if reader is not None:
                loop.remove_reader(reader)

    def _end(self, number: signal.Signals, ended: asyncio.Event) -> None:
        self.ended_by = number
        ended.set()

    def _receive(self, ended: asyncio.Event, on_command: Callable[[Command], None] | None) -> None:
        assert self._pipe is not None  # noqa: S101 - only a link with a pipe adds this reader
        try:
            data = self._pipe.recv(MAX_RECORD_BYTES)
        except BlockingIOError:
            return
        except ConnectionResetError:
            data = b""
        if not data:  # the supervisor is gone
            asyncio.get_running_loop().remove_reader(self._pipe)
            ended.set()
            return
        command = Command.decode(data)
        if command.verb == "drain":
            ended.set()
        elif on_command is not None:
            on_command(command)


def status_basis(state: str) -> dict[str, Any]:
    """The fields of a `Status` that every worker fills alike."""
    return {"pid": os.getpid(), "at": time.monotonic(), "state": state}
