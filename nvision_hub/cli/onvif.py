"""ONVIF cameras on the networks of this machine: found by WS-Discovery, and asked for their streams.

Whoever answers is a stranger: no password is sent in the clear, nothing is waited for without bound, and every text is
taken for what it may be.
"""

from __future__ import annotations

import array
import asyncio
import fcntl
import ipaddress
import logging
import re
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

from nvision_hub.cli.terminal import harmless
from nvision_hub.config import CameraAddress
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvision_hub.config import Secret

ASKED_AT_ONCE: Final = 16
ANSWERS_WITHIN_S: Final = 10.0  # one camera, all questions together
STREAMS_MAX: Final = 16  # of one device; recorders have some for each channel
DEVICES_MAX: Final = 500
_TEXT_MAX: Final = 80

# linux/sockios.h and linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFADDR: Final = 0x8915
_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_MULTICAST: Final = 0x1000


@dataclass(frozen=True, kw_only=True, slots=True)
class Stream:
    """One stream of a camera. None where it does not say."""

    url: str
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Found:
    """One camera that answered. `streams` is empty where `error`, a sentence, says why."""

    device: str  # the address of its ONVIF service
    host: str
    name: str
    maker: str = ""
    streams: tuple[Stream, ...] = ()
    error: str | None = None
    locked: bool = False  # whether it wants a user name and password, or others


@dataclass(kw_only=True)
class Search:
    """How to look. `interfaces` are addresses of this machine to ask from."""

    within_s: float
    interfaces: Sequence[str]
    username: str | None = None
    password: Secret | None = None

    def run(self) -> list[Found]:
        """All that answered, by address. Raises `UnavailableError` where the library for it is missing."""
        try:
            import onveef.wsdiscovery  # noqa: PLC0415 - an extra, for this verb alone
        except ImportError as error:
            raise UnavailableError(
                "discover needs the library onveef; `pip install 'nvision-hub[onvif]'` brings it"
            ) from error
        logging.getLogger("onveef").setLevel(logging.CRITICAL)  # what goes wrong is told by us
        return asyncio.run(self._run(onveef.wsdiscovery.discover_async))

    async def _run(self, discover: Any) -> list[Found]:
        devices = await discover(timeout_s=self.within_s, interface_ip=list(self.interfaces))
        services = {service for device in devices if (service := _service(device.xaddrs)) is not None}
        names = {_service(device.xaddrs): _name(device) for device in devices}
        turns = asyncio.Semaphore(ASKED_AT_ONCE)

        async def ask(service: str) -> Found:
            async with turns:
                return await self._ask(service, names[service])

        found = await asyncio.gather(*(ask(service) for service in sorted(services)[:DEVICES_MAX]))
        return sorted(found, key=lambda each: (_sortable(each.host), each.device))

    async def _ask(self, service: str, name: str) -> Found:
        from onveef.aclient import AsyncOnvifClient  # noqa: PLC0415
        from onveef.exceptions import OnvifAuthError, OnvifError  # noqa: PLC0415

        found = Found(device=service, host=urlsplit(service).hostname or "", name=name)
        try:
            async with (
                asyncio.timeout(ANSWERS_WITHIN_S),
                AsyncOnvifClient(
                    service,
                    username=self.username or "",
                    password=self.password.reveal() if self.password else "",
                    timeout_s=ANSWERS_WITHIN_S / 2,
                    http_auth="digest",  # never Basic: it would tell the password to whoever answered
                    retries=0,
                ) as camera,
            ):
                facts = await camera.get_device_information()
                found = replace(found, maker=_text(f"{facts.get('Manufacturer', '')} {facts.get('Model', '')}"))
                profiles = (await camera.get_profiles())[:STREAMS_MAX]
                streams = [await _stream(camera, profile) for profile in profiles]
        except OnvifAuthError:
            which = "a user name and password" if self.username is None else "another user name or password"
            return replace(found, locked=True, error=f"wants {which}; give them with --user, and --password-env")
        except (OnvifError, TimeoutError, OSError, ValueError) as error:
            late = "does not answer" if isinstance(error, TimeoutError) else "answers what cannot be understood"
            return replace(found, error=f"{late}; look up its RTSP address in its manual, and try `nvision-hub probe`")
        usable = tuple(dict.fromkeys(stream for stream in streams if stream is not None))
        return replace(found, streams=usable, error=None if usable else "names no stream that the hub can use")


def interfaces() -> list[str]:
    """The IPv4 addresses of this machine's networks that carry multicast; loopback only where there is no other."""
    found: dict[bool, list[str]] = {True: [], False: []}
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = array.array("B", struct.pack("256s", name.encode()[:15]))
            try:
                fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request)
                (flags,) = struct.unpack_from("H", request, 16)
                fcntl.ioctl(any_socket, _SIOCGIFADDR, request)
            except OSError:  # it has no IPv4 address, or has just gone
                continue
            loopback = bool(flags & _LOOPBACK)
            if flags & _UP and (flags & _MULTICAST or loopback):
                found[loopback].append(socket.inet_ntoa(request[20:24].tobytes()))
    return found[False] or found[True]


def identifier(name: str, taken: Iterable[str]) -> str:
    """An id for cameras.yaml, made of a name, that is not taken."""
    base = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "camera"
    others = set(taken)
    return next(each for number in range(1, len(others) + 2) if (each := _numbered(base, number)) not in others)


def _numbered(base: str, number: int) -> str:
    return base if number == 1 else f"{base}-{number}"


def _service(addresses: Sequence[str]) -> str | None:
    """Where to ask it: an IPv4 address of its own rather than any other."""
    usable = [address for address in addresses if urlsplit(address).scheme in {"http", "https"}]
    return next((each for each in usable if _is_ipv4(urlsplit(each).hostname or "")), next(iter(usable), None))


def _is_ipv4(host: str) -> bool:
    try:
        ipaddress.IPv4Address(host)
    except ValueError:
        return False
    return True


def _sortable(host: str) -> tuple[int, str]:
    return (int(ipaddress.IPv4Address(host)), "") if _is_ipv4(host) else (2**32, host)


def _name(device: Any) -> str:
    """What it calls itself in its scopes (ONVIF Core, 7.3.2.2), which are addresses with %-escapes."""
    return _text(unquote(device.name) or unquote(device.hardware))


def _text(words: object) -> str:
    return harmless(" ".join(str(words).split()))[:_TEXT_MAX]


async def _stream(camera: Any, profile: dict[str, Any]) -> Stream | None:
    """A profile's stream; None where it has none that the hub can use."""
    from onveef.exceptions import OnvifAuthError, OnvifError  # noqa: PLC0415

    try:
        address = CameraAddress.parse(await camera.get_stream_uri(profile_token=profile["token"]))
    except OnvifAuthError:
        raise
    except (OnvifError, ValueError):
        return None
    if address.url is None:
        return None
    video = profile.get("video_encoder", {})
    bare = replace(address, url=address.url._replace(username=None, password=None))
    return Stream(
        url=bare.dial(),
        codec=_text(video["encoding"]) if video.get("encoding") else None,
        width=_number(video.get("width")),
        height=_number(video.get("height")),
        fps=_number(video.get("fps_limit")),
    )


def _number(value: object) -> int | None:
    try:
        return int(str(value))
    except ValueError:
        return None
