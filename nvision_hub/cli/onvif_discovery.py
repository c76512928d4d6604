"""Search for ONVIF cameras on this machine's networks: WS-Discovery finds them, and each camera lists its streams.

Any device on the network can respond, so responses are untrusted. The search sends passwords only as digests, limits
every wait and every list, and replaces control characters in strings.
"""

from __future__ import annotations

import contextlib
import fcntl
import ipaddress
import re
import socket
import struct
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nvision_hub.cli.onvif_streams import OnvifStream, list_streams
from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.models import Camera
from nvision_hub.config.url import Address
from nvision_hub.errors import UnavailableError
from nvision_hub.export.variable_refs import first_free
from nvision_hub.media.sources import CameraTrust, SourceError
from nvision_hub.media.sources.onvif.client import DEVICE_PATH, OnvifClient
from nvision_hub.media.sources.onvif.ws_discovery import find_devices
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvision_hub.config.value_types import Secret
    from nvision_hub.media.sources.onvif.ws_discovery import ProbeMatch

MAX_PARALLEL_QUERIES: Final = 16
REQUEST_TIMEOUT_S: Final = 5.0  # all requests to one device together may last twice as long
MAX_DEVICES: Final = 500
SENT_FPS: Final = 1.0  # frames per second in the printed entries
_NOT_IPV4: Final = 2**32  # sorts all other hosts after the IPv4 addresses

# linux/sockios.h and linux/if.h
_SIOCGIFFLAGS: Final = 0x8913
_SIOCGIFADDR: Final = 0x8915
_UP: Final = 0x1
_LOOPBACK: Final = 0x8
_MULTICAST: Final = 0x1000


@dataclass(frozen=True, kw_only=True, slots=True)
class OnvifDevice:
    """One camera that responded. If `streams` is empty, the sentence in `error` gives the reason."""

    device: str  # URL of the camera's ONVIF service
    host: str
    name: str
    maker: str = ""
    streams: tuple[OnvifStream, ...] = ()
    error: str | None = None
    locked: bool = False  # whether the camera requires a user name and password, or rejected the given ones

    @property
    def onvif_url(self) -> str:
        """The `url` to write in cameras.yaml."""
        address = self.address
        path = "" if address.path in {"/", DEVICE_PATH} else address.path
        port = None if address.port == address.schemes[address.scheme] else address.port
        return replace(address, path=path, port=port).shown

    @property
    def address(self) -> CameraAddress:
        """`device` as the address of a camera."""
        return CameraAddress.parse(self.device.replace("http", "onvif", 1))


def search(
    addresses: Sequence[str], *, timeout_s: float, username: str | None, password: Secret | None
) -> list[OnvifDevice]:
    """Search from these local addresses, and return the devices that responded, sorted by address.

    Raises `UnavailableError` if this machine has none of the addresses.
    """
    try:
        matches = find_devices(addresses, timeout_s=timeout_s)
    except OSError as error:
        raise UnavailableError(
            f"cannot search from {', '.join(addresses)} ({error.strerror or error}); use IPv4 addresses of this machine"
        ) from error
    with ThreadPoolExecutor(MAX_PARALLEL_QUERIES, "query") as pool:
        return list(pool.map(lambda device: query(device, username, password), announced(matches)))


def announced(answers: Iterable[ProbeMatch]) -> list[OnvifDevice]:
    """Return the devices that can be queried, sorted by address, still without streams."""
    found = {}
    for answer in answers:
        if (service := _service(answer.addresses)) is not None:
            found[service.dial()] = OnvifDevice(device=service.dial(), host=service.host, name=answer.name)
    return sorted(found.values(), key=lambda each: (_ipv4_number(each.host), each.host, each.device))[:MAX_DEVICES]


def query(device: OnvifDevice, username: str | None, password: Secret | None) -> OnvifDevice:
    """Return the device with its manufacturer and its streams, or with an error."""
    found = device
    try:
        # Basic authentication would reveal the password to any device that responds.
        camera = Camera(id="device", url=device.address, username=username, password=password, auth="digest")
        with OnvifClient(camera, CameraTrust(), timeout_s=REQUEST_TIMEOUT_S) as client:
            found = replace(found, maker=client.device_information())
            streams = tuple(list_streams(client, sent_fps=SENT_FPS))
    except SourceError as error:
        if error.state is CameraState.AUTH_FAILED:
            which = "a user name and password" if username is None else "a different user name or password"
            return replace(found, locked=True, error=f"requires {which}; use --user and --password-env")
        is_silent = error.state in {CameraState.STALLED, CameraState.UNREACHABLE}
        cause = "does not respond" if is_silent else "sent an invalid response"
    except Exception:  # noqa: BLE001 - a device's response must not end the search
        cause = "sent an invalid response"
    else:
        return replace(found, streams=streams, error=None if streams else "offers no stream that the hub supports")
    return replace(found, error=f"{cause}; run `nvision-hub probe` with the RTSP address from the camera's manual")


def interfaces() -> list[str]:
    """Return this machine's IPv4 addresses on networks with multicast, or the loopback address if there are none."""
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
    """Derive an id for cameras.yaml from a name. If `used` already contains the id, add a number at the end."""
    base = re.sub("[^a-z0-9]+", "-", name.lower()).strip("-")[:50].strip("-") or "camera"
    return first_free(base, used, separator="-")


def _service(addresses: Sequence[str]) -> Address | None:
    """Return the device's HTTP address to query, preferably IPv4; None if there is no valid HTTP address."""
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
