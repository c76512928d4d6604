"""Run of one hub, from the start of its first process to the end of its last process."""

from __future__ import annotations

import gc
import logging
import multiprocessing
import os
import signal
import time
from pathlib import Path
from typing import TYPE_CHECKING

from nvision_hub import __version__
from nvision_hub.errors import UnavailableError
from nvision_hub.hub.preflight import check_libraries, check_preflight
from nvision_hub.hub.reload import ConfigReloader
from nvision_hub.hub.running_hubs import record_of
from nvision_hub.hub.sd_notify import SdNotifier, SdNotifyReporter
from nvision_hub.hub.state_dir import move_old_spools, published_endpoints, sole_use
from nvision_hub.logs.setup import log_files
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime import sandbox
from nvision_hub.runtime.messages import HubFacts, ProcessInfo
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import Status
from nvision_hub.supervisor.supervisor import Supervisor

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.hub.composition import PublicPlan
    from nvision_hub.hub.resolver import Resolver
    from nvision_hub.runtime.process import ProcessSpec
    from nvision_hub.supervisor.process_state import ProcessState

log = logging.getLogger("nvision_hub.hub")


def start(
    resolver: Resolver,
    plan: PublicPlan,
    *,
    on_tick: Callable[[Sequence[ProcessState]], None] = lambda _processes: None,
) -> signal.Signals:
    """Run `plan` until SIGTERM or SIGINT. Return the signal after all processes have ended.

    `plan` is the first plan of `resolver`. The hub reloads the configuration file when the file changes, and performs
    operators' requests. `on_tick` receives all processes twice a second.

    Raises `UnavailableError` if another hub uses the state_dir, or if a dependency of the hub is missing.
    """
    multiprocessing.set_start_method("fork", force=True)
    with sole_use(plan.state_dir), log_files(plan.state_dir / "logs"):
        check_libraries(plan)  # loads the libraries, so that all processes share their memory
        resolver.inspect(lambda active: check_preflight(active.config, active.plan))
        move_old_spools(plan.state_dir)
        _prepare_sandbox()
        control = plan.endpoints.control
        record = None if control is None else record_of(Path(control))
        with published_endpoints(plan.state_dir, plan.endpoints, record):
            # After the freeze, the garbage collector no longer visits the objects of the modules loaded so far. Each
            # visit would copy memory pages that the processes share.
            gc.collect()
            gc.freeze()
            return Supervisor(plan.children, observer=_HubObserver(resolver, plan, on_tick)).run()


def _prepare_sandbox() -> None:
    try:
        sandbox.prepare()
    except UnavailableError as error:
        log.warning(
            "camera workers run without a system call filter: %s", error, extra={"event": "sandbox_unavailable"}
        )


class _HubObserver(ConfigReloader):
    """Configuration reloader that also reports to the service manager, the caller and the hub's subscribers."""

    def __init__(
        self,
        resolver: Resolver,
        plan: PublicPlan,
        on_tick: Callable[[Sequence[ProcessState]], None],
    ) -> None:
        super().__init__(resolver, plan)
        self._sd_notify = SdNotifyReporter(notify=SdNotifier.from_environ(os.environ))
        self._on_tick = on_tick
        self._had_terminal = _has_terminal()
        self._started_at = time.monotonic()
        self._meter = Meter()
        self._stats = ProcessStats(self._meter)

    def on_tick(self, processes: Sequence[ProcessState], *, stopping: bool) -> None:
        self._sd_notify.on_tick(processes, stopping=stopping)
        self._on_tick(processes)

    def reload(self, *, requested: bool) -> Sequence[ProcessSpec] | None:
        if requested and self._had_terminal and not _has_terminal():
            # The terminal has disappeared, so this SIGHUP means that the user closed it.
            signal.raise_signal(signal.SIGTERM)
            return None
        return super().reload(requested=requested)

    def hub_status(self) -> tuple[ProcessInfo, Status]:
        for outcome, count in self.outcomes.items():
            self._meter.set_counter(catalogue.CONFIG_RELOADS_TOTAL, count, outcome=outcome)
        self._meter.set_counter(catalogue.OVERRIDES_REJECTED_TOTAL, self.plan.rejected_overrides)
        self._stats.update()
        facts = HubFacts(
            site=self.plan.endpoints.site,
            version=__version__,
            redis=self.plan.endpoints.redis,
            config_reloads=dict(self.outcomes),
            reload_error=self.rejected,
        )
        info = ProcessInfo(name="hub", phase="running", pid=os.getpid(), started_at=self._started_at, facts=facts)
        return info, Status(state="running", ready=True, metrics=self._meter.snapshot())


def _has_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still connected."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
