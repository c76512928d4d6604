"""Egress rules of a hub, derived from the addresses in cameras.yaml."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.redis_address import RedisAddress
from nvision_hub.config.server_addresses import MqttAddress, ServiceAddress
from nvision_hub.config.url import Address
from nvision_hub.config.variables import REFERENCE
from nvision_hub.errors import format_key_path

if TYPE_CHECKING:
    from nvision_hub.export.source_config import SourceConfig

_PORTS: Final[dict[str, int]] = {  # by scheme; 0 for schemes that need no network
    **CameraAddress.schemes,
    **ServiceAddress.schemes,
    **RedisAddress.schemes,
    **MqttAddress.schemes,
}
_MAX_KEYS_SHOWN: Final = 3


def egress(source: SourceConfig) -> tuple[list[dict[str, Any]], list[str]]:
    """Return the egress rules of a NetworkPolicy, and notes for the user.

    The function reads the addresses as written and looks up no variables. If a port is unknown, one rule allows all
    egress.
    """
    tcp, unknown = set(), []
    for loc, scalar in source.tree.scalars():
        if loc[-1] != "url" or "labels" in loc or "placement" in loc or not scalar.text:
            continue
        if scalar.text in {"local", "embedded"} or scalar.text.startswith("demo:"):
            continue
        if (port := _port(scalar.text)) is None:
            unknown.append(format_key_path(loc))
        else:
            tcp.add(port)
    if unknown:
        others = " and others" if len(unknown) > _MAX_KEYS_SHOWN else ""
        keys = f"{', '.join(unknown[:_MAX_KEYS_SHOWN])}{others}"
        return [{}], [f"the network policy allows all egress, because the file does not contain the port of {keys}"]
    ports: list[dict[str, Any]] = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]  # DNS
    ports += [{"protocol": "TCP", "port": port} for port in sorted(tcp)]
    if any(camera.transport == "udp" for camera in source.config.cameras):
        ports.append({"protocol": "UDP", "port": 1024, "endPort": 65535})  # RTP and RTCP, on any port of the camera
    return [{"ports": ports}], []


def _port(text: str) -> int | None:
    """Return the port of an address as written; None if a variable determines it, or if other ports are possible."""
    scheme = text.partition("://")[0].lower()
    # Sentinels and Cluster nodes refer to other servers on arbitrary ports. ONVIF cameras refer to their streams.
    if not _PORTS.get(scheme) or scheme.endswith(("+sentinel", "+cluster", "onvif", "onvifs")):
        return None
    try:
        # User names and passwords may be variables. If the port is a variable, this expression raises ValueError.
        return Address.parse(REFERENCE.sub("x", text)).port or _PORTS[scheme]
    except ValueError:
        return None
