"""Connections to the master of a Sentinel set, or to the node of a Cluster that stores the hub's keys.

Before each connection attempt, the finder asks for the master. If the connected server is not the master, the
connection closes and raises `NotMasterError`. The caller's usual retry then reaches the new master. This module repeats
no command.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError, ResponseError

from nvision_hub.broker.discovery import Discovery, Node, NodeNotFoundError, NotMasterError, is_not_master_error

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis
    import redis.asyncio

SEED_TIMEOUT_S: Final = 1.5  # short, because the finder asks the next seed only after an unresponsive seed times out
MAX_SEEDS: Final = 64  # configured servers, and servers learned from replies


class NodeFinder:
    """Finder of the current master for all connections of one client. It first asks the last server that answered."""

    def __init__(self, discovery: Discovery) -> None:
        self.discovery = discovery
        self._seeds = list(discovery.nodes)

    def find(self, open_client: Callable[[str], redis.Redis]) -> Node:
        """Return the master. Raises `NodeNotFoundError` from the last server's error if no server names a master."""
        last: Exception | None = None
        for seed in list(self._seeds):
            with contextlib.closing(open_client(self.discovery.seed_url(seed))) as client:
                try:
                    reply = client.execute_command(*self.discovery.seed_command)  # type: ignore[no-untyped-call]
                    return self._on_reply(reply, seed)
                except (RedisError, OSError) as error:
                    self._on_failure(seed)
                    last = error
        raise self._not_found(last) from last

    async def find_async(self, open_client: Callable[[str], redis.asyncio.Redis]) -> Node:
        """Return the master. Raises `NodeNotFoundError` from the last server's error if no server names a master."""
        last: Exception | None = None
        for seed in list(self._seeds):
            async with contextlib.aclosing(open_client(self.discovery.seed_url(seed))) as client:
                try:
                    reply = await client.execute_command(*self.discovery.seed_command)  # type: ignore[no-untyped-call]
                    return self._on_reply(reply, seed)
                except (RedisError, OSError) as error:
                    self._on_failure(seed)
                    last = error
        raise self._not_found(last) from last

    def _on_reply(self, reply: Any, seed: Node) -> Node:
        node = self.discovery.parse_reply(reply, seed)
        known = dict.fromkeys([seed, *self._seeds, *self.discovery.all_nodes(reply)])
        self._seeds = list(known)[:MAX_SEEDS]
        return node

    def _on_failure(self, seed: Node) -> None:
        # The caller's time limit may expire before the finder has asked the last seed. The next call then starts with
        # another seed.
        self._seeds = [*(each for each in self._seeds if each != seed), seed]

    def _not_found(self, last: Exception | None) -> NodeNotFoundError:
        if isinstance(last, NodeNotFoundError):
            return NodeNotFoundError(str(last))
        what = "Sentinel" if self.discovery.kind == "sentinel" else "node of the Cluster"
        return NodeNotFoundError(f"no {what} answers ({last})")


class FindingConnection:
    """Mix-in for an asyncio connection of redis-py that connects to the master."""

    finder: NodeFinder  # shared by all connections of a pool
    open_seed: Callable[[str], redis.asyncio.Redis]

    async def _connect(self) -> None:
        self.host, self.port = await self.finder.find_async(type(self).open_seed)
        await super()._connect()  # type: ignore[misc]  # the other base class defines it

    async def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        await super().on_connect_check_health(check_health)  # type: ignore[misc]  # likewise
        if self.finder.discovery.kind == "sentinel":
            await self.send_command("ROLE", check_health=False)  # type: ignore[attr-defined]  # likewise
            try:
                _check_role(await self.read_response())
            except ResponseError:  # an ACL forbids ROLE
                return

    async def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return await super().read_response(*args, **options)  # type: ignore[misc]  # likewise
        except ResponseError as error:
            if not is_not_master_error(error):
                raise
            await self.disconnect(nowait=True)  # type: ignore[attr-defined]  # likewise
            raise NotMasterError(_not_master_text(error)) from error


class FindingConnectionSync:
    """Mix-in for a blocking connection of redis-py that connects to the master."""

    finder: NodeFinder
    open_seed: Callable[[str], redis.Redis]

    def _connect(self) -> Any:
        self.host, self.port = self.finder.find(type(self).open_seed)
        return super()._connect()  # type: ignore[misc]  # the other base class defines it

    def on_connect_check_health(self, check_health: bool = True) -> None:  # noqa: FBT001, FBT002 - the library's signature
        super().on_connect_check_health(check_health)  # type: ignore[misc]  # likewise
        if self.finder.discovery.kind == "sentinel":
            self.send_command("ROLE", check_health=False)  # type: ignore[attr-defined]  # likewise
            try:
                _check_role(self.read_response())
            except ResponseError:  # an ACL forbids ROLE
                return

    def read_response(self, *args: Any, **options: Any) -> Any:
        try:
            return super().read_response(*args, **options)  # type: ignore[misc]  # likewise
        except ResponseError as error:
            if not is_not_master_error(error):
                raise
            self.disconnect()  # type: ignore[attr-defined]  # likewise
            raise NotMasterError(_not_master_text(error)) from error


def _check_role(reply: Any) -> None:
    """Raise `NotMasterError` unless the reply to ROLE is that of a master."""
    if isinstance(reply, list) and reply and reply[0] not in (b"master", "master"):
        raise NotMasterError("the server is not the master")


def _not_master_text(error: Exception) -> str:
    return f"another server is the master of the hub's keys now ({error})"
