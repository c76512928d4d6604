"""WS-Discovery: search for ONVIF devices on this machine's networks (ONVIF Core, 7).

Any device on the network can answer, so answers are untrusted. From each answer, the search keeps only addresses on the
host that sent it. Otherwise, a device could direct the queries to other hosts, which would then receive a digest of the
password.
"""

from __future__ import annotations

import selectors
import socket
import time
import uuid
from contextlib import ExitStack, closing, suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from nvision_hub.media.sources.onvif import soap

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_GROUP: Final = ("239.255.255.250", 3702)
_ADDRESSING: Final = "http://schemas.xmlsoap.org/ws/2004/08/addressing"
_DISCOVERY: Final = "http://schemas.xmlsoap.org/ws/2005/04/discovery"
_NETWORK: Final = "http://www.onvif.org/ver10/network/wsdl"
_REPEATS: Final = 2  # number of times that the search is sent, because datagrams are sometimes lost
_REPEAT_INTERVAL_S: Final = 0.25
_MAX_DATAGRAM_BYTES: Final = 2**16
_MAX_MATCHES: Final = 2000


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeMatch:
    """One device that answered. `addresses` are the addresses that it announces for its ONVIF service."""

    addresses: tuple[str, ...]
    name: str = ""


def find_devices(interfaces: Sequence[str], *, timeout_s: float) -> list[ProbeMatch]:
    """Search from these local addresses, and return the answers. A device may answer several times.

    Raises `OSError` if any of the addresses is not an address of this machine.
    """
    found: list[ProbeMatch] = []
    with ExitStack() as resources:
        selector = resources.enter_context(closing(selectors.DefaultSelector()))
        for address in interfaces:
            probe = resources.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            probe.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(address))
            probe.bind((address, 0))
            probe.settimeout(0)
            selector.register(probe, selectors.EVENT_READ, _probe_message())
        end = time.monotonic() + timeout_s
        send_at, sent = time.monotonic(), 0
        while (now := time.monotonic()) < end and len(found) < _MAX_MATCHES:
            if sent < _REPEATS and now >= send_at:
                _send(selector)
                send_at, sent = now + _REPEAT_INTERVAL_S, sent + 1
            until = min(end, send_at) if sent < _REPEATS else end
            for key, _ in selector.select(until - now):
                with suppress(OSError):
                    data, sender = key.fileobj.recvfrom(_MAX_DATAGRAM_BYTES)  # type: ignore[union-attr] # a socket
                    found += (on_host(each, sender[0]) for each in parse_matches(data))
    return found


def parse_matches(data: bytes) -> list[ProbeMatch]:
    """Return the devices in one answer; none if the answer is invalid."""
    try:
        content = soap.parse(data)
    except (soap.SoapSyntaxError, soap.SoapFaultError):
        return []
    return [
        ProbeMatch(addresses=tuple(soap.text(each, "XAddrs").split()), name=_name(soap.text(each, "Scopes").split()))
        for each in soap.descendants(content, "ProbeMatch")
    ]


def on_host(match: ProbeMatch, host: str) -> ProbeMatch:
    """Return the device with only those addresses that are on one host, an IP address."""
    return replace(match, addresses=tuple(address for address in match.addresses if _host(address) == host))


def _host(address: str) -> str | None:
    try:
        return urlsplit(address).hostname
    except ValueError:
        return None


def _name(scopes: Sequence[str]) -> str:
    """Return the name of a device or of its hardware. The scopes are percent-encoded URIs (ONVIF Core, 7.3.2.2)."""
    return next((name for word in ("name", "hardware") for name in _scope(scopes, word)), "")


def _scope(scopes: Sequence[str], word: str) -> Iterator[str]:
    for scope in scopes:
        _, separator, value = scope.partition(f"onvif://www.onvif.org/{word}/")
        if separator and value:
            yield soap.line(unquote(value))


def _send(selector: selectors.BaseSelector) -> None:
    for key in selector.get_map().values():
        with suppress(OSError):  # this network is down
            key.fileobj.sendto(key.data, _GROUP)  # type: ignore[union-attr] # a socket


def _probe_message() -> bytes:
    return soap.request(
        f'<d:Probe xmlns:d="{_DISCOVERY}"><d:Types xmlns:dn="{_NETWORK}">dn:NetworkVideoTransmitter</d:Types>'
        "</d:Probe>",
        header=(
            f'<a:MessageID xmlns:a="{_ADDRESSING}">urn:uuid:{uuid.uuid4()}</a:MessageID>'
            f'<a:To xmlns:a="{_ADDRESSING}">urn:schemas-xmlsoap-org:ws:2005:04:discovery</a:To>'
            f'<a:Action xmlns:a="{_ADDRESSING}">{_DISCOVERY}/Probe</a:Action>'
        ),
    )
