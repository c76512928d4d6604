"""A real gateway process. The test acts as its supervisor, and sends process descriptions, statuses and replies."""

from __future__ import annotations

import fcntl
import struct
import termios
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx2
import pytest

from nvision_hub.access.tokens import AccessToken, RoleName, token_digest
from nvision_hub.broker.client import RedisSettings
from nvision_hub.config.value_types import Secret
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import (
    CameraFacts,
    CameraMessage,
    Drain,
    Forward,
    ProcessChanged,
    ProcessInfo,
    ProcessRemoved,
    Reply,
    Request,
    SealedRequest,
    encode,
    status_reported,
)
from nvision_hub.runtime.process import ChildProcess, ProcessSpec
from nvision_hub.runtime.status import CameraInfo, GatewayInfo, Status
from tests.support.metrics import counter
from tests.support.patience import PATIENCE_S
from tests.support.statuses import info_as
from workers import gateway
from workers.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.redis_server import KeptValkey

_M = TypeVar("_M", bound=CameraMessage)

SITE: Final = "test"
CAMERA_PID: Final = 1_000_000_000  # above the largest pid


def facts(camera: str, *, index: int = 0, **more: Any) -> CameraFacts:
    """Return a camera's facts in the form in which the hub provides them."""
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
    return CameraFacts(index=index, settings=settings)


def counted(**counters: float) -> Meter:
    """Return a meter with these counters."""
    meter = Meter()
    for name, value in counters.items():
        meter.set_counter(counter(name), value)
    return meter


def status(pid: int, meter: Meter, *, state: str = "streaming", error: str | None = None, **info: Any) -> Status:
    """Return a camera's status."""
    return Status(
        pid=pid,
        at=time.monotonic(),
        state=state,
        ready=state == "streaming",
        error=error,
        metrics=meter.snapshot(),
        info=CameraInfo(**{"rate_in": 25.0, "rate_out": 5.0, "seen": ("person",), "fps": 5.0, **info}),
    )


@dataclass(kw_only=True)
class SupervisedGateway:
    """One gateway and its supervisor. `answer` performs a request and returns the error; None means success."""

    settings: GatewaySettings
    answer: Callable[[Request], str | None] = lambda _request: None
    is_silent: bool = False  # whether requests get no reply
    requests: list[Request] = field(default_factory=list)
    statuses: list[Status] = field(default_factory=list)
    child: ChildProcess = field(init=False)
    _ended: threading.Event = field(default_factory=threading.Event)
    _updated: threading.Condition = field(default_factory=threading.Condition)
    _thread: threading.Thread = field(init=False)

    def start(self) -> None:
        spec = ProcessSpec(name="gateway", stage=0, entry=gateway.run, settings=self.settings, subscriber=True)
        self.child = ChildProcess(spec)
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()
        self.wait_for(lambda: any(status.ready for status in self.statuses))

    @property
    def url(self) -> str:
        """Base URL of the gateway."""
        return str(info_as(self.statuses[-1], GatewayInfo).url)

    def client(self, token: str | None = None) -> httpx2.Client:
        """Return a client for the gateway's API. The caller closes the client."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return httpx2.Client(base_url=self.url, headers=headers, timeout=30.0, trust_env=False)

    def _serve(self) -> None:
        while not self._ended.wait(0.005):
            try:
                output = self.child.receive()
            except EOFError:
                return
            with self._updated:
                if output.status is not None:
                    self.statuses.append(output.status)
                opened = [each.read() if isinstance(each, SealedRequest) else each for each in output.requests]
                requests = [request for request in opened if isinstance(request, Request)]
                self.requests.extend(requests)
                self._updated.notify_all()
            for request in () if self.is_silent else requests:
                self.child.send(Reply(request_id=request.request_id, error=self.answer(request)))

    def forwarded(self, kind: type[_M]) -> list[tuple[str, _M]]:
        """Return the messages of one type that the gateway has forwarded, each with its target."""
        return [
            (request.target, request.message)
            for request in self.requests
            if isinstance(request, Forward) and isinstance(request.message, kind)
        ]

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        """Wait until the gateway's messages meet the condition."""
        with self._updated:
            assert self._updated.wait_for(condition, timeout_s), (self.requests[-5:], self.statuses[-1:])

    def set_process(self, name: str, **fields: Any) -> None:
        """Send the description of a process."""
        assert self.child.send(ProcessChanged(info=ProcessInfo(**{"name": name, "phase": "running", **fields})))
        self._wait_until_read()

    def report(self, name: str, status: Status) -> None:
        """Send a process's status."""
        self.report_bytes(name, encode(status))
        self._wait_until_read()

    def report_bytes(self, name: str, record: bytes) -> None:
        """Send an encoded status. Does not wait until the gateway has read it."""
        assert self.child.send(status_reported(name, record))

    def remove_process(self, name: str) -> None:
        """Remove a process."""
        assert self.child.send(ProcessRemoved(name=name))
        self._wait_until_read()

    def _wait_until_read(self) -> None:
        """Wait until the gateway has read all messages, so that its next response reflects them."""
        deadline = time.monotonic() + PATIENCE_S
        while struct.unpack("i", fcntl.ioctl(self.child.pipe, termios.TIOCOUTQ, b"\0" * 4))[0]:
            assert time.monotonic() < deadline, "the gateway does not read its pipe"
            time.sleep(0.001)

    def camera(self, camera: str, meter: Meter | None = None, **more: Any) -> None:
        """Add a camera that streams."""
        self.set_process(f"camera:{camera}", pid=CAMERA_PID, started_at=time.monotonic(), facts=facts(camera))
        self.report(f"camera:{camera}", status(CAMERA_PID, meter or Meter(), **more))

    def close(self) -> None:
        self.child.send(Drain())
        if not self.child.ended_within(10.0):
            self.child.kill()
        self._ended.set()
        self._thread.join()
        self.child.close()


@pytest.fixture
def start_gateway(kept_valkey: Callable[..., KeptValkey]) -> Iterator[Callable[..., SupervisedGateway]]:
    """Start a gateway with its own broker: `start_gateway(token="...", callback_token="...")`.

    `tokens` contains additional tokens by role. The name of each token is its role.
    """
    started: list[SupervisedGateway] = []

    def start(
        *,
        answer: Callable[[Request], str | None] = lambda _request: None,
        broker: KeptValkey | None = None,
        **more: Any,
    ) -> SupervisedGateway:
        if broker is None:
            broker = kept_valkey()
            broker.start()
        if isinstance(more.get("callback_token"), str):
            more["callback_token"] = Secret(more["callback_token"])
        tokens: dict[str, RoleName] = more.pop("tokens", {})
        if (token := more.pop("token", None)) is not None:
            tokens = {token: "admin"}
        settings = GatewaySettings(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "loopback": True,
                "site": SITE,
                "tokens": tuple(
                    AccessToken(name=role, role=role, digest=token_digest(text)) for text, role in tokens.items()
                ),
                "stream": RedisSettings(url=broker.url, prefix="nvision", max_entries=1000),
                **more,
            }
        )
        one = SupervisedGateway(settings=settings, answer=answer)
        started.append(one)
        one.start()
        return one

    yield start
    for one in started:
        one.close()
