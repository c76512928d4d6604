"""Settings of the ledger, and settings that camera workers and the gateway need to use the ledger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.budget.ledger_protocol import WantImages
from nvision_hub.errors import ConfigError, Diagnostic
from nvision_hub.hub.state_dir import LEDGER
from workers.camera.image_permits import LedgerAccess
from workers.gateway.settings import UsageSettings
from workers.ledger.worker import FILE_NAME, LedgerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.cluster.identity import HubIdentity
    from nvision_hub.config.models import Camera, Config


def has_limits(config: Config, cameras: Sequence[Camera]) -> bool:
    """Return whether cameras.yaml limits the images of the site or of any camera."""
    site = config.budget.site
    return bool(site.per_second or site.per_period or any(camera.budget.per_period for camera in cameras))


def ledger_settings(config: Config, cameras: Sequence[Camera], identity: HubIdentity | None) -> LedgerSettings | None:
    """Return the ledger's settings; None without limits. Raises `ConfigError` if a hub of a fleet has a limit."""
    if not has_limits(config, cameras):
        return None
    if identity is not None:
        message, fix = "limits are not supported with several hubs yet", "remove the limits"
        raise ConfigError(
            [Diagnostic(code="not_supported", message=message, fix=fix, path=("budget",), file=config.path.name)]
        )
    return LedgerSettings(site=config.budget.site, directory=config.state_dir / LEDGER)


def ledger_access(settings: LedgerSettings, camera: Camera) -> LedgerAccess:
    wanted = WantImages(
        camera=camera.id,
        service=camera.nvision.service,
        fps=0.0,  # the worker reports its rate
        priority=camera.priority,
        per_period=camera.budget.per_period,
    )
    return LedgerAccess(directory=settings.directory, wanted=wanted)


def usage_settings(settings: LedgerSettings, config: Config) -> UsageSettings:
    budget = config.budget
    return UsageSettings(
        file=settings.directory / FILE_NAME, price_per_image=budget.price_per_image, currency=budget.currency
    )
