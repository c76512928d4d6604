"""Registry of a fleet in Redis: records of all processes, commands to hubs, and replies.

    <prefix>:fleet                 set      groups that have reported
    <prefix>:fleet:<group>         hash     process -> sealed `RegistryRecord`; expires after `EXPIRES_S`
    <prefix>:fleet:<group>:asks    channel  sealed commands for the supervisor of that group
    <prefix>:fleet:replies         channel  sealed replies to commands
    <prefix>:fleet:gateway         string   sealed base address of the gateway that shows all cameras; same expiry

`sealed_messages` describes the seal. A record is addressed to its group, so a copy of the record in another group is
invalid.
Anyone with access to Redis can write to these keys, so readers validate every entry.

Each machine has its own monotonic clock. A record therefore contains the offset between the writer's monotonic clock
and its wall clock. The reader converts the record's times to its own monotonic clock.
"""

from __future__ import annotations

import re
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from pydantic import TypeAdapter

from nvision_hub.broker.scripts import load_script
from nvision_hub.cluster.record_checks import (
    MAX_TIME_S,
    check_info,
    check_status,
    parse_plain,
    without_control_characters,
)
from nvision_hub.cluster.sealed_messages import MAX_HEADER_BYTES, RejectedEntryError, RejectionReason
from nvision_hub.metrics.snapshot import StrictData
from nvision_hub.runtime.messages import MAX_RECORD_BYTES as MAX_PIPE_RECORD_BYTES
from nvision_hub.runtime.messages import ProcessInfo
from nvision_hub.runtime.status import Status  # noqa: TC001 - pydantic reads it

if TYPE_CHECKING:
    from redis.asyncio import Redis

EXPIRES_S: Final = 12.0
MAX_RECORD_BYTES: Final = 512 * 1024
MAX_COMMAND_BYTES: Final = MAX_PIPE_RECORD_BYTES
MAX_ADDRESS_BYTES: Final = 512
MAX_GROUPS: Final = 1000
MAX_GROUP_BYTES: Final = 64
MAX_PROCESSES: Final = 1000  # maximum number of processes in one group
MAX_NAME_BYTES: Final = 128
MAX_GROUP_RECORDS_BYTES: Final = 32 * 2**20  # a hub of 100 cameras writes about 2 MB

_GROUP: Final = re.compile(rb"[a-z][a-z0-9-]{0,62}")
_INBOX: Final = re.compile("[0-9a-f]{32}|")
_ADDRESS: Final = re.compile(rb"https?://(\[[0-9A-Fa-f:.]{2,45}\]|[A-Za-z0-9][A-Za-z0-9._-]{0,252}):[0-9]{1,5}")


class RegistryKeys:
    """Redis keys and channels of the registry, as listed above."""

    def __init__(self, prefix: str) -> None:
        self.groups = f"{prefix}:fleet"
        self.replies = f"{self.groups}:replies"
        self.gateway = f"{self.groups}:gateway"

    def members(self, group: str) -> str:
        return f"{self.groups}:{group}"

    def commands(self, group: str) -> str:
        return f"{self.groups}:{group}:asks"


@dataclass(frozen=True, kw_only=True, slots=True)
class RegistryRecord(StrictData):
    """Record about one process of a hub."""

    account: ProcessInfo
    status: Status | None  # None before the first status report
    holder: str  # identifies one run of the hub's supervisor; counters start at 0 in each run
    inbox: str = ""  # addressee for commands to the hub; empty if the hub accepts no commands
    at: float = field(default_factory=time.time)  # when the writer wrote the record, by its wall clock
    # Seconds by which the writer's monotonic clock is behind its wall clock.
    behind_s: float = field(default_factory=lambda: time.time() - time.monotonic(), compare=False)

    def encode(self) -> bytes:
        """Return the record as JSON."""
        return without_control_characters(_ADAPTER.dump_json(self))

    @classmethod
    def decode(cls, data: bytes, process: str) -> RegistryRecord:
        """Decode the record of a process, and convert its times to this machine's monotonic clock.

        Raises `RejectedEntryError` unless a hub could have written the record.
        """
        try:
            parse_plain(data)
            record = _ADAPTER.validate_json(data)
            check_info(record.account)
            if record.status is not None:
                check_status(record.status)
        except ValueError:  # pydantic's error would quote the fields
            raise RejectedEntryError(RejectionReason.MALFORMED) from None
        is_sane = _INBOX.fullmatch(record.inbox) and max(abs(record.at), abs(record.behind_s)) <= MAX_TIME_S
        if record.account.name != process or not is_sane:
            raise RejectedEntryError(RejectionReason.MALFORMED)
        return record.on_this_clock(time.time() - time.monotonic())

    def on_this_clock(self, behind_s: float) -> RegistryRecord:
        """Return the record with its times converted to a monotonic clock that is `behind_s` behind its wall clock."""
        ahead_s = self.behind_s - behind_s
        info, status = self.account, self.status
        if info.started_at is not None:
            info = replace(info, started_at=info.started_at + ahead_s)
        if status is not None:
            deadlines = {name: replace(it, at=it.at + ahead_s) for name, it in status.deadlines.items()}
            status = replace(status, at=status.at + ahead_s, deadlines=deadlines)
        return replace(self, account=info, status=status)


_ADAPTER: Final = TypeAdapter(RegistryRecord)


def parse_group(name: bytes) -> str:
    """Return the name of a group. Raises `RejectedEntryError`."""
    if not _GROUP.fullmatch(name):
        raise RejectedEntryError(RejectionReason.MALFORMED)
    return name.decode()


def parse_address(payload: bytes) -> str:
    """Return the base address of a gateway. Raises `RejectedEntryError`."""
    if not _ADDRESS.fullmatch(payload):
        raise RejectedEntryError(RejectionReason.MALFORMED)
    return payload.decode()


async def read_groups(client: Redis, keys: RegistryKeys) -> tuple[list[bytes], int]:
    """Return the unchecked names of the groups, and the number of oversized entries that the script removed."""
    script = client.register_script(load_script("fleet_groups"))
    names, removed = await script(keys=[keys.groups], args=[MAX_GROUP_BYTES, MAX_GROUPS])
    return sorted(names), removed


async def read_records(client: Redis, keys: RegistryKeys, group: str) -> tuple[list[tuple[bytes, bytes]], int]:
    """Return the unchecked name and sealed record of each process of a group, and the number of removed entries."""
    script = client.register_script(load_script("fleet_records"))
    limits = [MAX_NAME_BYTES, MAX_RECORD_BYTES + MAX_HEADER_BYTES, MAX_PROCESSES, MAX_GROUP_RECORDS_BYTES]
    found, removed = await script(keys=[keys.members(group)], args=limits)
    return list(zip(found[::2], found[1::2], strict=True)), removed
