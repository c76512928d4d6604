"""Members of other hubs, read from Redis as if this hub's supervisor had told of them; and what is asked of them.

The gateway's fleet, page, metrics and routes know nothing of it: what comes from here looks as what comes up the pipe.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.broker.connection import connect
from nvision_hub.broker.fleet_records import EXPIRES_S, FleetKeys, Record
from nvision_hub.link import Command
from nvision_hub.oversight import ACCOUNT, GONE, REPLY, REPORT, Account
from nvision_hub.status import Meter
from workers.gateway.fleet import CAMERA

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import redis.asyncio

    from nvision_hub.broker.connection import Stream

log = logging.getLogger("nvision_hub.gateway")

LOOKS_EVERY_S: Final = 1.0
PING_EVERY_S: Final = 5.0
ASKS_MAX: Final = 1000
_NOT_HERE: Final = "the cameras of this hub are placed by cameras.yaml; change that, and the engine follows"


@dataclass(kw_only=True)
class _Known:
    """What the fleet was last told of one member."""

    group: str
    record: Record
    before: Meter = field(default_factory=Meter)  # what was counted under supervisors that are no more

    @property
    def account(self) -> Account:
        """Its account, its past counting from the first that was ever heard of it."""
        past = Meter()
        past.add(self.before.snapshot())
        past.add(self.record.account.past)
        return replace(self.record.account, past=past.snapshot())

    def succeeded_by(self, group: str, record: Record) -> _Known:
        """What is known after another record."""
        before = self.before
        if record.holder != self.record.holder:
            before = Meter()
            before.add(self.before.snapshot())
            before.add(self.record.account.past)
            before.add((self.record.status or {}).get("metrics", {}))
        return _Known(group=group, record=record, before=before)


class Elsewhere:
    """`run` is its task. `heed` is told of everything, `ask` is the pipe of this hub's own supervisor."""

    def __init__(
        self,
        stream: Stream,
        cameras: Sequence[str],
        *,
        heed: Callable[[Command], None],
        ask: Callable[[Command], bool],
    ) -> None:
        self._stream = stream
        self._order = {CAMERA + camera: index for index, camera in enumerate(cameras)}
        self._heed = heed
        self._ask_ours = ask
        self._keys = FleetKeys(prefix=stream.prefix)
        self._known: dict[str, _Known] = {}
        self._asks: asyncio.Queue[tuple[str, Command]] = asyncio.Queue(ASKS_MAX)

    def ask(self, command: Command) -> bool:
        """Have it done by whichever supervisor it is for; False where that cannot be asked now."""
        arguments = command.arguments
        if command.verb in {"add", "remove"}:
            self._heed(Command(verb=REPLY, arguments={"id": arguments.get("id"), "error": _NOT_HERE}))
            return True
        name = str(arguments.get("target") or CAMERA + str(arguments.get("camera")))
        known = self._known.get(name)
        if known is None:
            return name not in self._order and self._ask_ours(command)
        if "target" in arguments:
            command = replace(command, arguments={**arguments, "target": known.record.account.name})
        try:
            self._asks.put_nowait((known.group, command))
        except asyncio.QueueFull:
            return False
        return True

    async def run(self, url: str) -> None:
        """Look and hand on, for ever; `url` is this gateway's own, for verbs that look for it."""
        for name in self._order:
            self._tell_account(Account(name=name, phase="waiting"))
        async with asyncio.TaskGroup() as group:
            for task in (self._look_all(url), self._hand_on(), self._listen()):
                group.create_task(task)

    async def _look_all(self, url: str) -> None:
        client = connect(self._stream.url)
        while True:
            try:
                await client.set(self._keys.gateway, _reached_at(url), px=int(EXPIRES_S * 1000))
                self._take(await self._look(client))
            except (RedisError, OSError) as error:
                log.debug("the other hubs cannot be looked at: %s", type(error).__name__)
                await client.connection_pool.disconnect(inuse_connections=True)
            await asyncio.sleep(LOOKS_EVERY_S)

    async def _look(self, client: redis.asyncio.Redis) -> dict[str, tuple[str, Record]]:
        """Every member's group and record, by the name it has here."""
        found: dict[str, tuple[str, Record]] = {}
        for raw in sorted(await client.smembers(self._keys.groups)):
            group = _text(raw)
            fields = await client.hgetall(self._keys.members(group))
            if not fields:
                await client.srem(self._keys.groups, raw)
            for data in fields.values():
                try:
                    record = Record.decode(_text(data))
                except ValueError:
                    log.warning("the group %s tells what cannot be read; passed over", group)
                    continue
                name = _here(record.account.name, group)
                if name not in found or _livelier(record, found[name][1]):
                    found[name] = group, record
        return found

    def _take(self, found: Mapping[str, tuple[str, Record]]) -> None:
        """Tell the fleet what has changed."""
        for name, (group, record) in found.items():
            before = self._known.get(name)
            known = _Known(group=group, record=record) if before is None else before.succeeded_by(group, record)
            self._known[name] = known
            if before is None or _differs(before.record, record):
                self._tell_account(replace(known.account, name=name))
            if record.status is not None and (before is None or before.record.at != record.at):
                self._heed(Command(verb=REPORT, arguments={"name": name, "status": record.status}))
        for name in self._known.keys() - found.keys():
            known = self._known[name]
            if name not in self._order:
                self._heed(Command(verb=GONE, arguments={"name": name}))
                del self._known[name]
            elif known.record.account.pid is not None:  # its group is silent: nobody streams it, as far as is known
                lost = Record(account=Account(name=name, phase="waiting", facts=known.record.account.facts),
                              status=None, holder="")  # fmt: skip
                self._known[name] = known.succeeded_by(known.group, lost)
                self._tell_account(self._known[name].account)

    def _tell_account(self, account: Account) -> None:
        if account.name in self._order:
            account = replace(account, facts={**account.facts, "index": self._order[account.name]})
        self._heed(Command(verb=ACCOUNT, arguments=asdict(account)))

    async def _hand_on(self) -> None:
        client = connect(self._stream.url)
        while True:
            group, command = await self._asks.get()
            try:
                heard = await client.publish(self._keys.asks(group), command.encode())
            except (RedisError, OSError):
                heard = 0
            if not heard:
                told = f"the group {group} cannot be reached at this moment"
                self._heed(Command(verb=REPLY, arguments={"id": command.arguments.get("id"), "error": told}))

    async def _listen(self) -> None:
        while True:
            client = connect(self._stream.url)
            try:
                async with client.pubsub() as pubsub:
                    await pubsub.subscribe(self._keys.replies)
                    while True:
                        message = await pubsub.get_message(ignore_subscribe_messages=True, timeout=PING_EVERY_S)
                        if message is None:
                            await pubsub.ping()
                        elif message["type"] == "message":
                            with contextlib.suppress(ValueError):
                                self._heed_reply(Command.decode(message["data"]))
            except (RedisError, OSError):
                await asyncio.sleep(LOOKS_EVERY_S)
            finally:
                with contextlib.suppress(RedisError, OSError):
                    await client.aclose()

    def _heed_reply(self, command: Command) -> None:
        if command.verb == REPLY:
            self._heed(command)


def _reached_at(url: str) -> str:
    """The gateway's address for other machines: this one's name where it listens on every address."""
    for everywhere in ("//0.0.0.0:", "//[::]:"):
        url = url.replace(everywhere, f"//{socket.gethostname()}:")
    return url


def _text(raw: bytes | str) -> str:
    return raw if isinstance(raw, str) else raw.decode(errors="replace")


def _here(name: str, group: str) -> str:
    """Cameras are unique in a fleet; every group has a `hub` and perhaps a `service`."""
    return name if name.startswith(CAMERA) else f"{name}@{group}"


def _livelier(one: Record, other: Record) -> bool:
    """Whether a camera that two groups tell of, as while it moves, is rather with the first."""
    return _at(one) > _at(other)


def _at(record: Record) -> tuple[bool, float]:
    status: Mapping[str, Any] = record.status or {}
    return record.account.pid is not None, float(status.get("at", 0.0))


def _differs(old: Record, new: Record) -> bool:
    """Whether the accounts do, but for moments, which each reading moves a little."""
    return old.holder != new.holder or replace(old.account, started_at=None) != replace(new.account, started_at=None)
