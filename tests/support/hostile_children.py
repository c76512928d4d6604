"""Children that behave as if an attacker had taken control of them. Each function is an entry point."""

from __future__ import annotations

import json
import logging
import os
import pickle
import struct
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nvision_hub.logs.pipe import ChildLog
from nvision_hub.logs.record_codec import MAX_LINE_BYTES, MAX_MESSAGE_CHARACTERS
from tests.support.children import steady

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

log = logging.getLogger("nvision_hub.test")

FORGED: Final = "this record is forged"


class _Exploit:
    """Object whose pickle creates a file when it is loaded."""

    def __init__(self, canary: str) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path(self._canary),)


def log_queue() -> Any:
    """Return the queue whose pipe transports this child's log records."""
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, ChildLog)
    return handler.queue


def write_all(data: bytes) -> None:
    """Write to the log pipe."""
    left = memoryview(data)
    while left:
        left = left[os.write(log_queue()._writer.fileno(), left) :]


def log_line(**changes: Any) -> bytes:
    fields = {"created": time.time(), "level": 40, "message": FORGED, "event": None, "state": None, "traceback": None}
    return json.dumps(fields | changes).encode() + b"\n"


def invalid_records(canary: str) -> dict[str, bytes]:
    """Return attacks on the log pipe. Each consists of complete lines, and no line is a valid record."""
    exploit = pickle.dumps(_Exploit(canary))
    record = logging.makeLogRecord({"msg": FORGED, "processName": "hub"})
    return {
        # The frame of `multiprocessing.Connection`, which a queue reads.
        "frames with pickles": struct.pack("!i", len(exploit)) + exploit + b"\n",
        "pickles": exploit + b"\n" + pickle.dumps(record) + b"\n",
        "frame of 2 GiB": struct.pack("!i", 2**31 - 1) + b"\n",
        "bytes that are not text": bytes(range(256)) * 100 + b"\n",
        "long record": log_line(message="x" * MAX_LINE_BYTES),
        "long message": log_line(message="x" * (MAX_MESSAGE_CHARACTERS + 1)),
        "10 MB without a line break": b"x" * 10**7 + b"\n",
        "nested lists": b"[" * 100_000 + b"\n",
        "wrong types": b"".join(
            (
                log_line(created="now"),
                log_line(created=float("nan")),
                log_line(created=1e300),
                log_line(created=-1),
                log_line(level="ERROR"),
                log_line(level=True),
                log_line(level=10**6),
                log_line(message=None),
                log_line(message=[FORGED]),
                log_line(event="two words"),
                log_line(event={}),
                log_line(state="\x1b[2J"),
                log_line(traceback=7),
                b"{}\n[]\nnull\n\n",
            )
        ),
        "attributes of other processes and handlers": b"".join(
            (
                log_line(processName="hub"),
                log_line(process=1),
                log_line(args=["%s"]),
                log_line(msg=FORGED),
                log_line(exc_info=True),
                log_line(fault="x"),
            )
        ),
    }


def forges_log_records(canary: str, pipe: SupervisorPipe) -> None:
    """Write every attack to the log pipe, then a valid record that pretends to have more lines, then log as usual."""
    attacks = invalid_records(canary)
    log_queue()._sem.acquire()  # a queue in the supervisor would unpickle only if an item is counted
    for attack in attacks.values():
        write_all(attack)
    write_all(log_line(message=f"%s\n2026-11-30T12:00:00.000Z WARNING hub  {FORGED}\n"))
    log.info("wrote %d invalid records", sum(attack.count(b"\n") for attack in attacks.values()))
    steady(None, pipe)


def floods_its_log(_settings: None, _pipe: SupervisorPipe) -> NoReturn:
    """Write long records in an endless loop. Their text makes the redaction of addresses as slow as possible."""
    line = log_line(message=("a" * 31 + "://") * (MAX_MESSAGE_CHARACTERS // 34))
    while True:
        write_all(line)


ENTRIES: Final[dict[str, Callable[[Any, SupervisorPipe], int | None]]] = {
    entry.__name__: entry for entry in (forges_log_records, floods_its_log)
}
