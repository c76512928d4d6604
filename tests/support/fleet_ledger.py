"""The account of a whole fleet over the lives and deaths of its workers, checked against what its service wrote down.

A worker's counts die with it. What is known of a killed one is its last report, which balances, and which names what
was on its way then: that much is unknown for ever. What it sent after its last report, the service's record tells.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from tests.support.ledger import Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence


@dataclass(kw_only=True)
class Life:
    """One worker from its start to its end."""

    camera: str
    pid: int
    began: float  # CLOCK_MONOTONIC
    ledger: Ledger = field(default_factory=Ledger)
    last_frame_id: str | None = None
    ended_well: bool = False  # its last report was that of an orderly end
    reports: int = 0


@dataclass(kw_only=True)
class Account:
    """What the fleet has to say in the end."""

    known: Ledger  # the sum of all last reports
    killed: int  # workers that did not end in order
    frames_unknown: int  # on their way when their worker last reported, and was killed
    results_unknown: int  # waiting then, and not found in a spool by the next
    results_waiting: int  # left in a spool by one that ended in order, and not found by a next
    after_last_word: int  # pictures that the service has, and that their workers did not live to report
    arrived: int  # pictures that the service has
    never_arrived: int  # handed to a connection, and lost with it
    streamed: int  # different results in the stream
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """For people."""
        known = self.known
        told = f"of {self.killed} killed workers; {self.after_last_word} sent after their last report"
        return [
            f"pictures sent           {known.sent + self.after_last_word:>8}",
            f"  answered              {known.answered:>8}",
            *(f"  unanswered: {why:<10}{number:>8}" for why, number in sorted(known.unanswered.items())),
            f"  unknown               {self.frames_unknown + self.after_last_word:>8}   {told}",
            f"  in flight             {known.in_flight - self.frames_unknown:>8}",
            f"  arrived at the service{self.arrived:>8}   by its own record; {self.never_arrived} never did",
            f"results received        {known.received:>8}",
            f"  published             {known.published:>8}",
            *(f"  lost: {why:<14}{number:>10}" for why, number in sorted(known.lost.items())),
            f"  unknown               {self.results_unknown:>8}",
            f"  waiting               {self.results_waiting:>8}   {known.recovered} were found on disk by the next",
            f"  in the stream         {self.streamed:>8}   by its own record, when it was read before the end",
            *(f"pictures not sent: {why:<8}  {number:>6}" for why, number in sorted(known.dropped.items())),
        ]


class FleetLedger:
    """Hears every report (`Hub.heard`) and keeps each worker's last."""

    def __init__(self) -> None:
        self._lives: dict[tuple[str, int], Life] = {}
        self._lock = threading.Lock()
        self.problems: list[str] = []

    def heard(self, members: Mapping[str, Any]) -> None:
        """One report of the supervisor's."""
        with self._lock:
            for name, member in members.items():
                kind, _, camera = name.partition(":")
                if kind == "camera":
                    if member["pid"] is not None:
                        self._life(camera, member["pid"], time.monotonic())
                    if member["status"] is not None:
                        self._reported(camera, member["status"])

    def _life(self, camera: str, pid: int, at: float) -> Life:
        key = (camera, pid)
        if key not in self._lives:
            self._lives[key] = Life(camera=camera, pid=pid, began=_began(pid) or at)
        return self._lives[key]

    def _reported(self, camera: str, status: Mapping[str, Any]) -> None:
        life = self._life(camera, status["pid"], status["at"])
        life.ledger = Ledger.of(status["metrics"])
        life.last_frame_id = status["row"].get("last_frame_id")
        life.reports += 1
        life.ended_well = status["state"] == "stopped" and life.ledger.in_flight == 0
        if not life.ledger.balanced:
            self.problems.append(f"{camera} ({life.pid}) does not balance: {life.ledger}")

    def published(self) -> int:
        """By all last reports."""
        with self._lock:
            return sum(life.ledger.published for life in self._lives.values())

    def account(self, arrived: Iterable[tuple[str, str]], streamed: Sequence[str]) -> Account:
        """After the end. `arrived` is each picture's camera and name as the service has it, `streamed` are the names of
        the results in the stream."""
        lives = sorted(self._lives.values(), key=lambda life: life.began)
        names: dict[str, list[str]] = {}
        for camera, name in arrived:
            names.setdefault(camera, []).append(name)
        killed = [life for life in lives if not life.ended_well]
        account = Account(
            known=sum((life.ledger for life in lives), Ledger()),
            killed=len(killed),
            frames_unknown=sum(life.ledger.in_flight for life in killed),
            results_unknown=sum(_left(life, lives) for life in killed),
            results_waiting=sum(_left(life, lives) for life in lives if life.ended_well),
            after_last_word=0,
            arrived=sum(len(each) for each in names.values()),
            never_arrived=0,
            streamed=len(set(streamed)),
            problems=list(self.problems),
        )
        for camera, theirs in names.items():
            if len(set(theirs)) != len(theirs):
                account.problems.append(f"{camera}: {len(theirs) - len(set(theirs))} pictures were sent twice")
            self._check(account, [life for life in lives if life.camera == camera], theirs)
        if strangers := set(streamed) - {name for theirs in names.values() for name in theirs}:
            account.problems.append(f"{len(strangers)} results in the stream are of pictures that were never sent")
        return account

    def _check(self, account: Account, lives: Sequence[Life], names: Iterable[str]) -> None:
        """One camera's lives, in order, against what the service has of each: names tell when they were made."""
        wall = time.time() - time.monotonic()
        ends = [life.began + wall for life in lives[1:]] + [float("inf")]
        waiting = sorted(names)
        for life, end in zip(lives, ends, strict=True):
            theirs = [name for name in waiting if _made(name) < end]
            waiting = waiting[len(theirs) :]
            untold = [name for name in theirs if life.last_frame_id is None or name > life.last_frame_id]
            account.after_last_word += len(untold)
            missing = life.ledger.sent + len(untold) - len(theirs)
            account.never_arrived += missing
            excused = life.ledger.unanswered.total() + life.ledger.in_flight
            if not 0 <= missing <= excused:
                account.problems.append(
                    f"{life.camera} ({life.pid}): sent {life.ledger.sent} and {len(untold)} after its last report, "
                    f"{len(theirs)} arrived, but {excused} are accounted for as unanswered"
                )
            if untold and life.ended_well:
                account.problems.append(f"{life.camera} ({life.pid}) ended well, but {len(untold)} are not told of")


def _left(life: Life, lives: Sequence[Life]) -> int:
    """How many results waited when a worker last reported, and were not found by the next of its camera."""
    following = [other for other in lives if other.camera == life.camera and other.began > life.began]
    return max(0, life.ledger.waiting - (following[0].ledger.recovered if following else 0))


def _made(name: str) -> float:
    """When a UUIDv7 says that it was made, in seconds since the epoch."""
    return (UUID(name).int >> 80) / 1000


def _began(pid: int) -> float | None:
    """When a process was started (CLOCK_MONOTONIC, to 10 ms); None where it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
