"""What the gateway knows of all members of its hub: told by the supervisor, kept, and never asked for twice.

Pure: commands and moments in, knowledge out. It knows neither HTTP nor Redis. Counters never go back: what a member's
ended processes have counted comes with its account, and a status counts only beside the account of its own process.
"""

from __future__ import annotations

import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.oversight import ACCOUNT, GONE, REPORT, Account, report_of
from nvision_hub.status import CameraState
from workers.gateway.tally import Tally, tally
from workers.gateway.track import Track

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.link import Command
    from nvision_hub.status import Status

log = logging.getLogger("nvision_hub.gateway")

CAMERA: Final = "camera:"
HUB: Final = "hub"
SERVICE: Final = "service"
GATEWAY: Final = "gateway"
WEBHOOKS: Final = "webhooks"
ERRORS_KEPT: Final = 20


@dataclass(kw_only=True, slots=True)
class Member:
    """One of them. Times are seconds since the epoch, except within account and status."""

    account: Account
    status: Status | None = None  # of the process that lives now; None before its first
    last: Status | None = None  # of whichever process reported last
    state: str = CameraState.STARTING
    since: float = 0.0  # when that was entered
    errors: deque[tuple[float, str]] = field(default_factory=lambda: deque(maxlen=ERRORS_KEPT))
    track: Track = field(default_factory=Track)
    result_at: float | None = None  # when its last result came by callback, which its worker does not see
    result_names: list[str] = field(default_factory=list)  # of the detections in it
    # Whether account and status are all that was counted: not while a process that ran before we did has yet to report.
    whole: bool = True
    _tally: Tally | None = None
    _last_error: str | None = None

    @property
    def name(self) -> str:
        """Such as "camera:lobby"."""
        return self.account.name

    @property
    def camera(self) -> str | None:
        """The camera's id; None for another kind of member."""
        return self.name.removeprefix(CAMERA) if self.name.startswith(CAMERA) else None

    @property
    def alive(self) -> bool:
        """Whether it has a process."""
        return self.account.pid is not None

    @property
    def ready(self) -> bool:
        """Whether it does its job for others."""
        return self.status is not None and self.status.ready

    @property
    def row(self) -> dict[str, Any]:
        """What its process shows of itself; empty where it shows nothing now."""
        return self.status.row if self.status is not None else {}

    @property
    def tally(self) -> Tally | None:
        """All that was ever counted; None while that is not known."""
        if not self.whole:
            return None
        if self._tally is None:
            self._tally = tally(self.account.past, self.status.metrics if self.status is not None else {})
        return self._tally

    @property
    def error(self) -> str | None:
        """What a person should read; None while all is well."""
        sentences = []
        if self.account.due_in_s is not None and self.account.restarts:
            sentences.append("its process keeps ending" if self.account.crash_loop else "its process has ended")
        if self.status is not None and self.status.error is not None:
            sentences.append(self.status.error)
        return "; ".join(sentences) or None

    def told(self, account: Account, wall: float) -> None:
        """Its account has changed."""
        if account.pid != self.account.pid:
            self.status, self.whole = None, True
        self.account, self._tally = account, None
        if self.last is not None and self.last.pid == account.pid:
            self.status, self.whole = self.last, True
        self._look(wall)

    def reported(self, status: Status, wall: float) -> bool:
        """It has reported; False where that counts for nothing yet, or any more."""
        self.last = status
        if status.pid != self.account.pid:  # of a process that has ended, or of one whose account is on its way
            return False
        self.status, self.whole, self._tally = status, True, None
        self._look(wall)
        return True

    def _look(self, wall: float) -> None:
        """Note a change of state, and an error that was not there before."""
        state, error = self._entered(), self.error
        if state != self.state:
            self.state, self.since = state, wall
        if self.status is not None and state == self.status.state:
            self.since = self.status.row.get("since", self.since)  # the worker was there when it was entered
        if error is not None and error != self._last_error:
            self.errors.append((wall, error))
        self._last_error = error

    def _entered(self) -> str:
        if self.account.crash_loop:
            return CameraState.CRASH_LOOP
        if self.account.phase == "ended":
            return CameraState.STOPPED
        return CameraState.STARTING if self.status is None else self.status.state


class Fleet:
    """All members, by name, in the order in which they were first heard of."""

    def __init__(self) -> None:
        self.members: dict[str, Member] = {}

    def heed(self, command: Command, *, wall: float) -> str | None:
        """Take in one of the supervisor's records; the name of the member it tells of, None where it tells of none."""
        match command.verb:
            case verb if verb == ACCOUNT:
                account = Account.of(command)
                self._account(account, wall)
                return account.name
            case verb if verb == GONE:
                name = str(command.arguments["name"])
                self.members.pop(name, None)
                return name
            case verb if verb == REPORT:
                try:
                    name, status = report_of(command)
                except ValueError:
                    log.warning("a status that is none is passed over")
                    return None
                return name if self._report(name, status, wall) else None
            case _:
                return None

    def record(self, now: float) -> None:
        """One turn of everybody's track. `now` is monotonic."""
        for member in self.members.values():
            row = member.row
            member.track.record(now, member.tally, rate_in=row.get("rate_in"), rate_out=row.get("rate_out"))

    def cameras(self) -> list[Member]:
        """Those that are cameras, in the order of their file."""
        found = [member for member in self.members.values() if member.camera is not None]
        return sorted(found, key=lambda member: member.account.facts.get("index", len(found)))

    def camera(self, camera_id: str) -> Member | None:
        """The camera of that id; None where there is none."""
        return self.members.get(CAMERA + camera_id)

    def hub(self) -> dict[str, Any]:
        """The facts of the hub itself; empty before they were told."""
        hub = self.members.get(HUB)
        return dict(hub.account.facts) if hub is not None else {}

    def processes(self) -> Iterator[Member]:
        """Everything that has a process of its own."""
        yield from self.members.values()

    def _account(self, account: Account, wall: float) -> None:
        member = self.members.get(account.name)
        if member is None:
            member = self.members[account.name] = Member(account=account, since=wall, whole=account.pid is None)
        member.told(account, wall)

    def _report(self, name: str, status: Status, wall: float) -> bool:
        member = self.members.get(name)
        return member is not None and member.reported(status, wall)
