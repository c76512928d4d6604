"""Keeps webhooks out of the inside: every address that a name leads to is checked, and the one dialled is one of those.

A webhook's address is chosen by whoever writes cameras.yaml, and its name is answered by whoever runs that domain: a
request made from inside a network must not be theirs to aim. The name is resolved once for each connection, here, and
the connection goes to the number that was checked; looked up again by the dialling itself it might lead elsewhere.
TLS still verifies the name, and the Host header still says it. Redirects are not followed by anybody.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import threading
from typing import TYPE_CHECKING, Final

import httpcore2

from nvision_hub.errors import HubError
from workers.webhooks.connection import Connection

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence

    Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
    Dial = Callable[[str, int], Awaitable[httpcore2.AsyncNetworkStream]]

_CONNECT_S: Final = 5.0  # to one of several addresses; the last may take what is left of the delivery's time
# Networks that Python calls global, and that lead elsewhere: into IPv4 by way of a relay, or to nobody in particular.
_RELAYS: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "192.88.99.0/24",  # RFC 7526: 6to4 relays
        "::/96",  # RFC 4291: IPv4-compatible, abandoned
        "64:ff9b:1::/48",  # RFC 8215: NAT64 of the local network's choosing
        "2001::/32",  # RFC 4380: Teredo
        "2002::/16",  # RFC 7526: 6to4, abandoned
        "3fff::/20",  # RFC 9637: documentation; newer than some Pythons
        "5f00::/16",  # RFC 9602: segment routing; as above
        "fec0::/10",  # RFC 3879: site-local, abandoned
    )
)
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # RFC 6052: the last 32 bits are an IPv4 address


class ForbiddenAddressError(HubError):
    """A webhook's name leads to an address that it must not reach."""


class UnknownHostError(HubError):
    """A webhook's name leads nowhere."""


def is_public(address: str) -> bool:
    """Whether an address, as the resolver writes it, is one of the open Internet's."""
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
        and not any(found in network for network in _RELAYS if network.version == found.version)
    )


async def resolve(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order of preference; of a number in any spelling that the system takes, itself.

    Raises `UnknownHostError`. Each look-up has a thread of its own, and one that never ends keeps nobody waiting:
    neither the look-ups of other names, as in a pool, nor the process's end.
    """
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[list[str]] = loop.create_future()

    def tell(found: list[str] | None) -> None:
        if answer.done():
            return
        if found is None:
            answer.set_exception(UnknownHostError(f"{host} cannot be resolved; check the name in the webhook's url"))
        else:
            answer.set_result(found)

    def look_up() -> None:
        try:
            found = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
        except (OSError, UnicodeError):
            found = None
        try:
            loop.call_soon_threadsafe(tell, found)
        except RuntimeError:
            return  # the loop has ended before

    threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
    return await answer


class GuardedNetwork(httpcore2.AsyncNetworkBackend):
    """How the HTTP client of one webhook reaches the network, and what it does not reach."""

    def __init__(self, *, allow_private: bool, resolve: Resolve = resolve, dial: Dial = Connection.to) -> None:
        self._allow_private = allow_private
        self._resolve = resolve
        self._dial = dial
        self._asked: asyncio.Task[Sequence[str]] | None = None

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - the library's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore2.SOCKET_OPTION] | None = None,
    ) -> httpcore2.AsyncNetworkStream:
        """Connect to an address of `host` that was checked, the first that answers.

        Raises `ForbiddenAddressError`, `UnknownHostError` and `OSError`.
        """
        del timeout, local_address, socket_options  # the delivery as a whole is timed; the others are never used
        addresses = await self._checked(host, port)
        for address in addresses[:-1]:
            try:
                async with asyncio.timeout(_CONNECT_S):
                    return await self._dial(address, port)
            except OSError:  # a TimeoutError is one
                continue
        return await self._dial(addresses[-1], port)

    async def _checked(self, host: str, port: int) -> Sequence[str]:
        # Connections that are made at the same time ask once: a name server that is away must not gather threads.
        if self._asked is None:
            self._asked = asyncio.ensure_future(self._resolve(host, port))
            self._asked.add_done_callback(self._answered)
        addresses = await asyncio.shield(self._asked)
        if not addresses:
            raise UnknownHostError(f"{host} has no address; check the name in the webhook's url")
        if not self._allow_private and not all(map(is_public, addresses)):
            # Not which address: what is inside is not for everybody who may read this.
            raise ForbiddenAddressError(
                f"{host} leads to an address that is not public; set allow_private: true on the webhook if it should"
            )
        return addresses

    def _answered(self, asked: asyncio.Task[Sequence[str]]) -> None:
        self._asked = None
        if not asked.cancelled():
            asked.exception()  # seen, also where everybody who waited has been cancelled
