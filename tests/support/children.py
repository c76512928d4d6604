"""Children for a real supervisor, well and ill behaved. Each is an entry point, and settings are plain JSON."""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import logging
import os
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

from nvision_hub.broker import EmbeddedBroker
from nvision_hub.errors import ConfigError
from nvision_hub.link import Command, status_basis
from nvision_hub.status import Meter, Promise, Status
from workers.broker import broker as keeper

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.link import Link

log = logging.getLogger("nvision_hub.test")

LONG_S: Final = 60


def _status(**more: Any) -> Status:
    return Status(**status_basis("running"), ready=True, **more)


def steady(_settings: None, link: Link) -> None:
    """Works."""
    asyncio.run(link.run(_status))


def slow_to_drain(seconds: float, link: Link) -> None:
    """Finishes what it has when asked to end, and says so."""
    steady(None, link)
    threading.Event().wait(seconds)
    log.info("drained")


def ends(code: int, _link: Link) -> int:
    """Ends at once."""
    return code


def ends_after(settings: dict[str, Any], link: Link) -> int:
    """Works for `lives_s[n]` seconds in life n, counted in the file `lives`; the last holds for all more."""
    with Path(settings["lives"]).open("ab") as file:
        file.write(b".")
        life = file.tell()
    planned = settings["lives_s"]
    end = time.monotonic() + planned[min(life, len(planned)) - 1]
    while time.monotonic() < end:
        link.report(_status())
        time.sleep(0.05)
    return 3


def misconfigured(_settings: None, _link: Link) -> NoReturn:
    raise ConfigError(["cameras.yaml:3:5: this cannot be"])


def wrong(_settings: None, _link: Link) -> NoReturn:
    """Ends by an error that nobody foresaw, with a password in it."""
    raise RuntimeError("cannot open rtsp://viewer:p@ss@10.0.0.5/stream1")


def tells(text: str, link: Link) -> None:
    """Logs `text`: as a warning, as an error with its traceback, from a thread that dies, and printed by a library."""
    log.warning("opening %s", text)
    try:
        _raise(text)
    except OSError:
        log.exception("failed")
    thread = threading.Thread(target=_raise, args=(text,), name="capture")
    thread.start()
    thread.join()
    # What a library attaches to its records fits through no pipe.
    logging.getLogger("websockets.client").warning("closed by %s", text, extra={"websocket": threading.Lock()})
    logging.getLogger("library").error(ValueError(text))
    print("a library's own words")
    steady(None, link)


def _raise(text: str) -> NoReturn:
    raise OSError(text)


def chatty(_settings: None, link: Link) -> None:
    """Logs a number a hundred times a second."""
    stop = threading.Event()

    def talk() -> None:
        number = 0
        while not stop.wait(0.01):
            number += 1
            log.info("number %d %s", number, "." * 500)

    threading.Thread(target=talk, daemon=True).start()
    steady(None, link)
    stop.set()


def complains(count: int, link: Link) -> None:
    """Logs one fault so often as fast as it can, then works; and twice more when it is asked to end."""
    for number in range(count):
        log.warning("packet %d is broken", number)
    steady(None, link)
    log.warning("packet %d is broken", count)
    log.warning("packet %d is broken", count + 1)


def holds_the_gil(marker: str, link: Link) -> None:
    """Hangs inside C with the GIL held, in its first life only."""

    def snapshot() -> Status:
        if first_time(marker):
            ctypes.PyDLL(None).sleep(LONG_S)
        return _status()

    asyncio.run(link.run(snapshot))


def loop_stuck(marker: str, link: Link) -> None:
    """Its event loop stands still, in its first life only, while a thread goes on reporting."""
    moved = time.monotonic()

    def report() -> None:
        while True:
            link.report(_status(promises={"event loop": Promise(at=moved, within_s=1.0)}))
            time.sleep(0.1)

    async def stand() -> None:
        time.sleep(LONG_S)  # noqa: ASYNC251 - the fault itself

    if first_time(marker):
        threading.Thread(target=report, daemon=True).start()
        asyncio.run(stand())
    steady(None, link)


def first_time(marker: str) -> bool:
    """True once, whichever process asks."""
    try:
        Path(marker).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def stubborn(_settings: None, link: Link) -> NoReturn:
    """Ignores whatever it is asked."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    while True:
        link.report(_status())
        time.sleep(0.2)


def floods(_settings: None, link: Link) -> NoReturn:
    """Reports without end."""
    while True:
        link.report(_status())


def babbles(_settings: None, link: Link) -> None:
    """Sends what is no status, then works."""
    assert link._pipe is not None
    for nonsense in (b"{", b"[]", b"\xff\xfe", b'{"promises": 1}', b'{"promises": {"a": {"at": 1}}}'):
        link._pipe.send(nonsense)
    threading.Event().wait(0.5)  # a status right behind would be read in its place
    steady(None, link)


def leaves_a_grandchild(marker: str, link: Link) -> None:
    """Forks on its own, in its first life only, and so leaves somebody who holds all of its descriptors open."""
    if first_time(marker) and os.fork() == 0:
        Path(marker).write_text(str(os.getpid()), encoding="ascii")
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        threading.Event().wait(LONG_S)
        os._exit(0)
    steady(None, link)


def descriptors(_settings: None, link: Link) -> None:
    """Reports what it has open."""
    found = {}
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # the one that lists them
            found[entry.name] = str(entry.readlink())
    asyncio.run(link.run(lambda: _status(row={"open": found})))


def counts(_settings: None, link: Link) -> None:
    """Has counted three pictures by its first report, and logs what it is asked."""
    meter = Meter()
    meter.count("frames_sent_total", by=3)
    meter.count("frames_dropped_total", reason="replaced")
    meter.observe("frame_age_seconds", 0.02)

    def obey(command: Command) -> None:
        log.info("asked to %s %s", command.verb, command.arguments)

    asyncio.run(link.run(lambda: _status(metrics=meter.snapshot()), obey))


def oversees(settings: dict[str, Any], link: Link) -> None:
    """Writes all it hears into the file `heard`, a line each; asks for each line that the file `asks` gains."""
    asked = 0

    def hear(command: Command) -> None:
        with Path(settings["heard"]).open("ab") as file:
            file.write(command.encode() + b"\n")

    def snapshot() -> Status:
        nonlocal asked
        with contextlib.suppress(FileNotFoundError):
            wishes = Path(settings["asks"]).read_bytes().splitlines()
            for wish in wishes[asked:]:
                assert link.ask(Command.decode(wish))
            asked = len(wishes)
        return _status()

    asyncio.run(link.run(snapshot, hear))


def broker(settings: dict[str, Any], link: Link) -> int:
    """The embedded broker's keeper itself; its directory counts from the fleet's own."""
    return keeper.run(EmbeddedBroker(directory=Path(settings["directory"]).resolve(), port=settings["port"]), link)


ENTRIES: Final[dict[str, Callable[[Any, Link], int | None]]] = {
    entry.__name__: entry
    for entry in (
        steady,
        slow_to_drain,
        ends,
        ends_after,
        misconfigured,
        wrong,
        tells,
        chatty,
        complains,
        holds_the_gil,
        loop_stuck,
        stubborn,
        floods,
        babbles,
        leaves_a_grandchild,
        descriptors,
        counts,
        oversees,
        broker,
    )
}
