"""A real supervisor with a subscriber: the subscriber's messages and requests, and its effect on other children."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

import pytest

from nvision_hub.metrics import catalogue
from nvision_hub.runtime.messages import (
    Forward,
    HubFacts,
    Message,
    PauseCamera,
    ProcessChanged,
    Reply,
    RequestPreview,
    RestartProcess,
    StatusReported,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvision_hub.runtime.messages import ProcessInfo, Request
    from nvision_hub.runtime.status import Status
    from tests.support.fleet import Fleet


_M = TypeVar("_M", bound=Message)
PREVIEW = RequestPreview(width=None, fps=5.0, duration_s=2.0)


@dataclass
class SubscriberChild:
    """A fleet's subscriber: the messages that it has received, and requests to send."""

    fleet: Fleet
    folder: Path

    def received(self, kind: type[_M]) -> list[_M]:
        file = self.folder / "received"
        if not file.exists():
            return []
        complete = file.read_bytes().rpartition(b"\n")[0]
        messages = [decode(line) for line in complete.splitlines()]
        return [message for message in messages if isinstance(message, kind)]

    def infos(self, name: str) -> list[ProcessInfo]:
        return [message.info for message in self.received(ProcessChanged) if message.info.name == name]

    def statuses(self, name: str) -> list[Status]:
        return [message.status for message in self.received(StatusReported) if message.name == name]

    def sent(self, name: str) -> float:
        """Return the number of frames that a process has sent over all its restarts, from the last messages."""
        metrics = [self.infos(name)[-1].past, *(status.metrics for status in self.statuses(name)[-1:])]
        return sum(part.total(catalogue.FRAMES_SENT_TOTAL) for part in metrics)

    def request(self, request: Request) -> str | None:
        """Send a request. Return None if the supervisor carries it out, otherwise the error."""
        number = len(self.received(Reply))
        with (self.folder / "requests").open("ab") as file:
            file.write(encode(request) + b"\n")
        self.fleet.wait_until(lambda: len(self.received(Reply)) > number)
        reply = self.received(Reply)[-1]
        assert reply.request_id == request.request_id
        return reply.error


@pytest.fixture
def subscribed(start_fleet: Callable[..., Fleet], tmp_path: Path) -> Callable[..., SubscriberChild]:
    """Start a fleet with a subscriber named `gateway` and other children."""

    def start(**others: Any) -> SubscriberChild:
        settings = {"received": str(tmp_path / "received"), "requests": str(tmp_path / "requests")}
        fleet = start_fleet({"gateway": ("subscribes", settings), **others})
        fleet.ready()
        return SubscriberChild(fleet, tmp_path)

    return start


def test_a_subscriber_receives_every_process_and_itself(subscribed: Callable[..., SubscriberChild]) -> None:
    subscriber = subscribed(a="counts", b="steady")
    fleet = subscriber.fleet
    fleet.wait_until(lambda: all(len(subscriber.statuses(name)) >= 2 for name in ("a", "b", "gateway")))
    info = subscriber.infos("a")[-1]
    assert info.phase == "running"
    assert info.pid == fleet.pid("a")
    assert info.facts == HubFacts(site="a", version="counts")
    assert info.restarts == {}
    assert subscriber.sent("a") == 3


def wait_for_sent(subscriber: SubscriberChild, frames: int) -> None:
    subscriber.fleet.wait_until(lambda: subscriber.sent("a") == frames)


@pytest.mark.long
def test_counts_survive_kills_and_a_late_subscriber_gets_them_all(
    subscribed: Callable[..., SubscriberChild],
) -> None:
    subscriber = subscribed(a="counts")
    fleet = subscriber.fleet
    for life in (1, 2, 3):
        old = fleet.ready_pid("a")
        os.kill(old, signal.SIGKILL)
        fleet.wait_for_replacement("a", old, 30.0)
        wait_for_sent(subscriber, 3 * (life + 1))
    assert subscriber.infos("a")[-1].restarts == {"sigkill": 3}
    received_before = len(subscriber.infos("a"))
    old = fleet.ready_pid("gateway")
    os.kill(old, signal.SIGKILL)
    fleet.wait_until(lambda: len(subscriber.infos("a")) > received_before)
    assert subscriber.infos("a")[-1].restarts == {"sigkill": 3}
    histogram = fleet.members["a"]["status"]["metrics"]["histograms"]["frame_age_seconds"]
    assert sum(histogram["counts"]) == 1


@pytest.mark.long
def test_requests_are_done_or_rejected_with_a_reason(subscribed: Callable[..., SubscriberChild]) -> None:
    subscriber = subscribed(a="counts", b="steady")
    fleet = subscriber.fleet
    assert subscriber.request(Forward(request_id="n1", target="a", message=PREVIEW)) is None
    fleet.wait_until(lambda: f"received {PREVIEW}" in fleet.lines("a"))
    old = fleet.ready_pid("a")
    assert subscriber.request(RestartProcess(request_id="n2", target="a")) is None
    fleet.wait_for_replacement("a", old, 30.0)
    fleet.wait_until(lambda: subscriber.infos("a")[-1].restarts == {"asked": 1})
    wait_for_sent(subscriber, 6)
    assert fleet.members["a"]["restarts"] == 0, "a requested restart is no failure"
    unknown = Forward(request_id="n3", target="unknown", message=PREVIEW)
    assert subscriber.request(unknown) == "unknown is not running"
    assert subscriber.request(RestartProcess(request_id="n4", target="unknown")) == "there is no process unknown"
    pause = PauseCamera(request_id="n5", camera="lobby")
    assert subscriber.request(pause) == "this hub cannot handle PauseCamera"


@pytest.mark.long
def test_a_frozen_subscriber_affects_no_other(subscribed: Callable[..., SubscriberChild]) -> None:
    subscriber = subscribed(a="counts", b="steady")
    fleet = subscriber.fleet
    pid = fleet.ready_pid("gateway")
    os.kill(pid, signal.SIGSTOP)
    shown = len(fleet.shown)
    old = fleet.ready_pid("b")
    os.kill(old, signal.SIGKILL)
    fleet.wait_for_replacement("b", old, 30.0)
    fleet.wait_until(lambda: len(fleet.shown) > shown + 10)
    os.kill(pid, signal.SIGCONT)
    fleet.wait_until(lambda: subscriber.infos("b")[-1].restarts == {"sigkill": 1})
