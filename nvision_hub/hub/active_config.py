"""Active configuration of a hub, with all secrets. Only short-lived processes hold it (see `resolver`)."""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nvision_hub.errors import ConfigError, Diagnostic
from nvision_hub.hub import composition
from nvision_hub.hub.override_store import read, save
from nvision_hub.hub.preflight import check_libraries
from nvision_hub.hub.resources import HubResources
from nvision_hub.hub.state_dir import unwritable

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from nvision_hub.cluster.identity import HubIdentity
    from nvision_hub.config.models import Config
    from nvision_hub.hub.composition import HubPlan
    from nvision_hub.hub.runtime_overrides import Overrides
    from nvision_hub.runtime.messages import CameraRequest

log = logging.getLogger("nvision_hub.config")


@dataclass(frozen=True, kw_only=True)
class ActiveConfig:
    """The active configuration, its plan, and the operators' overrides."""

    config: Config
    overrides: Overrides
    only: Collection[str]  # ids of the cameras to run; if empty, all cameras run
    plan: HubPlan

    @classmethod
    def first(
        cls,
        path: Path,
        *,
        only: Collection[str] = (),
        identity: HubIdentity | None = None,
        check: Callable[[Config, Overrides], object] = lambda _config, _overrides: None,
    ) -> ActiveConfig:
        """Return the configuration with which a hub starts. Raises `HubError`, or any error from `check`."""
        config, overrides = read(path)
        check(config, overrides)
        resources = HubResources(identity=identity)
        plan = composition.plan(config, only=only, resources=resources, overrides=overrides)
        return cls(config=config, overrides=overrides, only=only, plan=plan)

    def reloaded(self) -> ActiveConfig:
        """Return the configuration after reading the file again. Raises `HubError`."""
        config = self.overrides.configuration(self.config.path)
        if config.state_dir != self.config.state_dir:
            message, fix = "cannot change while the hub runs", "restart the hub"
            path, file = ("state_dir",), config.path.name
            raise ConfigError([Diagnostic(code="restart_required", message=message, fix=fix, path=path, file=file)])
        return self._planned(config, self.overrides)

    def with_request(self, request: CameraRequest) -> ActiveConfig:
        """Return the configuration after an operator's request, and store the change for later starts of the hub.

        If the request fails, raises `HubError` and stores nothing.
        """
        config, before, after = self.config, self.overrides, self.overrides.apply(request, self.config)
        if (before.added, before.removed) != (after.added, after.removed):
            config = after.configuration(config.path)
        active = self._planned(config, after)
        try:
            save(config.state_dir, after)
        except OSError as error:
            raise unwritable(config.state_dir, error) from error
        return active

    def _planned(self, config: Config, overrides: Overrides) -> ActiveConfig:
        plan = composition.plan(config, only=self.only, resources=self.plan.resources, overrides=overrides)
        check_libraries(plan)
        return replace(self, config=config, overrides=overrides, plan=plan)
