"""What cameras.yaml may point at: cameras, the Nvision service, Redis, webhooks, the gateway's own listener.

Each kind of address is one frozen value with the schemes it allows, `shown` for people and `dial()` for machines.
They open nothing and look nothing up.
"""

from __future__ import annotations

import ipaddress
import os.path
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from nvision_hub.config.secret import HIDDEN, Secret
from nvision_hub.config.suggestion import either, nearest
from nvision_hub.config.url import MAX_PORT, Url, parse, scheme_of
from nvision_hub.config.written import Written

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from nvision_hub.wire import Service

CameraKind = Literal["rtsp", "mjpeg", "snapshot", "usb", "file", "demo"]


@dataclass(frozen=True, slots=True, repr=False)
class CameraAddress(Written):
    """Where one camera's pictures come from.

    `url` is there for the kinds on the network. `place` is a device number or path for `usb`, an absolute path for
    `file` (relative until `beside` was applied), the scene's name for `demo`.
    """

    scheme: str
    url: Url | None = None
    place: str = ""

    example: ClassVar = "rtsp://10.0.0.5/stream1"
    pattern: ClassVar = r"^(rtsps?|(snapshot\+)?https?)://|^(usb|file|demo):"
    schemes: ClassVar[dict[str, CameraKind]] = {
        "rtsp": "rtsp",
        "rtsps": "rtsp",
        "http": "mjpeg",
        "https": "mjpeg",
        "snapshot+http": "snapshot",
        "snapshot+https": "snapshot",
        "usb": "usb",
        "file": "file",
        "demo": "demo",
    }

    @property
    def kind(self) -> CameraKind:
        """How it is read."""
        return self.schemes[self.scheme]

    @property
    def host(self) -> str | None:
        """Name or number, without brackets; None where the camera is not on the network."""
        return None if self.url is None else self.url.host

    @property
    def port(self) -> int | None:
        """None where the address names none."""
        return None if self.url is None else self.url.port

    @property
    def path(self) -> str:
        """Path and query as written; for usb, file and demo the device, the file and the scene."""
        return self.place if self.url is None else self.url.path

    @property
    def username(self) -> str | None:
        """None where none is given."""
        return None if self.url is None else self.url.username

    @property
    def password(self) -> Secret | None:
        """None where none is given."""
        return None if self.url is None else self.url.password

    @property
    def shown(self) -> str:
        """For people: no user name, no password, no query."""
        if self.url is not None:
            return self.url._replace(scheme=self.scheme).shown
        return f"{self.scheme}:{'//' if self.kind == 'demo' else ''}{self.place}"

    def dial(self) -> str:
        """For FFmpeg and HTTP clients: the full URL, credentials escaped; for usb, file and demo the bare `path`."""
        return self.place if self.url is None else self.url.dial()

    def with_credentials(self, username: str | None, password: Secret | None) -> CameraAddress:
        """The same camera with what its URL does not say itself; as it is where the camera is not on the network."""
        if self.url is None:
            return self
        user = username if self.url.username is None else self.url.username
        word = self.url.password or password
        return replace(self, url=self.url._replace(username="" if word and user is None else user, password=word))

    def beside(self, directory: Path) -> CameraAddress:
        """The same camera with a file's path made absolute.

        Raises `ValueError` for one outside of `directory`: whoever may add a camera must not thereby read any file.
        Links are not followed, so who owns the directory may link a file into it.
        """
        if self.kind != "file":
            return self
        place = os.path.normpath(directory / self.place)
        if os.path.commonpath([place, directory]) != str(directory):
            raise ValueError("lies outside the folder of cameras.yaml; move the file there, or link it in")
        return replace(self, place=place)

    @classmethod
    def parse(cls, text: str) -> CameraAddress:
        """From what stands after `url:`."""
        scheme = _known(text, cls.schemes)
        if cls.schemes[scheme] in ("usb", "file", "demo"):
            return cls(scheme=scheme, place=_place(scheme, text[len(scheme) + 1 :]))
        return cls(scheme=scheme, url=parse(text.strip().partition("+")[2] if "+" in scheme else text.strip()))


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
        _known(text, ["ws", "wss"], word="local")
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
        match _known(text, ["redis", "rediss", "unix"], word="embedded"):
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
        _known(text, ["http", "https"])
        return cls(parse(text.strip()))


@dataclass(frozen=True, slots=True, repr=False)
class Listen(Written):
    """An address of this machine that a server binds. Port 0 lets the system choose."""

    host: str  # without brackets
    port: int

    example: ClassVar = "127.0.0.1:8080"
    pattern: ClassVar = r"^\S+:[0-9]{1,5}$"

    @property
    def loopback(self) -> bool:
        """Whether nobody but this machine reaches it."""
        try:
            return ipaddress.ip_address(self.host).is_loopback
        except ValueError:
            return self.host == "localhost"

    @property
    def shown(self) -> str:
        """For people, as it is written."""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> Listen:
        """From `host:port` or `[v6]:port`."""
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


DEMO_SCENE: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


def _place(scheme: str, rest: str) -> str:
    # What follows the colon of usb:, file: and demo:, with or without two slashes.
    place = rest.strip().removeprefix("//")
    if "\0" in place:
        raise ValueError("holds a NUL character; remove it")
    if scheme == "usb" and not re.fullmatch(r"[0-9]{1,3}|/dev/[\w/.:-]+", place):
        raise ValueError("must name a device, such as usb:0 or usb:/dev/video0")
    if scheme == "demo" and not DEMO_SCENE.fullmatch(place):
        raise ValueError("must name a scene, such as demo://street")
    if scheme == "file" and not place:
        raise ValueError("must name a file, such as file:clip.mp4")
    return place


def _known(text: str, schemes: Iterable[str], word: str | None = None) -> str:
    """The scheme of `text`, one of `schemes`; `word` may stand alone in place of an address.

    Raises `ValueError` that names them all and suggests the nearest, and echoes nothing.
    """
    scheme = scheme_of(text.strip())
    written = {name: f"{name}:" if name in ("usb", "file") else f"{name}://" for name in schemes}
    if scheme in written:
        return scheme
    near = written.get({"http": "ws", "https": "wss"}.get(scheme, "")) or nearest(
        scheme or text.strip(), [*written, word or ""]
    )
    hint = f"; did you mean `{written.get(near, near)}`?" if near else ""
    alone = f"be `{word}` or " if word else ""
    raise ValueError(f"must {alone}begin with {either(list(written.values()))}{hint}")
