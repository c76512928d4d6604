"""Cases 29, 30, 31 and 36: the service dies, freezes or drains with frames in flight."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub.nvision.connection import ClientTimeouts
from tests.support import clips
from tests.support.ledger import Ledger
from tests.support.local_service import KEY as SERVICE_KEY
from tests.support.patience import is_on_time
from tests.support.reliability import measured
from tests.support.uplinks import QUICK, feeding

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.local_service import LocalService
    from tests.support.recorder import Recorder

pytestmark = pytest.mark.fault
MAX_STOP_S = 12.0
BIG = clips.ClipSpec(codec="mjpeg", width=1280, height=720, seconds=4)


def ledger(hub: Hub, camera: str) -> Ledger:
    return Ledger.of(hub.status(camera).get("metrics", {}))


@pytest.mark.parametrize("down_s", [1.0, pytest.param(20.0, marks=pytest.mark.long)])
async def test_streaming_resumes_after_a_killed_service_restarts(
    recorder: Callable[..., Recorder], down_s: float
) -> None:
    service = recorder(latency_s=0.1)
    async with feeding(service.url, timeouts=ClientTimeouts(), jpeg_bytes=50_000) as feed:
        await feed.answered(20)
        service.kill()
        killed = await feed.until(lambda: feed.uplink.error is not None)
        dropped, offered = feed.counted("frames_dropped_total"), feed.offered
        await feed.until(lambda: time.monotonic() > killed + down_s, down_s + 5)
        assert feed.counted("frames_dropped_total") - dropped >= feed.offered - offered - 1, (
            "every frame dropped during the outage must be counted"
        )
        service.start()
        returned = time.monotonic()
        back = await feed.answered(1) - returned
        lost = feed.counted("frames_unanswered_total", reason="uplink")
    assert is_on_time(back, 10)
    names = [record.frame_id for record in service.received()]
    assert len(set(names)) == len(names)
    measured(
        29,
        f"service killed, restarted after {down_s:.0f} s",
        injected="kill -9 mid-stream, 20 frames/s",
        target="streaming within 10 s of the restart; drops counted",
        measured=f"first result {back:.1f} s after the restart; {feed.counted('frames_dropped_total')} dropped, "
        f"{lost} unanswered, accounts balanced",
    )


@pytest.mark.parametrize("limits", [QUICK, pytest.param(ClientTimeouts(), marks=pytest.mark.long)])
async def test_a_frozen_service_is_detected_and_costs_no_memory(
    recorder: Callable[..., Recorder], limits: ClientTimeouts
) -> None:
    service = recorder(keep_frames=False)
    fps = 20.0
    async with feeding(service.url, fps=fps, timeouts=limits, jpeg_bytes=300_000) as feed:
        await feed.answered(20)
        memory = psutil.Process().memory_info().rss
        service.suspend()
        frozen = time.monotonic()
        noticed = await feed.until(lambda: feed.uplink.error is not None) - frozen
        # The kernel still accepts connections for the frozen service, but the service sends no response.
        await feed.until(lambda: feed.counted("uplink_reconnects_total") >= 2)
        grown = psutil.Process().memory_info().rss - memory
        assert "does not answer" in (feed.uplink.error or "")
        service.resume()
        before = len(feed.connected)
        await feed.answered(5)
        oldest = min(sent.sent_mono for sent in feed.results[-3:])
        assert len(feed.connected) > before
        assert oldest >= feed.connected[-1] - 2 / fps, "the service must get new frames, no backlog"
    assert is_on_time(noticed, max(limits.ping_interval_s + limits.pong_timeout_s, limits.send_timeout_s) + 2)
    assert grown <= 16e6
    if limits == ClientTimeouts():
        measured(
            30,
            "service freezes with a backlog",
            injected="SIGSTOP, 20 frames/s of 300 kB",
            target="detected within 45 s; memory flat; newest frame first",
            measured=f"detected after {noticed:.1f} s; memory {grown / 1e6:+.1f} MB; newest frame first",
        )


@pytest.mark.long
async def test_a_stop_does_not_wait_for_a_frozen_service(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder], http_camera: Callable[..., HttpCamera]
) -> None:
    service = recorder(keep_frames=False)
    camera = http_camera(spec=BIG)
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 20} for name in ("a", "b")], service)
    for name in ("a", "b"):
        hub.wait_for_results(name, 10)
    service.suspend()
    hub.wait_until(lambda: all(hub.camera(name).total("frames_dropped_total") > 10 for name in ("a", "b")))
    began = time.monotonic()
    code = hub.stop()
    took = time.monotonic() - began
    assert code == 0
    assert is_on_time(took, MAX_STOP_S)
    for name in ("a", "b"):
        account = ledger(hub, name)
        assert account.settled, account
        assert account.unanswered["stopped"] > 0
    measured(
        31,
        "stop while the service is frozen",
        injected="SIGSTOP to the service, then SIGTERM to the hub",
        target="exit within 12 s",
        measured=f"{took:.1f} s; accounts balanced",
    )


@pytest.mark.parametrize("code", [1001, 1012])
async def test_frames_in_flight_when_the_service_leaves_are_answered_or_counted(
    recorder: Callable[..., Recorder], code: int
) -> None:
    service = recorder(latency_s=0.4)
    async with feeding(service.url) as feed:
        await feed.answered(5)
        await feed.until(lambda: len(feed.uplink._in_flight) >= 5)
        sent, answered = feed.ledger.sent, feed.ledger.answered
        service.set_behavior(close_code=code)
        await feed.until(lambda: feed.counted("uplink_reconnects_total") >= 1)
        service.set_behavior(close_code=None)
        lost = feed.counted("frames_unanswered_total", reason="uplink")
        assert lost >= 5
        assert feed.ledger.answered - answered + lost >= sent - answered
        await feed.answered(10)
    account = feed.ledger
    assert account.sent >= len(service.received()) >= account.answered
    measured(
        36,
        f"service drains ({code})",
        injected=f"close code {code} with frames in flight",
        target="every frame answered or counted as unanswered",
        measured=f"{account.sent} sent = {account.answered} answered + {account.unanswered.total()} unanswered",
    )


async def test_the_local_service_answers_pending_frames_when_it_drains(
    local_service: Callable[..., LocalService],
) -> None:
    service = local_service(latency_s=0.3)
    async with feeding(service.url, fps=10, jpeg=clips.access_units(BIG)[0], key=SERVICE_KEY) as feed:
        await feed.answered(5)
        await feed.until(lambda: len(feed.uplink._in_flight) >= 2)
        service.drain()
        await feed.until(lambda: feed.uplink.error is not None)
        assert await asyncio.to_thread(service.process.wait, 10) == 0
    account = feed.ledger
    measured(
        36,
        "local service stops",
        injected="drain with frames in flight",
        target="every frame answered or counted as unanswered",
        measured=f"{account.sent} sent = {account.answered} answered + {account.unanswered.total()} unanswered",
    )
