"""Plan of a hub without secrets: what the supervisor and the live table know about the configuration."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.hub.active_config import ActiveConfig
    from nvision_hub.hub.state_dir import Endpoints
    from nvision_hub.runtime.process import ProcessSpec


@dataclass(frozen=True, kw_only=True)
class PublicPlan:
    """A `HubPlan` whose children have `SealedSettings`."""

    path: Path  # of cameras.yaml
    state_dir: Path
    children: tuple[ProcessSpec, ...]
    endpoints: Endpoints
    has_usb: bool
    warnings: tuple[str, ...]
    rejected_overrides: int  # number of stored run-time changes that are set aside

    @classmethod
    def of(cls, active: ActiveConfig, children: tuple[ProcessSpec, ...]) -> PublicPlan:
        return cls(
            path=active.config.path,
            state_dir=active.config.state_dir,
            children=children,
            endpoints=active.plan.endpoints,
            has_usb=active.plan.has_usb,
            warnings=active.plan.warnings,
            rejected_overrides=active.overrides.rejected,
        )
