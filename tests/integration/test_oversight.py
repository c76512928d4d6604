"""A real supervisor with an overseer among its children: what that hears, what it may ask, and what it costs others."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.link import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fleet import Fleet


@dataclass
class Overseer:
    """What the overseer of a fleet has heard, and its way to ask."""

    fleet: Fleet
    folder: Path

    def heard(self, verb: str, name: str | None = None) -> list[dict[str, Any]]:
        file = self.folder / "heard"
        if not file.exists():
            return []
        whole = file.read_bytes().rpartition(b"\n")[0]
        found = [json.loads(line) for line in whole.splitlines()]
        return [
            record["arguments"]
            for record in found
            if record["verb"] == verb and name in {None, record["arguments"].get("name")}
        ]

    def sent(self, name: str) -> float:
        """How many pictures a member has sent: all of its processes together, as last heard."""
        metrics = [self.heard("account", name)[-1]["past"]]
        if reports := self.heard("report", name):
            metrics.append(reports[-1]["status"]["metrics"])
        return sum(float(value) for part in metrics for key, _, value in part["counters"] if key == "frames_sent_total")

    def ask(self, wish: str, /, **arguments: Any) -> str | None:
        """Ask for something; None where it was done, else the sentence that says why not."""
        number = len(self.heard("reply"))
        with (self.folder / "asks").open("ab") as file:
            file.write(Command(verb=wish, arguments={"id": f"n{number}", **arguments}).encode() + b"\n")
        self.fleet.wait_until(lambda: len(self.heard("reply")) > number, 30.0)
        reply = self.heard("reply")[-1]
        assert reply["id"] == f"n{number}"
        error: str | None = reply["error"]
        return error


@pytest.fixture
def overseen(start_fleet: Callable[..., Fleet], tmp_path: Path) -> Callable[..., Overseer]:
    """A fleet with an overseer, called `gateway`, and others."""

    def start(**others: Any) -> Overseer:
        settings = {"heard": str(tmp_path / "heard"), "asks": str(tmp_path / "asks")}
        fleet = start_fleet({"gateway": ("oversees", settings), **others})
        fleet.ready()
        return Overseer(fleet, tmp_path)

    return start


def test_it_hears_of_everyone_and_of_itself(overseen: Callable[..., Overseer]) -> None:
    overseer = overseen(a="counts", b="steady")
    fleet = overseer.fleet
    fleet.wait_until(lambda: all(len(overseer.heard("report", name)) >= 2 for name in ("a", "b", "gateway")), 30.0)
    account = overseer.heard("account", "a")[-1]
    assert account["phase"] == "running"
    assert account["pid"] == fleet.pid("a")
    assert account["facts"] == {"entry": "counts"}
    assert account["restarts"] == {}
    assert overseer.sent("a") == 3


def wait_for_sent(overseer: Overseer, pictures: int) -> None:
    overseer.fleet.wait_until(lambda: overseer.sent("a") == pictures, 30.0)


def test_counts_go_on_through_deaths_and_a_late_overseer_knows_all(overseen: Callable[..., Overseer]) -> None:
    overseer = overseen(a="counts")
    fleet = overseer.fleet
    for life in (1, 2, 3):
        old = fleet.ready_pid("a")
        os.kill(old, signal.SIGKILL)
        fleet.replaced("a", old, 30.0)
        wait_for_sent(overseer, 3 * (life + 1))
    assert overseer.heard("account", "a")[-1]["restarts"] == {"sigkill": 3}
    told = len(overseer.heard("account", "a"))
    old = fleet.ready_pid("gateway")
    os.kill(old, signal.SIGKILL)
    fleet.wait_until(lambda: len(overseer.heard("account", "a")) > told, 30.0)
    assert overseer.heard("account", "a")[-1]["restarts"] == {"sigkill": 3}
    histogram = fleet.members["a"]["status"]["metrics"]["histograms"]["frame_age_seconds"]
    assert sum(histogram["counts"]) == 1


@pytest.mark.long
def test_what_it_asks_is_done_or_answered_with_a_sentence(overseen: Callable[..., Overseer]) -> None:
    overseer = overseen(a="counts", b="steady")
    fleet = overseer.fleet
    assert overseer.ask("pass", target="a", verb="watch", arguments={"fps": 5}) is None
    fleet.wait_until(lambda: "asked to watch {'fps': 5}" in fleet.lines("a"))
    old = fleet.ready_pid("a")
    assert overseer.ask("restart", target="a") is None
    fleet.replaced("a", old, 30.0)
    fleet.wait_until(lambda: overseer.heard("account", "a")[-1]["restarts"] == {"asked": 1}, 30.0)
    wait_for_sent(overseer, 6)
    assert fleet.members["a"]["restarts"] == 0, "one that was asked for is no failure"
    assert overseer.ask("pass", target="nobody", verb="watch", arguments={}) == "nobody does not run at this moment"
    assert overseer.ask("restart", target="nobody") == "there is no nobody"
    assert overseer.ask("pause", camera="lobby") == "this hub cannot pause"


@pytest.mark.long
def test_one_that_stands_still_costs_nobody_anything(overseen: Callable[..., Overseer]) -> None:
    overseer = overseen(a="counts", b="steady")
    fleet = overseer.fleet
    pid = fleet.ready_pid("gateway")
    os.kill(pid, signal.SIGSTOP)
    shown = len(fleet.shown)
    old = fleet.ready_pid("b")
    os.kill(old, signal.SIGKILL)
    fleet.replaced("b", old, 30.0)
    fleet.wait_until(lambda: len(fleet.shown) > shown + 10, 30.0)
    os.kill(pid, signal.SIGCONT)
    fleet.wait_until(lambda: overseer.heard("account", "b")[-1]["restarts"] == {"sigkill": 1}, 30.0)
