"""Client for other hubs: reads their processes from Redis, and sends requests to their supervisors.

This module reports the processes of other hubs with the same messages that this hub's supervisor sends. The rest of the
gateway therefore treats all hubs alike.

Any program with access to Redis can write records and replies. The client ignores and counts records and replies that
are invalid or not sealed with the fleet key. Without a key, it shows all valid records and sends no requests.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.cluster.fleet_registry import (
    EXPIRES_S,
    MAX_COMMAND_BYTES,
    MAX_RECORD_BYTES,
    RegistryKeys,
    RegistryRecord,
    parse_group,
    read_groups,
    read_records,
)
from nvision_hub.cluster.sealed_messages import (
    COMMANDS,
    GATEWAY,
    NO_KEY,
    VALIDITY_S,
    MessageKind,
    RejectedEntryError,
    RejectionReason,
)
from nvision_hub.metrics.snapshot import MetricSnapshot
from nvision_hub.runtime.messages import (
    AddCamera,
    CameraFacts,
    Forward,
    MessageError,
    ProcessChanged,
    ProcessInfo,
    ProcessRemoved,
    RemoveCamera,
    Reply,
    RestartProcess,
    StatusReported,
    decode,
    encode,
)
from workers.gateway.state.fleet import CAMERA

if TYPE_CHECKING:
    from collections.abc import Mapping

    import redis.asyncio

    from nvision_hub.cluster.rejected_entries import RejectedEntries
    from nvision_hub.runtime.messages import Request
    from workers.gateway.api.control import FleetControl
    from workers.gateway.live.pubsub import PubSubClient
    from workers.gateway.settings import FleetSettings

log = logging.getLogger("nvision_hub.gateway")

POLL_INTERVAL_S: Final = 1.0
MAX_REQUESTS: Final = 1000
_PLACED: Final = "this hub takes its cameras from cameras.yaml; edit the file, and the Ray engine applies the change"


@dataclass(kw_only=True)
class _RemoteProcess:
    """One process of another hub, in its last reported state."""

    group: str
    record: RegistryRecord
    before: MetricSnapshot = field(default_factory=MetricSnapshot)  # counts from earlier runs of the group's supervisor

    @property
    def info(self) -> ProcessInfo:
        """Description of the process, with all counts since this gateway first saw the process."""
        return replace(self.record.account, past=self.before.merge(self.record.account.past))

    def succeeded_by(self, group: str, record: RegistryRecord) -> _RemoteProcess:
        """Return the state of the process after an update with a newer record."""
        before = self.before
        if record.holder != self.record.holder:
            before = before.merge(self.record.account.past)
            if self.record.status is not None:
                before = before.merge(self.record.status.metrics)
        return _RemoteProcess(group=group, record=record, before=before)


class RemoteHubs:
    """Client of the other hubs. It passes all messages to `control`. The caller starts `run` as a task."""

    def __init__(
        self,
        settings: FleetSettings,
        control: FleetControl,
        client: redis.asyncio.Redis,
        pubsub: PubSubClient,
        rejected: RejectedEntries,
    ) -> None:
        self._client = client
        self._pubsub = pubsub
        self._seal = settings.seal
        self._rejected = rejected
        self._order = {CAMERA + camera: index for index, camera in enumerate(settings.cameras)}
        self._on_event = control.on_message
        self._send_to_own = control.send
        self._keys = RegistryKeys(prefix=pubsub.prefix)
        self._known: dict[str, _RemoteProcess] = {}
        self._requests: asyncio.Queue[tuple[_RemoteProcess, Request]] = asyncio.Queue(MAX_REQUESTS)

    def request(self, request: Request) -> bool:
        """Send a request to its target's supervisor. Return False if the request cannot be sent now."""
        if isinstance(request, AddCamera | RemoveCamera):
            self._on_event(Reply(request_id=request.request_id, error=_PLACED))
            return True
        name = request.target if isinstance(request, Forward | RestartProcess) else CAMERA + request.camera
        known = self._known.get(name)
        if known is None:
            return name not in self._order and self._send_to_own(request)
        if self._seal.key is None:
            self._on_event(Reply(request_id=request.request_id, error=NO_KEY))
            return True
        if isinstance(request, Forward | RestartProcess):
            request = replace(request, target=known.record.account.name)
        if self._requests.full():
            return False
        self._requests.put_nowait((known, request))
        return True

    async def run(self, url: str) -> None:
        """Poll the hubs, send requests, and announce `url` (this gateway's URL) in Redis, until canceled."""
        for name in self._order:
            self._report_info(ProcessInfo(name=name, phase="waiting"))
        self._pubsub.subscribe(self._on_reply, [self._keys.replies])
        async with asyncio.TaskGroup() as group:
            group.create_task(self._poll(url))
            group.create_task(self._send_requests())

    async def _poll(self, url: str) -> None:
        while True:
            try:
                await self._client.set(self._keys.gateway, self._address(url), px=int(EXPIRES_S * 1000))
                self._apply(await self._read())
            except (RedisError, OSError) as error:
                event = {"event": "remote_hubs_unreachable"}
                log.debug("cannot read other hubs' records from Redis: %s; retrying", type(error).__name__, extra=event)
            await asyncio.sleep(POLL_INTERVAL_S)

    async def _read(self) -> dict[str, tuple[str, RegistryRecord]]:
        """Return the group and the record of each process. The keys are the names of the processes in the fleet."""
        found: dict[str, tuple[str, RegistryRecord]] = {}
        names, removed = await read_groups(self._client, self._keys)
        self._count_removed("group", self._keys.groups, removed)
        for raw in names:
            try:
                group = parse_group(raw)
            except RejectedEntryError as error:
                self._rejected.add("group", self._keys.groups, error)
                await self._client.srem(self._keys.groups, raw)
                continue
            key = self._keys.members(group)
            records, removed = await read_records(self._client, self._keys, group)
            self._count_removed("record", key, removed)
            if not records:
                await self._client.srem(self._keys.groups, raw)
            for process, data in records:
                try:
                    name, record = self._opened(group, process, data)
                except RejectedEntryError as error:
                    self._rejected.add("record", key, error)
                    continue
                if name not in found or _age(record) > _age(found[name][1]):
                    found[name] = group, record
        return found

    def _opened(self, group: str, process: bytes, data: bytes) -> tuple[str, RegistryRecord]:
        """Return the process's name in the fleet, and its record. Raises `RejectedEntryError`."""
        now = time.time()
        sealed = self._seal.open(MessageKind.RECORD, data, addressee=group, now=now, max_bytes=MAX_RECORD_BYTES)
        record = RegistryRecord.decode(sealed.payload, process.decode(errors="replace"))
        # Unlike cameras, a process such as `hub` exists in every group.
        name = record.account.name if record.account.name.startswith(CAMERA) else f"{record.account.name}@{group}"
        known = self._known.get(name)
        # An older record may be a replayed copy. If it is older by `VALIDITY_S` or more, a clock was corrected instead.
        if known is not None and record.holder == known.record.holder and 0 < known.record.at - record.at < VALIDITY_S:
            raise RejectedEntryError(RejectionReason.REPLAYED)
        return name, record

    def _count_removed(self, kind: str, key: str, count: int) -> None:
        if count:
            self._rejected.add(kind, key, RejectedEntryError(RejectionReason.TOO_LARGE), count=count)

    def _apply(self, found: Mapping[str, tuple[str, RegistryRecord]]) -> None:
        """Report the changes since the last poll."""
        for name, (group, record) in found.items():
            if name.startswith(CAMERA) and name not in self._order:
                continue  # the cameras.yaml of this gateway does not contain this camera
            try:
                self._apply_record(name, group, record)
            except (ArithmeticError, LookupError, TypeError, ValueError):
                # The record has passed all checks but is malformed. The gateway still shows the other processes.
                self._rejected.add("record", self._keys.members(group), RejectedEntryError(RejectionReason.MALFORMED))
        self._remove_lost(found)

    def _apply_record(self, name: str, group: str, record: RegistryRecord) -> None:
        before = self._known.get(name)
        known = _RemoteProcess(group=group, record=record) if before is None else before.succeeded_by(group, record)
        self._known[name] = known
        if before is None or _differs(before.record, record):
            self._report_info(replace(known.info, name=name))
        if record.status is not None and (before is None or before.record.at != record.at):
            self._on_event(StatusReported(name=name, status=record.status))

    def _remove_lost(self, found: Mapping[str, tuple[str, RegistryRecord]]) -> None:
        """Report the removal of processes that their hub no longer reports."""
        for name in self._known.keys() - found.keys():
            known = self._known[name]
            if name not in self._order:
                self._on_event(ProcessRemoved(name=name))
                del self._known[name]
            elif known.record.account.pid is not None:  # the camera's group has stopped reporting
                info = ProcessInfo(name=name, phase="waiting", facts=known.record.account.facts)
                lost = RegistryRecord(account=info, status=None, holder="")
                self._known[name] = known.succeeded_by(known.group, lost)
                self._report_info(self._known[name].info)

    def _report_info(self, info: ProcessInfo) -> None:
        if (index := self._order.get(info.name)) is not None:
            facts = info.facts if isinstance(info.facts, CameraFacts) else CameraFacts(index=index)
            info = replace(info, facts=replace(facts, index=index))
        self._on_event(ProcessChanged(info=info))

    async def _send_requests(self) -> None:
        while True:
            known, request = await self._requests.get()
            group, inbox = known.group, known.record.inbox
            receivers = 0
            if inbox:
                sealed = self._seal.seal(MessageKind.COMMAND, encode(request), addressee=inbox, now=time.time())
                with contextlib.suppress(RedisError, OSError):
                    receivers = await self._client.publish(self._keys.commands(group), sealed)
            if not receivers:
                self._on_event(Reply(request_id=request.request_id, error=f"group {group} is unreachable"))

    def _on_reply(self, channel: str, data: bytes) -> None:
        if self._seal.key is None:
            return  # without a key, this gateway sends no requests
        now = time.time()
        try:
            sealed = self._seal.open(MessageKind.REPLY, data, addressee=GATEWAY, now=now, max_bytes=MAX_COMMAND_BYTES)
            reply = decode(sealed.payload)
        except RejectedEntryError as error:
            self._rejected.add("reply", channel, error)
        except MessageError:
            self._rejected.add("reply", channel, RejectedEntryError(RejectionReason.MALFORMED))
        else:
            # Each reply is used only once, because its request is no longer pending after that.
            if isinstance(reply, Reply):
                self._on_event(reply)

    def _address(self, url: str) -> bytes:
        """Return the sealed message with this gateway's URL for commands on any machine."""
        payload = _reachable_url(url).encode()
        return self._seal.seal(MessageKind.ADDRESS, payload, addressee=COMMANDS, now=time.time())


def _reachable_url(url: str) -> str:
    """Return the gateway's URL for other machines. The name of this machine replaces a wildcard address."""
    for any_address in ("//0.0.0.0:", "//[::]:"):
        url = url.replace(any_address, f"//{socket.gethostname()}:")
    return url


def _age(record: RegistryRecord) -> tuple[bool, float]:
    """Return a sort key that is larger for a newer record. While a camera moves between groups, it has two records."""
    return record.account.pid is not None, 0.0 if record.status is None else record.status.at


def _differs(old: RegistryRecord, new: RegistryRecord) -> bool:
    """Return whether the holder or the description differs. Start times do not count, because they vary slightly."""
    return old.holder != new.holder or replace(old.account, started_at=None) != replace(new.account, started_at=None)
