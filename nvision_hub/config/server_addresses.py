"""Addresses in cameras.yaml except camera and Redis addresses: Nvision service, webhooks, MQTT and gateway."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import ClassVar

from nvision_hub.config.url import MAX_PORT, Address, is_ip
from nvision_hub.config.value_types import ConfigString, ServiceName
from nvision_hub.errors import InvalidValueError
from nvision_hub.redaction import HIDDEN


class ServiceAddress(Address):
    """Base WebSocket address of the Nvision service, or `local` for the service that the hub starts."""

    __slots__ = ()

    example: ClassVar = "wss://nvision.nipa.cloud/api"
    pattern: ClassVar = "^local$|^wss?://"
    schemes: ClassVar = {"ws": 80, "wss": 443}
    word: ClassVar = "local"

    @property
    def local(self) -> bool:
        return self.scheme == "local"

    def stream(self, service: ServiceName) -> str:
        """Return the WebSocket address of one service. Raises `ValueError` for the local service."""
        return f"{self.dial().rstrip('/')}/v1/{service}"

    @classmethod
    def parse(cls, text: str) -> ServiceAddress:
        address = super().parse(text)
        if address.username is not None:
            raise InvalidValueError(
                "must not contain a user name or password", "set the service's key in `streaming_key`"
            )
        if re.search(r"/v1(/|$)|[?#]", address.path):
            raise InvalidValueError(f"must be the base address, which ends before /v1, such as {cls.example}")
        return address


class WebhookAddress(Address):
    """Address of a webhook. `shown` hides the path, because the path often contains a token."""

    __slots__ = ()

    example: ClassVar = "https://example.com/hook"
    pattern: ClassVar = "^https?://"
    schemes: ClassVar = {"http": 80, "https": 443}

    def _shown_path(self) -> str:
        return f"/{HIDDEN}" if self.path.strip("/") else self.path


class MqttAddress(Address):
    __slots__ = ()

    example: ClassVar = "mqtt://10.0.0.3:1883"
    pattern: ClassVar = "^mqtts?://"
    schemes: ClassVar = {"mqtt": 1883, "mqtts": 8883}

    @property
    def tls(self) -> bool:
        """Whether the client encrypts the connection and verifies the broker's certificate."""
        return self.scheme == "mqtts"

    @classmethod
    def parse(cls, text: str) -> MqttAddress:
        address = super().parse(text)
        if address.path.strip("/"):
            raise InvalidValueError(
                f"must end after the host and the port, as in {cls.example}", "set the topic prefix in `prefix`"
            )
        return address


@dataclass(frozen=True, slots=True, repr=False)
class ListenAddress(ConfigString):
    """Local address that a server binds to, or `none`. For port 0, the system chooses a free port."""

    host: str  # without brackets; "" for `none`
    port: int

    example: ClassVar = "127.0.0.1:8080"
    pattern: ClassVar = r"^none$|^\S+:[0-9]{1,5}$"

    @property
    def off(self) -> bool:
        return not self.host

    @property
    def loopback(self) -> bool:
        """Whether only this machine can reach the address; true for `none`."""
        if is_ip(self.host):
            return ipaddress.ip_address(self.host).is_loopback
        return self.off or self.host == "localhost"

    @property
    def shown(self) -> str:
        if self.off:
            return "none"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> ListenAddress:
        """Parse `host:port`, `[v6]:port` or `none`. Raises `InvalidValueError`."""
        if text.strip() == "none":
            return cls(host="", port=0)
        match = re.fullmatch(
            r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})", text.strip()
        )
        if match is None or int(match["port"]) > MAX_PORT:
            raise InvalidValueError(
                f"must be host:port with a port up to {MAX_PORT}, such as {cls.example} or [::1]:8080",
                "use 0.0.0.0:8080 to listen on every network",
            )
        host = match["v6"] or match["host"]
        if (match["v6"] or re.fullmatch(r"[0-9.]+", host)) and not is_ip(host):
            raise InvalidValueError("the host is not a valid IP address")
        return cls(host=host, port=int(match["port"]))


@dataclass(frozen=True, slots=True, repr=False)
class NetworkAddress(ConfigString):
    """An IP address, or a network such as 10.0.0.0/24."""

    network: ipaddress.IPv4Network | ipaddress.IPv6Network

    example: ClassVar = "10.0.0.0/24"

    @property
    def shown(self) -> str:
        is_single = self.network.prefixlen == self.network.max_prefixlen
        return str(self.network.network_address if is_single else self.network)

    def __contains__(self, address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
        """Return whether the network contains an address, which may be an IPv4 address in IPv6 form."""
        mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
        return (mapped or address) in self.network

    @classmethod
    def parse(cls, text: str) -> NetworkAddress:
        """Parse an address or a network. Raises `InvalidValueError`."""
        try:
            return cls(network=ipaddress.ip_network(text.strip()))
        except ValueError as error:
            raise InvalidValueError("must be an IP address, or a network such as 10.0.0.0/24") from error
