"""What the supervisor tells those of its children that oversee the others, such as the gateway.

Two records go down an overseer's pipe. `Report` is a member's last status, each time one arrives; `Account` is
everything that changes more rarely: where the member stands, why it was restarted, what earlier processes of its have
counted. An overseer that is slow to read misses statuses that a newer one has replaced, and nothing else.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from nvision_hub.link import MAX_RECORD_BYTES, Command
from nvision_hub.status import Status

if TYPE_CHECKING:
    from collections.abc import Mapping

ACCOUNT: Final = "account"
REPORT: Final = "report"
GONE: Final = "gone"
REPLY: Final = "reply"

_METRICS: Final[dict[str, Any]] = {"counters": [], "gauges": [], "histograms": {}}


@dataclass(frozen=True, kw_only=True, slots=True)
class Account:
    """One member, but for its status."""

    name: str  # "camera:lobby"
    phase: str  # of `supervisor.member.Phase`
    pid: int | None = None  # None while it does not live
    started_at: float | None = None  # monotonic seconds; None before its first start
    due_in_s: float | None = None  # until it is started again; None where it is not waiting for that
    crash_loop: bool = False
    restarts: Mapping[str, int] = field(default_factory=dict)  # how many for each reason
    facts: Mapping[str, Any] = field(default_factory=dict)  # of its `ChildSpec`: what is known without asking it
    past: Mapping[str, Any] = field(default_factory=lambda: dict(_METRICS))  # what its earlier processes counted

    def encode(self) -> bytes:
        """As it goes down the pipe; one too large for that without its facts and what its past processes counted."""
        record = Command(verb=ACCOUNT, arguments=asdict(self)).encode()
        if len(record) > MAX_RECORD_BYTES:
            return replace(self, facts={}, past=dict(_METRICS)).encode()
        return record

    @classmethod
    def of(cls, command: Command) -> Self:
        """From the pipe."""
        return cls(**command.arguments)


def report_record(name: str, status: bytes) -> bytes:
    """One member's status as it goes down the pipe: as it came, since decoding it is for those who want it."""
    return b'{"verb":"%b","arguments":{"name":%b,"status":%b}}' % (REPORT.encode(), json.dumps(name).encode(), status)


def report_of(command: Command) -> tuple[str, Status]:
    """A member's name and status, from the pipe. Raises `ValueError` for a status that is none."""
    return command.arguments["name"], Status.of(command.arguments["status"])
