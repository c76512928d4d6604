"""What hubs of one fleet tell each other through Redis: how their members are, what is asked of them, and answers.

    <prefix>:fleet                 set      the groups that have told something
    <prefix>:fleet:<group>         hash     member -> `Record`; gone `EXPIRES_S` after its last word
    <prefix>:fleet:<group>:asks    channel  commands for that group's supervisor
    <prefix>:fleet:replies         channel  what became of them
    <prefix>:fleet:gateway         string   base address of the gateway that shows them all; expires likewise

Each machine has a monotonic clock of its own, so a record tells how far its writer's is behind the wall clock, by which
its moments are turned into those of its reader.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final, Self

from nvision_hub.oversight import Account
from nvision_hub.status import Promise, Status

if TYPE_CHECKING:
    from collections.abc import Mapping

EXPIRES_S: Final = 12.0
MAX_RECORD_BYTES: Final = 512 * 1024


@dataclass(frozen=True, kw_only=True, slots=True)
class FleetKeys:
    """Their names in Redis."""

    prefix: str

    @property
    def groups(self) -> str:
        """The set."""
        return f"{self.prefix}:fleet"

    @property
    def replies(self) -> str:
        """The channel of answers."""
        return f"{self.prefix}:fleet:replies"

    @property
    def gateway(self) -> str:
        """Where the fleet's gateway is."""
        return f"{self.prefix}:fleet:gateway"

    def members(self, group: str) -> str:
        """One group's hash."""
        return f"{self.prefix}:fleet:{group}"

    def asks(self, group: str) -> str:
        """The channel on which its supervisor is asked."""
        return f"{self.prefix}:fleet:{group}:asks"


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """One member, as its hub knows it."""

    account: Account
    status: Mapping[str, Any] | None  # a `Status` as it came; None before its first
    holder: str  # which start of that hub's supervisor tells this: its counts begin at nothing
    at: float = field(default_factory=time.time)  # when it was told, by the writer's wall clock

    def encode(self) -> bytes:
        """As a field of the hash."""
        told = {
            "at": self.at,
            "behind_s": _behind_s(),
            "holder": self.holder,
            "account": asdict(self.account),
            "status": self.status,
        }
        return json.dumps(told, separators=(",", ":"), ensure_ascii=False).encode()

    @classmethod
    def decode(cls, data: str) -> Self:
        """From the hash, its moments by the clock of this machine. Raises `ValueError` for anything else."""
        if len(data) > MAX_RECORD_BYTES:
            raise ValueError("no record of a member: too long")
        try:
            told = json.loads(data)
            ahead_s = float(told["behind_s"]) - _behind_s()
            account = Account(**told["account"])
            if account.started_at is not None:
                account = replace(account, started_at=account.started_at + ahead_s)
            status = None if told["status"] is None else asdict(_moved(Status.of(told["status"]), ahead_s))
            return cls(account=account, status=status, holder=str(told["holder"]), at=float(told["at"]))
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ValueError("no record of a member") from error


def _behind_s() -> float:
    return time.time() - time.monotonic()


def _moved(status: Status, by_s: float) -> Status:
    promises = {name: Promise(at=it.at + by_s, within_s=it.within_s) for name, it in status.promises.items()}
    return replace(status, at=status.at + by_s, promises=promises)
