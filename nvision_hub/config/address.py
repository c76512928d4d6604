"""What cameras.yaml points at besides cameras: the Nvision service, Redis, webhooks, MQTT, the gateway's own listener.

Each kind of address is one frozen value with the schemes it allows, `shown` for people and `dial()` for machines.
They open nothing and look nothing up.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from nvision_hub.config.secret import HIDDEN, Secret
from nvision_hub.config.url import MAX_PORT, Url, known_scheme, parse
from nvision_hub.config.written import Written

if TYPE_CHECKING:
    from nvision_hub.wire import Service


@dataclass(frozen=True, slots=True, repr=False)
class ServiceAddress(Written):
    """Where the Nvision service is: `local`, or the base of its WebSocket addresses."""

    url: Url | None  # None means the local service

    example: ClassVar = "wss://nvision.nipa.cloud/api"
    pattern: ClassVar = "^local$|^wss?://"

    @property
    def local(self) -> bool:
        """Whether the service that the hub starts itself is meant."""
        return self.url is None

    @property
    def shown(self) -> str:
        """For people."""
        return "local" if self.url is None else self.url.shown

    def stream(self, service: Service) -> str:
        """The WebSocket address of one service. Not for the local one, whose port only its starter knows."""
        if self.url is None:
            raise ValueError("the local service's address is not in the configuration")
        return f"{self.url.dial().rstrip('/')}/v1/{service}"

    @classmethod
    def parse(cls, text: str) -> ServiceAddress:
        """From what stands after `nvision: url:`."""
        if text.strip() == "local":
            return cls(None)
        known_scheme(text, ["ws", "wss"], word="local")
        url = parse(text.strip())
        if url.username is not None:
            raise ValueError("must hold no user name or password; the key of the service goes to `streaming_key`")
        if re.search(r"/v1(/|$)|[?#]", url.path):
            raise ValueError(f"must be the base address without /v1 and what follows it, such as {cls.example}")
        return cls(url)


@dataclass(frozen=True, slots=True, repr=False)
class RedisAddress(Written):
    """Where results are published: `embedded` (the hub starts its own broker), a server, or a unix socket."""

    kind: Literal["embedded", "redis", "rediss", "unix"]
    _dial: Secret

    example: ClassVar = "redis://10.0.0.2:6379/0"
    pattern: ClassVar = "^embedded$|^rediss?://|^unix://"

    @property
    def embedded(self) -> bool:
        """Whether the broker that the hub starts itself is meant."""
        return self.kind == "embedded"

    @property
    def shown(self) -> str:
        """For people."""
        if self.kind == "embedded":
            return "embedded"
        if self.kind == "unix":
            path = self._dial.reveal().removeprefix("unix://")
            return f"unix://{f'{HIDDEN}@' if '@' in path else ''}{path.rpartition('@')[2].partition('?')[0]}"
        return parse(self._dial.reveal()).shown

    def dial(self) -> str:
        """As redis-py's `from_url` takes it. Not for the embedded broker, whose port only its starter knows."""
        if self.embedded:
            raise ValueError("the embedded broker's address is not in the configuration")
        return self._dial.reveal()

    @classmethod
    def parse(cls, text: str) -> RedisAddress:
        """From what stands after `redis: url:`."""
        text = text.strip()
        if text == "embedded":
            return cls("embedded", Secret(""))
        match known_scheme(text, ["redis", "rediss", "unix"], word="embedded"):
            case "unix":
                if not re.fullmatch(r"unix://([^/]*@)?/.+", text):
                    raise ValueError("must be an absolute path after unix://, such as unix:///run/redis/redis.sock")
                return cls("unix", Secret(text))
            case scheme:
                return cls("redis" if scheme == "redis" else "rediss", Secret(parse(text).dial()))


@dataclass(frozen=True, slots=True, repr=False)
class WebhookAddress(Written):
    """Where a webhook is delivered. Its path often holds a token, so people see scheme and host only."""

    url: Url

    example: ClassVar = "https://example.com/hook"
    pattern: ClassVar = "^https?://"

    @property
    def host(self) -> str:
        """Name or number, without brackets."""
        return self.url.host

    @property
    def shown(self) -> str:
        """For people."""
        return self.url._replace(path=f"/{HIDDEN}" if self.url.path.strip("/") else self.url.path).shown

    def dial(self) -> str:
        """For an HTTP client."""
        return self.url.dial()

    @classmethod
    def parse(cls, text: str) -> WebhookAddress:
        """From what stands after a webhook's `url:`."""
        known_scheme(text, ["http", "https"])
        return cls(parse(text.strip()))


@dataclass(frozen=True, slots=True, repr=False)
class MqttAddress(Written):
    """An MQTT broker, plain or over TLS."""

    url: Url

    example: ClassVar = "mqtt://10.0.0.3:1883"
    pattern: ClassVar = "^mqtts?://"

    @property
    def tls(self) -> bool:
        """Whether the connection is encrypted and the broker's certificate checked."""
        return self.url.scheme == "mqtts"

    @property
    def host(self) -> str:
        """Name or number, without brackets."""
        return self.url.host

    @property
    def port(self) -> int:
        """The one given, or the one that is registered for MQTT."""
        return self.url.port or (8883 if self.tls else 1883)

    @property
    def shown(self) -> str:
        """For people."""
        return self.url.shown

    @classmethod
    def parse(cls, text: str) -> MqttAddress:
        """From what stands after `mqtt: url:`."""
        known_scheme(text, ["mqtt", "mqtts"])
        url = parse(text.strip())
        if url.path.strip("/"):
            raise ValueError(
                f"must end after host and port, such as {cls.example}; what topics begin with goes to `prefix`"
            )
        return cls(url)


@dataclass(frozen=True, slots=True, repr=False)
class Listen(Written):
    """An address of this machine that a server binds, or `none`. Port 0 lets the system choose."""

    host: str  # without brackets; "" for `none`
    port: int

    example: ClassVar = "127.0.0.1:8080"
    pattern: ClassVar = r"^none$|^\S+:[0-9]{1,5}$"

    @property
    def off(self) -> bool:
        """Whether there is to be no such server."""
        return not self.host

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.off or self.host == "localhost"

    @property
    def shown(self) -> str:
        """For people, as it is written."""
        if self.off:
            return "none"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Listen:
        """From `host:port`, `[v6]:port` or `none`."""
        if text.strip() == "none":
            return cls(host="", port=0)
        match = re.fullmatch(
            r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9.-]+)):(?P<port>[0-9]{1,5})", text.strip()
        )
        if match is None or int(match["port"]) > MAX_PORT:
            raise ValueError(
                f"must be host:port with a port up to {MAX_PORT}, such as {cls.example} or [::1]:8080; "
                "0.0.0.0:8080 listens on every network"
            )
        host = match["v6"] or match["host"]
        if match["v6"] or re.fullmatch(r"[0-9.]+", host):
            try:
                ipaddress.ip_address(host)
            except ValueError as error:
                raise ValueError("its host is no IP address that exists") from error
        return cls(host=host, port=int(match["port"]))
