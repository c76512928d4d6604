"""Healthy and faulty children for a real supervisor. Each function is an entry point with plain JSON settings."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import json
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nvision_hub.broker.embedded_config import PASSWORDS_NAME, EmbeddedBroker
from nvision_hub.broker.embedded_users import BrokerPasswords, load_passwords
from nvision_hub.errors import ConfigError, Diagnostic
from nvision_hub.logs.pipe import ChildLog
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import ConnectSlotGranted, Message, Request, decode, encode
from nvision_hub.runtime.status import Deadline, Status
from workers.broker import worker as broker_worker
from workers.camera.connection_turns import ConnectSlot

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

log = logging.getLogger("nvision_hub.test")

LONG_S: Final = 60


def _status(**more: Any) -> Status:
    return Status(state="running", ready=True, **more)


def steady(_settings: None, pipe: SupervisorPipe) -> None:
    """Run until the supervisor requests a drain."""
    asyncio.run(pipe.serve(_status))


def slow_to_drain(seconds: float, pipe: SupervisorPipe) -> None:
    """Drain for `seconds`, and then log that the drain has ended."""
    steady(None, pipe)
    threading.Event().wait(seconds)
    log.info("drained")


def ends(code: int, _pipe: SupervisorPipe) -> int:
    """Exit immediately."""
    return code


def ends_after(settings: dict[str, Any], pipe: SupervisorPipe) -> int:
    """At the n-th start, run for the n-th value of `lives_s` (or the last one).

    The file `lives` gets one byte per start.
    """
    with Path(settings["lives"]).open("ab") as file:
        file.write(b".")
        life = file.tell()
    planned = settings["lives_s"]
    end = time.monotonic() + planned[min(life, len(planned)) - 1]
    while time.monotonic() < end:
        pipe.report(_status())
        time.sleep(0.05)
    return 3


def misconfigured(_settings: None, _pipe: SupervisorPipe) -> NoReturn:
    raise ConfigError(
        [Diagnostic(code="invalid_value", message="this cannot be", file="cameras.yaml", line=3, column=5)]
    )


def wrong(_settings: None, _pipe: SupervisorPipe) -> NoReturn:
    """Fail with an unexpected error that contains a password."""
    raise RuntimeError("cannot open rtsp://viewer:p@ss@10.0.0.5/stream1")


def logs_secrets(text: str, pipe: SupervisorPipe) -> None:
    """Log `text` in a warning, an error with a traceback, a failed thread's error, and a library's output."""
    log.warning("opening %s", text)
    try:
        _raise(text)
    except OSError:
        log.exception("failed")
    thread = threading.Thread(target=_raise, args=(text,), name="capture")
    thread.start()
    thread.join()
    # Libraries attach objects to log records. A pipe cannot carry these objects.
    logging.getLogger("websockets.client").warning("closed by %s", text, extra={"websocket": threading.Lock()})
    logging.getLogger("library").error(ValueError(text))
    print("a library's own words")
    steady(None, pipe)


def _raise(text: str) -> NoReturn:
    raise OSError(text)


def logs_numbers(_settings: None, pipe: SupervisorPipe) -> None:
    """Log the next number a hundred times a second."""
    stop = threading.Event()

    def talk() -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            log.info("number %d %s", number, "." * 500)

    threading.Thread(target=talk, daemon=True).start()
    steady(None, pipe)
    stop.set()


def repeats_a_fault(count: int, pipe: SupervisorPipe) -> None:
    """Log the same fault `count` times at full speed, and twice more during the drain."""
    for number in range(count):
        log.warning("packet %d is broken", number)
    steady(None, pipe)
    log.warning("packet %d is broken", count)
    log.warning("packet %d is broken", count + 1)


def logs_at_full_speed(count: int, pipe: SupervisorPipe) -> None:
    """Log `count` different records at full speed, and a last one when the queue has room again."""
    for number in range(count):
        log.info("number %d", number)
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, ChildLog)
    while handler.queue._buffer:
        time.sleep(0.05)
    log.info("the end")
    steady(None, pipe)


def holds_the_gil(marker: str, pipe: SupervisorPipe) -> None:
    """Hang in C code that holds the GIL, but only in the first process that starts."""

    def snapshot() -> Status:
        if first_time(marker):
            ctypes.PyDLL(None).sleep(LONG_S)
        return _status()

    asyncio.run(pipe.serve(snapshot))


def loop_stuck(marker: str, pipe: SupervisorPipe) -> None:
    """Block the event loop while a thread still reports, but only in the first process that starts."""
    moved = time.monotonic()

    def report() -> None:
        while True:
            pipe.report(_status(deadlines={"event loop": Deadline(at=moved, timeout_s=1.0)}))
            time.sleep(0.1)

    async def stand() -> None:
        time.sleep(LONG_S)  # noqa: ASYNC251 - blocking is the fault under test

    if first_time(marker):
        threading.Thread(target=report, daemon=True).start()
        asyncio.run(stand())
    steady(None, pipe)


def first_time(marker: str) -> bool:
    """Return whether this is the first call with this marker in any process."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def ignores_stop(_settings: None, pipe: SupervisorPipe) -> NoReturn:
    """Ignore every request to stop."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        pipe.report(_status())
        time.sleep(0.2)


def floods(_settings: None, pipe: SupervisorPipe) -> NoReturn:
    """Report in an endless loop."""
    while True:
        pipe.report(_status())


def sends_invalid(_settings: None, pipe: SupervisorPipe) -> None:
    """Send messages that are not valid statuses, and then continue to run."""
    assert pipe._pipe is not None
    for nonsense in (b"{", b"[]", b"\xff\xfe", b"Status {}", b'Status {"state": "x", "deadlines": {"a": {"at": 1}}}'):
        pipe._pipe.send(nonsense)
    threading.Event().wait(0.5)  # otherwise, the supervisor would read only the later status
    steady(None, pipe)


def leaves_a_grandchild(marker: str, pipe: SupervisorPipe) -> None:
    """Fork a process that keeps all descriptors open, but only in the first process that starts."""
    if first_time(marker) and os.fork() == 0:
        Path(marker).write_text(str(os.getpid()), encoding="ascii")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Event().wait(LONG_S)
        os._exit(0)
    steady(None, pipe)


def descriptors(_settings: None, pipe: SupervisorPipe) -> None:
    """Report the open descriptors."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the descriptor of the listing itself is already closed
            found[entry.name] = str(entry.readlink())
    asyncio.run(pipe.serve(lambda: _status(error=json.dumps(found))))


