"""Protection of the internal network: a webhook connects only to addresses that were checked.

The author of cameras.yaml chooses a webhook's host name, and the owner of the domain chooses the addresses of this
name. Neither of them may direct requests into the internal network. This module therefore resolves the name once per
connection, checks the addresses, and dials one of them. A second lookup while dialing could return other addresses.

TLS still verifies the name, and the Host header contains the name. The hub never follows redirects.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from concurrent.futures import Future
from typing import TYPE_CHECKING, Final

import httpcore2

from nvision_hub.errors import HubError
from workers.webhooks.tcp_connection import TcpConnection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
    Dial = Callable[[str, int], Awaitable[httpcore2.AsyncNetworkStream]]

_CONNECT_TIMEOUT_S: Final = 5.0  # per address; the last address may use the rest of the attempt's time
# Python's checks miss some of these networks, which lead into IPv4 through a relay, or to no host.
_RELAYS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.88.99.0/24",  # RFC 7526: 6to4 relays
        "::/96",  # RFC 4291: IPv4-compatible, deprecated
        "64:ff9b:1::/48",  # RFC 8215: NAT64 with a prefix of the local network
        "2001::/32",  # RFC 4380: Teredo
        "2002::/16",  # RFC 7526: 6to4, deprecated
        "3fff::/20",  # RFC 9637: documentation; newer than some Python versions
        "5f00::/16",  # RFC 9602: segment routing; also newer than some Python versions
        "fec0::/10",  # RFC 3879: site-local, deprecated
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class ForbiddenAddressError(HubError):
    """A webhook's host name resolves to an address that is not allowed."""


class UnknownHostError(HubError):
    """A webhook's host name cannot be resolved."""


def is_public(address: str) -> bool:
    """Return whether an address in the resolver's notation belongs to the public Internet."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            return is_public(str(found.ipv4_mapped))
        if found in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)))
    return (
        found.is_global
        and not found.is_multicast
        and not found.is_reserved
        and not any(found in network for network in _RELAYS)
    )


async def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host in order of preference.

    `host` is a name, or a numeric address in any notation that the system accepts. Raises `UnknownHostError`.

    Each lookup has its own daemon thread. A lookup that never ends therefore delays neither the end of the process nor
    other lookups. In a thread pool, it would delay both.
    """
    addresses: Future[list[str]] = Future()
    addresses.set_running_or_notify_cancel()  # a running future cannot be canceled, so the thread can set it

    def look_up() -> None:
        try:
            addresses.set_result([str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)])
        except (OSError, UnicodeError):
            text = f"{host} cannot be resolved; check the name in the webhook's url"
            addresses.set_exception(UnknownHostError(text))

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    return await asyncio.wrap_future(addresses)


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """Network backend of one webhook's HTTP client."""

    def __init__(self, *, allow_private: bool, resolve: Resolve = resolve, dial: Dial = TcpConnection.to) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._dial = dial
        self._lookup: asyncio.Task[Sequence[str]] | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to the first checked address of `host` that accepts the connection.

        Raises `ForbiddenAddressError`, `UnknownHostError` and `OSError`.
        """
        del timeout, local_address, socket_options  # one time limit covers the whole attempt
        addresses = await self._checked(host, port)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(_CONNECT_TIMEOUT_S):
                    return await self._dial(address, port)
            except OSError:  # includes TimeoutError
                continue
        return await self._dial(addresses[-1], port)

    async def _checked(self, host: str, port: int) -> Sequence[str]:
        # Simultaneous connections share one lookup. Otherwise, threads would accumulate during a name server's outage.
        if self._lookup is None:
            self._lookup = asyncio.ensure_future(self._resolve(host, port))
            self._lookup.add_done_callback(self._on_lookup_done)
        addresses = await asyncio.shield(self._lookup)
        if not addresses:
            raise UnknownHostError(f"{host} has no address; check the name in the webhook's url")
        if not self._allow_private and not all(map(is_public, addresses)):
            # The error omits the address, so that its readers learn nothing about the internal network.
            raise ForbiddenAddressError(
                f"{host} resolves to an address that is not public; set allow_private: true on the webhook to allow it"
            )
        return addresses

    def _on_lookup_done(self, lookup: asyncio.Task[Sequence[str]]) -> None:
        self._lookup = None
        if not lookup.cancelled():
            lookup.exception()  # retrieves the error; otherwise, asyncio logs it if all waiters were canceled
