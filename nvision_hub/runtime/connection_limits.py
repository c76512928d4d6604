"""Limits for the connections of an HTTP server, and the choice of the connection to close at a limit.

Performs no I/O. A client that opens many connections loses its own oldest idle connections. Other clients can then
still connect.
"""

from __future__ import annotations

import enum
import ipaddress
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_IPV6_PREFIX: Final = 64  # a customer usually has at least one network of this size (RFC 6177)


@dataclass(frozen=True, kw_only=True)
class ConnectionLimits:
    """Limits of one server. The defaults stay within the usual limit of 1,024 open files."""

    max_connections: int = 512
    max_per_address: int = 256  # also applies to a proxy, which uses one address for all its clients
    # For the complete headers of a request, from the start of the connection or the last response.
    header_timeout_s: float = 10.0
    request_timeout_s: float = 300.0  # from a request's headers to the end of its response
    # Maximum number of unread messages of a WebSocket, and of fragments of one message.
    max_queued_messages: int | None = 64


class NoRoomError(Exception):
    """No connection can be replaced: each is busy with a response or a WebSocket, and its client reads the data."""


class ConnectionPhase(enum.IntEnum):
    """Activity of a connection. The server closes connections in a lower phase first."""

    IDLE = 0  # the server waits for a request
    READING = 1  # the body of a request is arriving
    # A response is in progress, or the connection is a WebSocket; can be closed only if the client does not read.
    BUSY = 2


@dataclass(kw_only=True, eq=False)
class OpenConnection:
    """One open connection."""

    client: str  # return value of `client_of`
    abort: Callable[[], None]
    is_stalled: Callable[[], bool]  # whether sent data is waiting because the client does not read
    since: float  # monotonic time at which the connection entered its phase
    phase: ConnectionPhase = ConnectionPhase.IDLE

    def enter(self, phase: ConnectionPhase, now: float) -> None:
        """Enter a phase. `now` is in monotonic seconds."""
        if phase is not self.phase:
            self.phase, self.since = phase, now


@dataclass(kw_only=True)
class ConnectionTable:
    """All open connections of one server."""

    limits: ConnectionLimits
    _connections: set[OpenConnection] = field(default_factory=set)
    _per_client: Counter[str] = field(default_factory=Counter)

    def __len__(self) -> int:
        return len(self._connections)

    def add(self, connection: OpenConnection) -> OpenConnection | None:
        """Add a connection. Return the connection that it replaces (the caller must close it); None if there is room.

        A client at its own limit replaces one of its own connections. At the limit of all connections, the new
        connection may replace any other. The order is: idle connections, then connections whose request is still
        arriving, then connections whose client does not read. Among equal connections, the client with the most
        connections loses the connection that has waited longest.

        Raises `NoRoomError` if no connection can be replaced. The table then stays unchanged.
        """
        client = connection.client
        replaced = None
        if self._per_client[client] >= self.limits.max_per_address:
            replaced = self._longest_waiting(each for each in self._connections if each.client == client)
        elif len(self._connections) >= self.limits.max_connections:
            replaced = self._longest_waiting(self._connections)
        if replaced is not None:
            self.remove(replaced)
        self._connections.add(connection)
        self._per_client[client] += 1
        return replaced

    def remove(self, connection: OpenConnection) -> None:
        """Remove a connection if it is still in the table."""
        if connection not in self._connections:
            return
        self._connections.remove(connection)
        self._per_client[connection.client] -= 1
        if not self._per_client[connection.client]:
            del self._per_client[connection.client]

    def _longest_waiting(self, connections: Iterable[OpenConnection]) -> OpenConnection:
        waiting = [each for each in connections if each.phase is not ConnectionPhase.BUSY or each.is_stalled()]
        if not waiting:
            raise NoRoomError
        return min(waiting, key=lambda each: (each.phase, -self._per_client[each.client], each.since))


def client_of(host: str) -> str:
    """Return the name for counting the connections from an address. For IPv6, this is the network of the address."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    if address.is_loopback:
        return host
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
