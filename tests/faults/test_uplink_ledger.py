"""The account of pictures and results over whole fleets: with workers killed, and among faults of every kind."""

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


def test_what_a_killed_worker_did_not_live_to_tell_is_known_all_the_same(
    tmp_path: Path, recorder: Callable[..., Recorder], http_camera: Callable[..., HttpCamera]
) -> None:
    service, camera = recorder(latency_s=0.3, keep_pictures=False), http_camera()
    write(tmp_path, [{"id": name, "url": camera.url(), "fps": 20} for name in ("killed", "spared")], service)
    ledger = FleetLedger()
    hub = Hub(folder=tmp_path, heard=ledger.heard)
    try:
        hub.start()
        for kill in range(1, KILLS + 1):
            hub.wait_for_results("killed", 20)
            # A quarter of a second more: past this report, before the next.
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
    assert account.after_last_word > 0, "20 pictures a second, and a report a second: some were sent in between"
    assert account.known.sent + account.after_last_word == account.arrived + account.never_arrived
    unknown = account.frames_unknown + account.after_last_word
    measured(
        1,
        "worker dies: what becomes of its account",
        injected=f"kill -9, {KILLS} times, with answers due",
        target="ledger balances to the unit",
        measured=f"{account.known.sent + account.after_last_word} sent = {account.known.answered} answered + "
        f"{account.known.unanswered.total()} unanswered + {unknown} unknown, as the service's own record has it",
    )


def test_a_short_soak() -> None:
    outcome = soak.run(cameras=2, seconds=35, fault_every_s=3, seed=20)
    assert outcome.problems == [], outcome.as_text()
    known = outcome.account.known
    measured(
        36,
        "all kinds of faults at random",
        injected=f"2 cameras, {len(outcome.faults)} faults within 35 s",
        target="ledger balances to the unit; all streaming 25 s after the last fault",
        measured=f"{known.sent} pictures and {known.received} results accounted for; "
        f"all streaming after {outcome.back_s:.1f} s",
    )