def counts(_settings: None, pipe: SupervisorPipe) -> None:
    """Before the first report, count three frames. Log each request."""
    meter = Meter()
    meter.count(catalogue.FRAMES_SENT_TOTAL, by=3)
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="replaced")
    meter.observe(catalogue.FRAME_AGE_SECONDS, 0.02)

    def on_message(message: Message) -> None:
        log.info("received %s", message)

    asyncio.run(pipe.serve(lambda: _status(metrics=meter.snapshot()), on_message))


def subscribes(settings: dict[str, Any], pipe: SupervisorPipe) -> None:
    """Append each received message to the file `received`. Send each new line of the file `requests` as a request."""
    sent = 0

    def on_message(message: Message) -> None:
        with Path(settings["received"]).open("ab") as file:
            file.write(encode(message) + b"\n")

    def snapshot() -> Status:
        nonlocal sent
        with contextlib.suppress(FileNotFoundError):
            requests = Path(settings["requests"]).read_bytes().splitlines()
            for record in requests[sent:]:
                request = decode(record)
                assert isinstance(request, Request)
                assert pipe.request(request)
            sent = len(requests)
        return _status()

    asyncio.run(pipe.serve(snapshot, on_message))


def connects(settings: dict[str, Any], pipe: SupervisorPipe) -> None:
    """Connect `times` times for `connected_s` each. Append each start and end (CLOCK_MONOTONIC) to the file `spans`."""
    slot = ConnectSlot(pipe.request)

    def connect() -> None:
        for _ in range(settings["times"]):
            with slot.held(threading.Event()):
                began = time.monotonic()
                with Path(settings["spans"]).open("a", encoding="ascii") as file:
                    file.write(f"began {began}\n")
                time.sleep(settings["connected_s"])
                with Path(settings["spans"]).open("a", encoding="ascii") as file:
                    file.write(f"ended {began} {time.monotonic()}\n")

    def on_message(message: Message) -> None:
        if isinstance(message, ConnectSlotGranted):
            slot.wake()

    async def main() -> None:
        threading.Thread(target=connect, daemon=True).start()
        await pipe.serve(_status, on_message)

    asyncio.run(main())


def broker(settings: dict[str, Any], pipe: SupervisorPipe) -> None:
    """Run the broker worker. The path of its directory is relative to the fleet's directory."""
    directory = Path(settings["directory"]).resolve()
    passwords = load_passwords(directory / PASSWORDS_NAME) or BrokerPasswords()
    broker = EmbeddedBroker(directory=directory, port=settings["port"], prefix="nvision", passwords=passwords)
    broker_worker.run(broker, pipe)


ENTRIES: Final[dict[str, Callable[[Any, SupervisorPipe], int | None]]] = {
    entry.__name__: entry
    for entry in (
        steady,
        slow_to_drain,
        ends,
        ends_after,
        misconfigured,
        wrong,
        logs_secrets,
        logs_numbers,
        repeats_a_fault,
        logs_at_full_speed,
        holds_the_gil,
        loop_stuck,
        ignores_stop,
        floods,
        sends_invalid,
        leaves_a_grandchild,
        descriptors,
        counts,
        subscribes,
        connects,
        broker,
    )
}
