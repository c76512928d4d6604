"""Counters of a fleet across restarts of its workers, checked against the records of the service.

The counters of a killed worker are known only up to its last report. This report balances, but the outcome of the
frames in flight is unknown. The service's records show which frames the worker sent after the report.
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
    """One worker process from start to end."""

    camera: str
    pid: int
    began: float  # CLOCK_MONOTONIC
    ledger: Ledger = field(default_factory=Ledger)
    last_frame_id: str | None = None
    ended_well: bool = False  # whether the last report comes from a regular stop
    reports: int = 0


@dataclass(kw_only=True)
class Account:
    """Final counters of the fleet."""

    known: Ledger  # sum of all last reports
    killed: int  # number of workers without a regular stop
    frames_unknown: int  # frames in flight in the last reports of killed workers
    results_unknown: int  # results waiting in these reports that the next worker did not recover from the spool
    results_waiting: int  # results that a stopped worker left in the spool and the next worker did not recover
    after_last_report: int  # frames that the service received but that no report of a killed worker contains
    arrived: int  # frames that the service received
    never_arrived: int  # frames that were sent but lost with their connection
    streamed: int  # distinct results in the stream
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        """Format the counters as lines of text."""
        known = self.known
        detail = f"of {self.killed} killed workers; {self.after_last_report} sent after their last report"
        return [
            f"frames sent             {known.sent + self.after_last_report:>8}",
            f"  answered              {known.answered:>8}",
            *(f"  unanswered: {why:<10}{number:>8}" for why, number in sorted(known.unanswered.items())),
            f"  unknown               {self.frames_unknown + self.after_last_report:>8}   {detail}",
            f"  in flight             {known.in_flight - self.frames_unknown:>8}",
            f"  arrived at the service{self.arrived:>8}   by its own record; {self.never_arrived} never arrived",
            f"results received        {known.received:>8}",
            f"  published             {known.published:>8}",
            *(f"  lost: {why:<14}{number:>10}" for why, number in sorted(known.lost.items())),
            f"  unknown               {self.results_unknown:>8}",
            f"  waiting               {self.results_waiting:>8}   {known.recovered} recovered from disk by the next",
            f"  in the stream         {self.streamed:>8}   at the last read before the end",
            *(f"frames not sent: {why:<8}    {number:>6}" for why, number in sorted(known.dropped.items())),
        ]


class FleetLedger:
    """Last report of each worker. `on_report` receives every report of a `Hub`."""

    def __init__(self) -> None:
        self._lives: dict[tuple[str, int], Life] = {}
        self._lock = threading.Lock()
        self.problems: list[str] = []

    def on_report(self, members: Mapping[str, Any]) -> None:
        """Record one report of the supervisor."""
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
        life.last_frame_id = status["info"]["last_frame_id"]
        life.reports += 1
        life.ended_well = status["state"] == "stopped" and life.ledger.in_flight == 0
        if not life.ledger.balanced:
            self.problems.append(f"{camera} ({life.pid}) does not balance: {life.ledger}")

    def published(self) -> int:
        """Return the number of published results, summed over all last reports."""
        with self._lock:
            return sum(life.ledger.published for life in self._lives.values())

    def account(self, arrived: Iterable[tuple[str, str]], streamed: Sequence[str]) -> Account:
        """Return the final account.

        `arrived` contains the camera and the frame id of each frame that the service received. `streamed` contains the
        frame ids of the results in the stream.
        """
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
            after_last_report=0,
            arrived=sum(len(each) for each in names.values()),
            never_arrived=0,
            streamed=len(set(streamed)),
            problems=list(self.problems),
        )
        for camera, theirs in names.items():
            if len(set(theirs)) != len(theirs):
                account.problems.append(f"{camera}: {len(theirs) - len(set(theirs))} frames were sent twice")
            self._check(account, [life for life in lives if life.camera == camera], theirs)
        if strangers := set(streamed) - {name for theirs in names.values() for name in theirs}:
            account.problems.append(f"{len(strangers)} results in the stream belong to no sent frame")
        return account

    def _check(self, account: Account, lives: Sequence[Life], names: Iterable[str]) -> None:
        """Check the workers of a camera against the service's records.

        The time in a frame id shows which worker sent it.
        """
        wall = time.time() - time.monotonic()
        ends = [life.began + wall for life in lives[1:]] + [float("inf")]
        waiting = sorted(names)
        for life, end in zip(lives, ends, strict=True):
            theirs = [name for name in waiting if _made(name) < end]
            waiting = waiting[len(theirs) :]
            unreported = [name for name in theirs if life.last_frame_id is None or name > life.last_frame_id]
            account.after_last_report += len(unreported)
            missing = life.ledger.sent + len(unreported) - len(theirs)
            account.never_arrived += missing
            excused = life.ledger.unanswered.total() + life.ledger.in_flight
            if not 0 <= missing <= excused:
                account.problems.append(
                    f"{life.camera} ({life.pid}): sent {life.ledger.sent} and {len(unreported)} after its last report, "
                    f"{len(theirs)} arrived, but {excused} are accounted for as unanswered"
                )
            if unreported and life.ended_well:
                account.problems.append(
                    f"{life.camera} ({life.pid}) ended well, but {len(unreported)} were not reported"
                )


def _left(life: Life, lives: Sequence[Life]) -> int:
    """Return the number of results that waited at a worker's last report and that the next worker did not recover."""
    following = [other for other in lives if other.camera == life.camera and other.began > life.began]
    return max(0, life.ledger.waiting - (following[0].ledger.recovered if following else 0))


def _made(name: str) -> float:
    """Return the time in a UUIDv7 as seconds since the epoch."""
    return (UUID(name).int >> 80) / 1000


def _began(pid: int) -> float | None:
    """Return the start time of a process (CLOCK_MONOTONIC, accurate to 10 ms); None if the process has exited."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    return int(stat.rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
