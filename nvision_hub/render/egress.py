"""Which ports a hub has to reach: as far as cameras.yaml says it itself, and anywhere where it does not."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.problem import loc_shown
from nvision_hub.config.url import parse
from nvision_hub.config.variables import REFERENCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.render.manuscript import Manuscript

_DNS: Final = 53
_MEDIA_PORTS: Final = (1024, 65535)  # of cameras that send RTP over UDP
_PORTS: Final = {
    "rtsp": 554,
    "rtsps": 322,
    "http": 80,
    "https": 443,
    "snapshot+http": 80,
    "snapshot+https": 443,
    "ws": 80,
    "wss": 443,
    "redis": 6379,
    "rediss": 6379,
    "mqtt": 1883,
    "mqtts": 8883,
}
_NAMED: Final = 3  # as many as a sentence has room for


@dataclass(frozen=True, kw_only=True)
class Egress:
    """TCP ports, whether RTP comes over UDP, and the keys of cameras.yaml whose port is not known here."""

    tcp: frozenset[int]
    media: bool
    unknown: tuple[str, ...]

    @classmethod
    def of(cls, manuscript: Manuscript) -> Egress:
        """As the file is written: what its variables hold is not looked at."""
        tcp, unknown = set(), []
        for loc, scalar in manuscript.tree.scalars():
            if loc[-1] != "url" or "labels" in loc or "placement" in loc or not scalar.text:
                continue
            if scalar.text in {"local", "embedded"} or scalar.text.startswith("demo:"):
                continue
            port = _port(scalar.text)
            if port is None:
                unknown.append(loc_shown(loc))
            else:
                tcp.add(port)
        media = any(camera.transport == "udp" for camera in manuscript.config.cameras)
        return cls(tcp=frozenset(tcp), media=media, unknown=tuple(unknown))

    def rules(self) -> list[dict[str, Any]]:
        """The egress rules of a NetworkPolicy; one that lets everything pass where a port is not known here."""
        if self.unknown:
            return [{}]
        ports: list[dict[str, Any]] = [{"protocol": protocol, "port": _DNS} for protocol in ("UDP", "TCP")]
        ports += [{"protocol": "TCP", "port": port} for port in sorted(self.tcp)]
        if self.media:
            first, last = _MEDIA_PORTS
            ports.append({"protocol": "UDP", "port": first, "endPort": last})
        return [{"ports": ports}]

    def notes(self) -> Iterator[str]:
        """What whoever renders should know of it."""
        if self.unknown:
            others = " and others" if len(self.unknown) > _NAMED else ""
            yield (
                "the network policy lets the hub reach any address, since the file does not say at which port "
                f"{', '.join(self.unknown[:_NAMED])}{others} can be reached"
            )


def _port(text: str) -> int | None:
    """The port of an address as it is written; None where a variable decides it."""
    scheme = text.partition("://")[0].lower()
    if scheme not in _PORTS:
        return None
    try:
        # Names and passwords may well be variables. One in the port's place leaves something that is no number.
        return parse(REFERENCE.sub("x", text.partition("+")[2] if "+" in scheme else text)).port or _PORTS[scheme]
    except ValueError:
        return None
