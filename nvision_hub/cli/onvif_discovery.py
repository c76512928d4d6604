"""Search for ONVIF cameras on this machine's networks: WS-Discovery finds the cameras, and each one lists its streams.

Any device on the network can respond, so responses are untrusted. The search sends passwords only as digests, limits
every wait and every list, and replaces control characters in strings.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import re
import socket
import struct
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.url import Address
from nvision_hub.control_characters import printable
from nvision_hub.errors import UnavailableError
from nvision_hub.export.variable_refs import first_free

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from onveef.wsdiscovery import DiscoveredDevice

    from nvision_hub.config.value_types import Secret

MAX_PARALLEL_QUERIES: Final = 16
DEVICE_TIMEOUT_S: Final = 10.0  # for all queries to one device
MAX_STREAMS: Final = 16  # per device; recorders have several streams per channel
MAX_DEVICES: Final = 500
_MAX_TEXT_LENGTH: Final = 80
_NOT_IPV4: Final = 2**32  # sorts all other hosts after the IPv4 addresses

# linux/sockios.h and linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFADDR: Final = 0x8915
_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_MULTICAST: Final = 0x1000


@dataclass(frozen=True, kw_only=True, slots=True)
class OnvifStream:
    """One stream of a camera. A property is None if the camera does not report it."""

    url: str
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class OnvifDevice:
    """One camera that responded. If `streams` is empty, the sentence in `error` gives the reason."""

    device: str  # address of the camera's ONVIF service
    host: str
    name: str
    maker: str = ""
    streams: tuple[OnvifStream, ...] = ()
    error: str | None = None
    locked: bool = False  # the camera requires a user name and password, or refused the given ones


async def search(
    addresses: Sequence[str], *, timeout_s: float, username: str | None, password: Secret | None
) -> list[OnvifDevice]:
    """Search from these addresses of this machine, and return the devices that responded, sorted by address.

    Raises `UnavailableError` if onveef is not installed.
    """
    try:
        from onveef.wsdiscovery import discover_async  # noqa: PLC0415 - an optional dependency of this command
    except ImportError as error:
        raise UnavailableError(
            "discover needs the package onveef; install it: pip install 'nvision-hub[onvif]'"
        ) from error
    logging.getLogger("onveef").setLevel(logging.CRITICAL)  # `_query` reports onveef's errors
    devices = announced(await discover_async(timeout_s=timeout_s, interface_ip=list(addresses)))
    semaphore = asyncio.Semaphore(MAX_PARALLEL_QUERIES)

    async def query(device: OnvifDevice) -> OnvifDevice:
        async with semaphore:
            return await _query(device, username, password)

    return list(await asyncio.gather(*map(query, devices)))


def announced(answers: Iterable[DiscoveredDevice]) -> list[OnvifDevice]:
    """Return the devices that can be queried, sorted by address, without their streams."""
    found = {}
    for answer in answers:
        if (service := _service(answer.xaddrs)) is not None:
            # ONVIF Core, 7.3.2.2: the scopes of a device, such as its name, are percent-encoded URIs.
            name = _text(unquote(answer.name) or unquote(answer.hardware))
            found[service.dial()] = OnvifDevice(device=service.dial(), host=service.host, name=name)
    return sorted(found.values(), key=lambda each: (_ipv4_number(each.host), each.host, each.device))[:MAX_DEVICES]


async def _query(device: OnvifDevice, username: str | None, password: Secret | None) -> OnvifDevice:
    from onveef.aclient import AsyncOnvifClient  # noqa: PLC0415
    from onveef.exceptions import OnvifAuthError  # noqa: PLC0415

    found = device
    try:
        async with (
            asyncio.timeout(DEVICE_TIMEOUT_S),
            AsyncOnvifClient(
                device.device,
                username=username or "",
                password=password.reveal() if password else "",
                timeout_s=DEVICE_TIMEOUT_S / 2,
                http_auth="digest",  # Basic would reveal the password to any device that responds
                retries=0,
            ) as camera,
        ):
            facts = await camera.get_device_information()
            found = replace(found, maker=_text(f"{facts.get('Manufacturer', '')} {facts.get('Model', '')}"))
            profiles = (await camera.get_profiles())[:MAX_STREAMS]
            streams = [await _stream(camera, profile) for profile in profiles]
    except OnvifAuthError:
        which = "a user name and password" if username is None else "a different user name or password"
        return replace(found, locked=True, error=f"requires {which}; use --user and --password-env")
    except Exception as error:  # noqa: BLE001 - a device's response must not end the search
        cause = "does not respond" if isinstance(error, TimeoutError) else "sent an invalid response"
        return replace(found, error=f"{cause}; run `nvision-hub probe` with the RTSP address from the camera's manual")
    usable = tuple(dict.fromkeys(stream for stream in streams if stream is not None))
    return replace(found, streams=usable, error=None if usable else "offers no stream that the hub supports")


def interfaces() -> list[str]:
    """Return this machine's IPv4 addresses on multicast networks; the loopback address if there is no other."""
    found: list[str] = []
    loopback: list[str] = []
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        for _, name in socket.if_nameindex():
            request = struct.pack("256s", name.encode()[:15])
            try:
                (flags,) = struct.unpack_from("H", fcntl.ioctl(any_socket, _SIOCGIFFLAGS, request), 16)
                address = fcntl.ioctl(any_socket, _SIOCGIFADDR, request)[20:24]
            except OSError:  # the interface has no IPv4 address, or was just removed
                continue
            if flags & _UP and flags & (_MULTICAST | _LOOPBACK):
                (loopback if flags & _LOOPBACK else found).append(socket.inet_ntoa(address))
    return found or loopback


def camera_id(name: str, used: Iterable[str]) -> str:
    """Derive an id for cameras.yaml from a name, with a number at the end if `used` contains the id."""
    base = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "camera"
    return first_free(base, used, separator="-")


def _service(addresses: Sequence[str]) -> Address | None:
    """Return the HTTP address to query, preferably an IPv4 address; None if there is no valid HTTP address."""
    usable = []
    for text in addresses:
        with contextlib.suppress(ValueError):
            address = Address.parse(text)
            if address.scheme in {"http", "https"} and address.username is None:
                usable.append(address)
    return min(usable, key=lambda address: _ipv4_number(address.host) == _NOT_IPV4, default=None)


def _ipv4_number(host: str) -> int:
    try:
        return int(ipaddress.IPv4Address(host))
    except ValueError:
        return _NOT_IPV4


def _text(words: str) -> str:
    return printable(" ".join(words.split()))[:_MAX_TEXT_LENGTH]


async def _stream(camera: Any, profile: dict[str, Any]) -> OnvifStream | None:
    """Return the stream of a profile; None if it is not available or not supported. Raises `OnvifAuthError`."""
    from onveef.exceptions import OnvifAuthError, OnvifError  # noqa: PLC0415

    try:
        address = CameraAddress.parse(await camera.get_stream_uri(profile_token=profile["token"]))
    except OnvifAuthError:
        raise
    except (OnvifError, ValueError):
        return None
    if not address.host:
        return None
    video = profile.get("video_encoder", {})
    return OnvifStream(
        url=replace(address, username=None, password=None).dial(),
        codec=_text(video.get("encoding", "")) or None,
        width=video.get("width"),
        height=video.get("height"),
        fps=video.get("fps_limit"),
    )
