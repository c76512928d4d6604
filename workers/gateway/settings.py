"""Settings of the gateway."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.access.tokens import AccessToken
    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.broker.spool import SpoolSettings
    from nvision_hub.cluster.sealed_messages import FleetSeal
    from nvision_hub.config.gateway_section import GatewayProxy, GatewayTls
    from nvision_hub.config.value_types import Secret


@dataclass(frozen=True, kw_only=True)
class FleetSettings:
    """Settings of a gateway that shows and controls the cameras of other hubs through Redis."""

    cameras: tuple[str, ...]  # in the order of cameras.yaml
    seal: FleetSeal


@dataclass(frozen=True, kw_only=True)
class UsageSettings:
    """The ledger's database, and the price of an image for reports."""

    file: Path
    price_per_image: float | None = None
    currency: str | None = None


@dataclass(frozen=True, kw_only=True)
class GatewaySettings:
    """Settings of the gateway."""

    host: str  # if empty, the gateway serves only the control socket
    port: int  # if 0, the system chooses the port; status reports contain the chosen port
    loopback: bool
    health_host: str = ""  # address of a separate listener for health checks; empty for none
    health_port: int = 0
    control: Path | None = None  # control socket for root and the hub's own user; None for no control socket
    site: str
    stream: RedisSettings
    tokens: tuple[AccessToken, ...] = ()  # tokens from cameras.yaml
    # Directory of the tokens from `nvision-hub token` and of the audit log; if None, there are neither.
    state_dir: Path | None = None
    proxy: GatewayProxy | None = None
    tls: GatewayTls | None = None
    callback_token: Secret | None = None  # if None, the callback endpoint is disabled
    callback_max_bytes: int = 8 * 2**20
    hosts: tuple[str, ...] = ()  # host names under which a proxy serves the gateway
    spool: SpoolSettings | None = None  # if None, events that wait for Redis stay in memory
    usage: UsageSettings | None = None  # if None, no ledger counts images
    fleet: FleetSettings | None = None  # None if there are no other hubs
