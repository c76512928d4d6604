"""The account of frames and results balances for whole fleets, despite killed workers and faults of every kind."""

from __future__ import annotations

import os
import signal
from typing import TYPE_CHECKING

import pytest

from tests.bench import soak
from tests.support.fleet_ledger import FleetLedger
from tests.support.hub import Hub, end, write
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.http_camera import HttpCamera
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]
KILLS = 3


def test_frames_that_a_killed_worker_did_not_report_are_accounted_for(
    tmp_path: Path, recorder: Callable[..., Recorder], http_camera: Callable[..., HttpCamera]
) -> None:
    service, camera = recorder(latency_s=0.3, keep_frames=False), http_camera()
    write(tmp_path, [{"id": name, "url": camera.url(), "fps": 20} for name in ("killed", "spared")], service)
    ledger = FleetLedger()
    hub = Hub(folder=tmp_path, on_report=ledger.on_report)
    try:
        hub.start()
        for kill in range(1, KILLS + 1):
            hub.wait_for_results("killed", 20)
            # Five frames take a quarter of a second, so the kill happens between this report and the next.
            service.wait_for(len(service.received("killed")) + 5, "killed")
            pid = hub.camera("killed").pid
            assert pid is not None
            os.kill(pid, signal.SIGKILL)
            restarts = kill
            hub.wait_until(lambda: hub.camera("killed").restarts >= restarts)  # noqa: B023 - called before it changes
            hub.wait_until(lambda: hub.status("killed").get("pid") == hub.camera("killed").pid)
        hub.wait_for_results("killed", 5)
        streamed = [event["hub"]["id"] for event in hub.events()]
        assert hub.stop() == 0
    finally:
        end(hub)
    account = ledger.account([(each.source_id, each.frame_id) for each in service.received()], streamed)
    assert account.problems == [], "\n".join(account.lines())
    assert account.killed == KILLS
    assert account.after_last_report > 0, (
        "at 20 frames and one report per second, some frames were sent after the last report"
    )
    assert account.known.sent + account.after_last_report == account.arrived + account.never_arrived
    unknown = account.frames_unknown + account.after_last_report
    measured(
        1,
        "killed worker: its accounts",
        injected=f"kill -9, {KILLS} times, with results outstanding",
        target="accounts balance exactly",
        measured=f"{account.known.sent + account.after_last_report} sent = {account.known.answered} answered + "
        f"{account.known.unanswered.total()} unanswered + {unknown} unknown, equal to the service's own record",
    )


def test_accounts_balance_after_random_faults() -> None:
    outcome = soak.run(cameras=2, seconds=35, fault_every_s=3, seed=20)
    assert outcome.problems == [], outcome.as_text()
    known = outcome.account.known
    measured(
        36,
        "random mix of all faults",
        injected=f"2 cameras, {len(outcome.faults)} faults within 35 s",
        target="accounts balance exactly; all streaming 25 s after the last fault",
        measured=f"{known.sent} frames and {known.received} results accounted for; "
        f"all streaming after {outcome.back_s:.1f} s",
    )
