"""A real gateway process, and the supervisor that it believes it has: accounts, reports and answers of a test."""

from __future__ import annotations

import fcntl
import struct
import termios
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from nvision_hub.broker.publisher import Stream
from nvision_hub.child import Child, ChildSpec
from nvision_hub.config import Secret
from nvision_hub.link import Command
from nvision_hub.oversight import GONE, REPLY, Account, report_record
from nvision_hub.status import Meter, Status
from workers.gateway import gateway

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.redis_server import KeptValkey

_START_S: Final = 30.0
SITE: Final = "test"
CAMERA_PID: Final = 1_000_000_000  # no process has such a number


def facts(camera: str, **more: Any) -> dict[str, Any]:
    """What the hub tells of a camera."""
    settings = {
        "id": camera,
        "name": None,
        "url": "rtsp://10.0.0.5/stream1",
        "fps": 5.0,
        "jpeg_quality": 85,
        "max_width": None,
        "labels": {"floor": "1"},
        "nvision": {"service": "object-detection", "confidence_threshold": 0.1},
        **more,
    }
    return {"camera": settings, "run_time": {"paused": False, "set": {}, "added": False}, "index": 0}


def counted(**counters: float) -> Meter:
    """A meter of a camera that has counted so much."""
    meter = Meter()
    for name, value in counters.items():
        meter.reached(name, value)
    return meter


def status(pid: int, meter: Meter, *, state: str = "streaming", error: str | None = None, **row: Any) -> Status:
    """A camera's report."""
    return Status(
        pid=pid,
        at=time.monotonic(),
        state=state,
        ready=state == "streaming",
        error=error,
        metrics=meter.snapshot(),
        row={"rate_in": 25.0, "rate_out": 5.0, "seen": ["person"], "fps": 5.0, **row},
    )


@dataclass(kw_only=True)
class Overseen:
    """One gateway and its supervisor. `answer` says what becomes of an ask: None for done, or a sentence."""

    settings: gateway.GatewaySettings
    answer: Callable[[Command], str | None] = lambda _ask: None
    deaf: bool = False  # nothing is answered
    asks: list[Command] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    child: Child = field(init=False)
    _ended: threading.Event = field(default_factory=threading.Event)
    _news: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        spec = ChildSpec(name="gateway", stage=0, entry=gateway.run, settings=self.settings, overseer=True)
        self.child = Child(spec)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.wait_for(lambda: any(status.ready for status in self.statuses))

    @property
    def url(self) -> str:
        """Where it answers."""
        return str(self.statuses[-1].row["url"])

    def client(self, token: str | None = None) -> httpx2.Client:
        """For its API; to be closed."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False)

    def _serve(self) -> None:
        while not self._ended.wait(0.005):
            try:
                news = self.child.receive()
            except EOFError:
                return
            with self._news:
                if news.status is not None:
                    self.statuses.append(news.status)
                self.asks.extend(news.asks)
                self._news.notify_all()
            for ask in () if self.deaf else news.asks:
                error = self.answer(ask)
                self.child.ask(Command(verb=REPLY, arguments={"id": ask.arguments["id"], "error": error}))

    def wait_for(self, condition: Callable[[], bool], within_s: float = _START_S) -> None:
        """Wait for news from the gateway."""
        with self._news:
            assert self._news.wait_for(condition, within_s), (self.asks[-5:], self.statuses[-1:])

    def account(self, name: str, **fields: Any) -> None:
        """Tell how a member stands."""
        assert self.child.tell(Account(**{"name": name, "phase": "running", **fields}).encode())
        self._taken_in()

    def report(self, name: str, status: Status) -> None:
        """Hand on a member's report."""
        self.report_bytes(name, status.encode())
        self._taken_in()

    def report_bytes(self, name: str, record: bytes) -> None:
        """The same, of one that is encoded, without waiting."""
        assert self.child.tell(report_record(name, record))

    def gone(self, name: str) -> None:
        """A member exists no more."""
        assert self.child.ask(Command(verb=GONE, arguments={"name": name}))
        self._taken_in()

    def _taken_in(self) -> None:
        """Wait until the gateway has read all that it was told; whatever it is asked next, it knows that by then."""
        deadline = time.monotonic() + _START_S
        while struct.unpack("i", fcntl.ioctl(self.child.pipe, termios.TIOCOUTQ, b"\0" * 4))[0]:
            assert time.monotonic() < deadline, "it does not read"
            time.sleep(0.001)

    def camera(self, camera: str, meter: Meter | None = None, **more: Any) -> None:
        """A camera that streams."""
        self.account(f"camera:{camera}", pid=CAMERA_PID, started_at=time.monotonic(), facts=facts(camera))
        self.report(f"camera:{camera}", status(CAMERA_PID, meter or Meter(), **more))

    def close(self) -> None:
        self.child.ask(Command(verb="drain"))
        if not self.child.ended_within(10.0):
            self.child.kill()
        self._ended.set()
        self._thread.join()
        self.child.close()


@pytest.fixture
def overseen(kept_valkey: Callable[..., KeptValkey]) -> Iterator[Callable[..., Overseen]]:
    """Start a gateway: `overseen()`, `overseen(token="...", callback_token="...")`; with a broker of its own."""
    started: list[Overseen] = []

    def start(
        *, answer: Callable[[Command], str | None] = lambda _ask: None, broker: KeptValkey | None = None, **more: Any
    ) -> Overseen:
        if broker is None:
            broker = kept_valkey()
            broker.start()
        for name in ("token", "callback_token"):
            if isinstance(more.get(name), str):
                more[name] = Secret(more[name])
        settings = gateway.GatewaySettings(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "loopback": True,
                "site": SITE,
                "stream": Stream(url=broker.url, prefix="nvision", max_entries=1000),
                **more,
            }
        )
        one = Overseen(settings=settings, answer=answer)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.close()
