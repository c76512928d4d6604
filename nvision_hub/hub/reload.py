"""Reload of cameras.yaml while the hub runs: a changed file is validated completely, then applied or rejected.

The supervisor's loop calls the reloader and waits, so each call has a time limit.

If a change fails because the machine lacks a resource, such as file descriptors, the reloader retries the change later.

The reloader polls cameras.yaml and its included files, because Kubernetes updates a ConfigMap by replacing a symbolic
link above the file. A watch on the file itself would not detect this.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.config.include_pattern import file_fingerprint
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.preflight import check_libraries
from nvision_hub.runtime.messages import SealedRequest
from nvision_hub.supervisor.observer import SupervisorObserver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.config.include_pattern import IncludePattern
    from nvision_hub.hub.composition import PublicPlan
    from nvision_hub.hub.resolver import Resolver
    from nvision_hub.runtime.messages import CameraRequest
    from nvision_hub.runtime.process import ProcessSpec

log = logging.getLogger("nvision_hub.config")

# Delays between attempts. The attempts are rare, because each one blocks the supervisor's loop if a file system hangs.
FIRST_RETRY_S: Final = 5.0
MAX_RETRY_S: Final = 300.0


class ConfigReloader(SupervisorObserver):
    """Owner of the active plan. `resolver` reads the configuration, and `plan` is the first plan of `resolver`."""

    def __init__(self, resolver: Resolver, plan: PublicPlan) -> None:
        self.plan = plan
        self._resolver = resolver
        self._has_request = False
        self._include = plan.include
        self._loaded = self._seen = file_fingerprint(plan.path, plan.include)
        self._backoff = Backoff(first_s=FIRST_RETRY_S, cap_s=MAX_RETRY_S)
        self._retry_at = float("inf")  # monotonic time of the next attempt after a failure
        self.rejected: str | None = None  # why the last change of the file was rejected; None if it was applied
        self.outcomes: Counter[str] = Counter({"taken": 0, "refused": 0})

    def reload(self, *, requested: bool) -> Sequence[ProcessSpec] | None:
        """Return the processes that should run from now on; None if nothing changes.

        The method reads the file if `requested`, if the file has changed and then stayed the same between two calls, or
        if a retry after a failure is due.
        """
        before, self._seen = self._seen, file_fingerprint(self.plan.path, self._include)
        settled = self._seen == before and self._seen is not None
        if self._has_request:
            self._has_request = False
            return self.plan.children
        is_retry = not requested and not (settled and self._seen != self._loaded)
        if is_retry and time.monotonic() < self._retry_at:
            return None
        if not is_retry:
            self._backoff.tries = 0
        self._loaded, self._retry_at = self._seen, float("inf")
        try:
            self._find_included_files()
            plan = self._resolver.reload()
            check_libraries(plan)
        except HubError as error:
            if isinstance(error, UnavailableError):
                self._retry_at = time.monotonic() + self._backoff.next_s()
            if not is_retry or self.rejected != str(error):
                self._reject(error)
            return None
        self.plan, self.rejected = plan, None
        self._set_include(plan.include)
        self.outcomes["taken"] += 1
        log.info("%s reloaded", plan.path.name, extra={"event": "reloaded"})
        for sentence in plan.warnings:
            log.warning("%s", sentence, extra={"event": "config_warning"})
        return plan.children

    def _find_included_files(self) -> None:
        """Poll the files that the current cameras.yaml includes, so that fixing one of them leads to another reload."""
        with contextlib.suppress(UnavailableError):  # if the reload succeeds, the new plan has the patterns
            self._set_include(self._resolver.include_patterns(self.plan.path))

    def _set_include(self, include: tuple[IncludePattern, ...] | None) -> None:
        if include is not None and include != self._include:
            self._include = include
            self._loaded = self._seen = file_fingerprint(self.plan.path, include)

    def _reject(self, error: HubError) -> None:
        log.error(
            "reload of %s rejected; the previous configuration stays active:\n%s",
            self.plan.path.name,
            error,
            extra={"event": "reload_rejected"},
        )
        self.rejected = str(error)
        self.outcomes["refused"] += 1

    def on_camera_request(self, request: CameraRequest | SealedRequest) -> None:
        """Apply an operator's request at the next call of `reload`, and store the change for later starts of the hub.

        If the request fails, raises `HubError` and changes nothing.
        """
        plan = self._resolver.apply(request)
        check_libraries(plan)
        self.plan, self._has_request = plan, True
        kind = "AddCamera" if isinstance(request, SealedRequest) else type(request).__name__
        log.info("%s carried out", kind, extra={"event": "override_applied"})
