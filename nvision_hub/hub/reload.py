"""Reload of cameras.yaml while the hub runs: a changed file is validated completely, then applied or rejected.

The supervisor's loop calls the reloader, so the reloader must not block.

The reloader polls the file, because Kubernetes updates a ConfigMap by swapping a symbolic link above the file. A watch
on the file itself would not detect the swap.
"""

from __future__ import annotations

import logging
from collections import Counter
from typing import TYPE_CHECKING

from nvision_hub.config.load import file_fingerprint
from nvision_hub.errors import ConfigError, Diagnostic, HubError
from nvision_hub.hub import composition
from nvision_hub.hub.override_store import save
from nvision_hub.hub.preflight import check_libraries
from nvision_hub.hub.runtime_overrides import Overrides
from nvision_hub.hub.state_dir import unwritable
from nvision_hub.supervisor.observer import SupervisorObserver

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nvision_hub.config.models import Config
    from nvision_hub.hub.composition import HubPlan
    from nvision_hub.runtime.messages import CameraRequest
    from nvision_hub.runtime.process import ProcessSpec

log = logging.getLogger("nvision_hub.config")


class ConfigReloader(SupervisorObserver):
    """Owner of the active configuration, its plan, and the operators' overrides."""

    def __init__(
        self, config: Config, plan: HubPlan, *, only: Collection[str] = (), overrides: Overrides | None = None
    ) -> None:
        self.config, self.plan = config, plan
        self._only = only
        self._overrides = overrides or Overrides()
        self._has_request = False
        self._loaded = self._seen = file_fingerprint(config.path)
        self.rejected: str | None = None  # why the last change of the file was rejected; None if it was applied
        self.outcomes: Counter[str] = Counter({"taken": 0, "refused": 0})

    def reload(self, *, requested: bool) -> Sequence[ProcessSpec] | None:
        """Return the processes that should run from now on; None if nothing changes.

        Reads the file if `requested`, or if the file has changed and then stayed the same between two calls.
        """
        before, self._seen = self._seen, file_fingerprint(self.config.path)
        settled = self._seen == before and self._seen is not None
        if self._has_request:
            self._has_request = False
            return self.plan.children
        if not requested and (not settled or self._seen == self._loaded):
            return None
        self._loaded = self._seen
        try:
            config = self._overrides.configuration(self.config.path)
            if config.state_dir != self.config.state_dir:
                message, fix = "cannot change while the hub runs", "restart the hub"
                path, file = ("state_dir",), config.path.name
                raise ConfigError([Diagnostic(code="restart_required", message=message, fix=fix, path=path, file=file)])
            self.plan = self._new_plan(config, self._overrides)
        except HubError as error:
            log.error(  # noqa: TRY400 - a message for people, without a traceback
                "reload of %s rejected; the previous configuration stays active:\n%s",
                self.config.path.name,
                error,
                extra={"event": "reload_rejected"},
            )
            self.rejected = str(error)
            self.outcomes["refused"] += 1
            return None
        self.config, self.rejected = config, None
        self.outcomes["taken"] += 1
        log.info("%s reloaded", config.path.name, extra={"event": "reloaded"})
        for sentence in self.plan.warnings:
            log.warning("%s", sentence, extra={"event": "config_warning"})
        return self.plan.children

    def on_camera_request(self, request: CameraRequest) -> None:
        """Apply an operator's request at the next call of `reload`, and store the change for restarts of the hub.

        Raises `HubError` if the request fails, and then changes nothing.
        """
        config, before, after = self.config, self._overrides, self._overrides.apply(request, self.config)
        if (before.added, before.removed) != (after.added, after.removed):
            config = after.configuration(config.path)
        plan = self._new_plan(config, after)
        try:
            save(config.state_dir, after)
        except OSError as error:
            raise unwritable(config.state_dir, error) from error
        self.config, self.plan, self._overrides, self._has_request = config, plan, after, True
        log.info("%s carried out", type(request).__name__, extra={"event": "override_applied"})

    def _new_plan(self, config: Config, overrides: Overrides) -> HubPlan:
        plan = composition.plan(config, only=self._only, resources=self.plan.resources, overrides=overrides)
        check_libraries(plan)
        return plan
