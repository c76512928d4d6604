"""Rules for cameras that operators add at run time: what they inherit from cameras.yaml, and what they may set.

A user of the API may not see the passwords in cameras.yaml, but chooses the address of an added camera. The camera
therefore inherits passwords only if cameras.yaml lists its host in `gateway.camera_hosts`. The streaming key is safe to
inherit, because an added camera cannot choose the service. Privacy masks always apply. So does `auth: digest`, if the
camera inherits the password.

This module performs no I/O and resolves no host name.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Final

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.value_types import ConfigString
from nvision_hub.config.yaml_nodes import YamlNode
from nvision_hub.errors import Diagnostic, InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

MAX_ADDED_CAMERAS: Final = 256
CREDENTIALS: Final = frozenset({"username", "password"})  # keys of `defaults` for a camera that requests a login

_NAME: Final = re.compile(r"(?=.{1,254}$)[A-Za-z0-9_]([A-Za-z0-9_-]|\.(?!\.))*")
_MAPPED_BITS: Final = 96  # length of the prefix ::ffff:0:0/96 of IPv4 addresses that are written as IPv6 addresses

_Network = ipaddress.IPv4Network | ipaddress.IPv6Network


@dataclass(frozen=True, slots=True, repr=False)
class CameraHost(ConfigString):
    """A host name, an IP address, or a network such as 10.0.0.0/24."""

    name: str = ""  # in lower case, without a trailing dot; empty for an address or a network
    network: _Network | None = None

    example: ClassVar = "10.0.0.0/24"

    @property
    def shown(self) -> str:
        if self.network is None:
            return self.name
        is_single = self.network.prefixlen == self.network.max_prefixlen
        return str(self.network.network_address if is_single else self.network)

    def matches(self, host: str) -> bool:
        """Return whether this entry lists `host`, the host of a parsed address, without brackets."""
        if self.network is None:
            return _normalized(host) == self.name
        try:
            address = ipaddress.ip_address(host)
        except ValueError:
            return False
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address) in self.network

    @classmethod
    def parse(cls, text: str) -> CameraHost:
        """Parse a host name, an address or a network. Raises `InvalidValueError`."""
        text = text.strip()
        name = _normalized(text)
        # Without a letter after the last dot, the text is an IP address, or an incomplete or mistyped one.
        if _NAME.fullmatch(text) and re.search("[a-z]", name.rpartition(".")[2]):
            return cls(name=name)
        network = _network(text)
        if network is None:
            raise InvalidValueError(
                "must be a host name, an IP address, or a network such as 10.0.0.0/24",
                "write it without a scheme, port, brackets, user name, interface or wildcard",
            )
        if network.network_address != ipaddress.ip_address(text.partition("/")[0]):
            raise InvalidValueError(
                "is an address inside a network", "write the first address of the network, such as 10.0.0.0/24"
            )
        return cls(network=_unmapped(network))


def with_inherited(camera: YamlNode, base: YamlNode, hosts: Collection[CameraHost]) -> YamlNode:
    """Return an added camera with missing keys added from `base`, which contains `defaults` and `nvision`.

    The camera inherits credentials only if an entry of `hosts` lists the camera's host. A camera that inherits the
    password also inherits `auth: digest`, even if it sets `any`. The privacy masks of `base` apply in addition to the
    camera's own masks.
    """
    address = _address_of(camera)
    if address.host and any(entry.matches(address.host) for entry in hosts):
        if _inherits_password(camera, address) and _is_text(base, "auth", "digest") and _is_text(camera, "auth", "any"):
            others = {key: node for key, node in camera.entries.items() if key != "auth"}
            camera = YamlNode(others, camera.line, camera.column)
    else:
        base = YamlNode({key: node for key, node in base.entries.items() if key not in CREDENTIALS})
    merged = camera.merged_over(base)
    own, inherited = camera.child("masks"), base.child("masks")
    if own is None or inherited is None or not (own.value is None or isinstance(own.value, list)):
        return merged  # the models report a camera's `masks` that are not a list
    # The camera's own masks come first, so that errors name their positions in the camera's entry.
    masks = YamlNode([*own.items, *inherited.items], own.line, own.column)
    return YamlNode({**merged.entries, "masks": masks}, merged.line, merged.column)


def camera_hosts(tree: YamlNode) -> list[CameraHost]:
    """Return the valid entries of `gateway.camera_hosts` in the tree of a file. The models report the invalid ones."""
    node = tree.at(("gateway", "camera_hosts"))
    return [] if node is None else list(_valid_hosts(node))


def added_camera_problem(entry: Mapping[str, Any]) -> Diagnostic | None:
    """Return the problem of an entry that is valid in cameras.yaml but not allowed at run time; None otherwise.

    The path is relative to the entry.
    """
    nvision = entry.get("nvision")
    if isinstance(nvision, dict) and "url" in nvision:
        return Diagnostic(
            code="service_not_allowed",
            message="only cameras.yaml can set the service that receives the frames and the streaming key",
            fix="remove it; the camera uses the service in cameras.yaml",
            path=("nvision", "url"),
        )
    if _address(str(entry.get("url", ""))).kind == "file":
        message = "a camera with a file: URL can be added only in cameras.yaml"
        return Diagnostic(code="file_not_allowed", message=message, path=("url",))
    return None


def _address_of(camera: YamlNode) -> CameraAddress:
    url = camera.child("url")
    return _address("" if url is None else url.text or "")


def _inherits_password(camera: YamlNode, address: CameraAddress) -> bool:
    return camera.child("password") is None and address.password is None


def _is_text(section: YamlNode, key: str, text: str) -> bool:
    node = section.child(key)
    return node is not None and node.text == text


def _address(text: str) -> CameraAddress:
    """Return the parsed address; an address without a host if the text is invalid. The models report invalid text."""
    try:
        return CameraAddress.parse(text)
    except ValueError:
        return CameraAddress("")


def _valid_hosts(node: YamlNode) -> Iterator[CameraHost]:
    for item in node.items:
        try:
            yield CameraHost.parse(item.text or "")
        except ValueError:
            continue


def _normalized(name: str) -> str:
    return name.lower().removesuffix(".")


def _network(text: str) -> _Network | None:
    """Return the network of an IP address with or without a prefix length; None for any other text.

    Also returns None for an address with an interface (`fe80::1%eth0`), because `ipaddress` ignores the interface in
    comparisons.
    """
    try:
        return None if "%" in text else ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _unmapped(network: _Network) -> _Network:
    """Return the IPv4 network for a network of IPv4 addresses that are written as IPv6 addresses."""
    if isinstance(network, ipaddress.IPv4Network) or network.prefixlen < _MAPPED_BITS:
        return network
    mapped = network.network_address.ipv4_mapped
    return network if mapped is None else ipaddress.IPv4Network((mapped, network.prefixlen - _MAPPED_BITS))
