"""Discovery of the master in a Sentinel set or a Cluster: addresses, commands and replies.

This module opens no connection. `node_finder` asks the servers for the master, and `client` connects to the master.

All keys of a hub share a hash tag. In a Cluster, one slot and therefore one master stores them all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any, Final, Literal
from urllib.parse import parse_qs, quote, urlencode

from redis.crc import key_slot
from redis.exceptions import AskError, ClusterDownError, MasterDownError, ReadOnlyError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError

Node = tuple[str, int]

_ADDRESS: Final = re.compile(
    r"(?P<scheme>rediss?)\+(?P<kind>sentinel|cluster)://(?:(?P<login>.*)@)?(?P<nodes>[^@/?]+)"
    r"(?:/(?P<path>[^?]*))?(?:\?(?P<query>.*))?",
    re.DOTALL,
)
_NODE: Final = re.compile(r"\[?(?P<host>[^\[\]]+?)\]?:(?P<port>[0-9]+)")
_MAX_PORT: Final = 65535
# Errors from a server that is not the master of the keys. (MovedError is a subclass of AskError.)
_NOT_MASTER_ERRORS: Final = (AskError, ReadOnlyError, ClusterDownError, MasterDownError)


class NodeNotFoundError(RedisConnectionError):
    """No Sentinel or node of the Cluster names a master for the hub's keys."""


class NotMasterError(RedisConnectionError):
    """The connected server is not the master. The next connection looks for the master again."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Discovery:
    """Parsed address of a Sentinel set or a Cluster."""

    kind: Literal["sentinel", "cluster"]
    nodes: tuple[Node, ...]  # the Sentinels, or some nodes of the Cluster
    master: str = ""  # name of the master that the Sentinels watch
    slot: int = 0  # slot of the Cluster that stores the hub's keys
    scheme: str
    login: str = field(repr=False)  # user and password, percent-encoded, with a final @; empty if there are none
    sentinel_login: str = field(repr=False)  # likewise, for the Sentinels
    options: str  # redis-py's options as a query string, such as the paths of TLS files
    database: int = 0

    def seed_url(self, node: Node) -> str:
        """Return the address of a server to query: a Sentinel, or a node of the Cluster."""
        login = self.sentinel_login if self.kind == "sentinel" else self.login
        return f"{self.scheme}://{login}{shown(node)}?{self.options}"

    @property
    def url(self) -> str:
        """The address of the master. Its host is a placeholder for the host that `NodeFinder` returns."""
        return f"{self.scheme}://{self.login}{shown(self.nodes[0])}/{self.database}?{self.options}"

    @property
    def seed_command(self) -> tuple[str, ...]:
        """The command that asks a seed for the address of the master."""
        if self.kind == "sentinel":
            return "SENTINEL", "GET-MASTER-ADDR-BY-NAME", self.master
        return "CLUSTER", "SLOTS"

    def parse_reply(self, reply: Any, asked: Node) -> Node:
        """Return the master in a seed's reply to `seed_command`. Raises `NodeNotFoundError` if the reply names none."""
        try:
            return self._from_sentinel(reply) if self.kind == "sentinel" else self._from_cluster(reply, asked)
        except (TypeError, ValueError, LookupError, AttributeError):
            raise NodeNotFoundError(f"{shown(asked)} sent a reply that is not from a {self.kind}") from None

    def _from_sentinel(self, reply: Any) -> Node:
        if reply is None:
            raise NodeNotFoundError(
                f"the Sentinels watch no master called {self.master}; correct the name in redis.url"
            )
        host, port = reply
        return _text(host), _port(port)

    def _from_cluster(self, reply: Any, asked: Node) -> Node:
        for first, last, master, *_ in reply:
            if first <= self.slot <= last:
                host = _text(master[0] or "")
                # An empty host means the queried host (CLUSTER SLOTS, "?" in Redis 7).
                return (asked[0] if host in ("", "?") else host), _port(master[1])
        raise NodeNotFoundError(f"no node of the Cluster has slot {self.slot}; check it with redis-cli --cluster check")

    def all_nodes(self, reply: Any) -> list[Node]:
        """Return every node in a Cluster's reply; an empty list for any other reply."""
        if self.kind == "sentinel":
            return []
        try:
            return [
                (_text(node[0]), _port(node[1])) for _, _, *nodes in reply for node in nodes if _text(node[0] or "")
            ]
        except (TypeError, ValueError, LookupError, AttributeError):
            return []


def parse_discovery(url: str) -> Discovery | None:
    """Parse an address from `Redis.dial`. Return None for the address of a single server.

    Raises `ValueError` for an incomplete address.
    """
    found = _ADDRESS.fullmatch(url)
    if found is None:
        return None
    nodes = tuple(_node(text) for text in found["nodes"].split(","))
    options = {name: values[-1] for name, values in parse_qs(found["query"] or "", errors="surrogateescape").items()}
    user, password = options.pop("sentinel_username", ""), options.pop("sentinel_password", "")
    sentinel_login = ":".join(quote(text, safe="", errors="surrogateescape") for text in (user, password)) + "@"
    key = options.pop("key", "")
    master, _, database = (found["path"] or "").partition("/")
    is_sentinel = found["kind"] == "sentinel"
    return Discovery(
        kind="sentinel" if is_sentinel else "cluster",
        nodes=nodes,
        master=master if is_sentinel else "",
        slot=0 if is_sentinel else key_slot(key.encode()),
        scheme=found["scheme"],
        login=f"{found['login']}@" if found["login"] else "",
        sentinel_login=sentinel_login if user or password else "",
        options=urlencode(options, quote_via=quote, safe="/", errors="surrogateescape"),
        database=int(database or 0) if is_sentinel else 0,
    )


def is_not_master_error(error: Exception) -> bool:
    """Return whether an error reply means that this server is not the master of the keys."""
    # For an error in a script, Redis 6 gives the reason only in the text.
    return isinstance(error, _NOT_MASTER_ERRORS) or (isinstance(error, ResponseError) and "-READONLY " in str(error))


def shown(node: Node) -> str:
    host, port = node
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _node(text: str) -> Node:
    found = _NODE.fullmatch(text)
    if found is None:
        raise ValueError("an address of Sentinels or of a Cluster needs host:port for each server")
    return found["host"], int(found["port"])


def _port(value: bytes | str | int) -> int:
    port = int(value)
    if not 0 < port <= _MAX_PORT:
        raise ValueError("not a port")
    return port


def _text(value: bytes | str) -> str:
    if not isinstance(value, bytes | str):
        raise TypeError("not a text")
    return value.decode() if isinstance(value, bytes) else value
