"""Cases 1 to 9 on complete hubs that stream, tests with the product's limits, and a test with a thousand kills."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import time
from collections import Counter
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

from nvision_hub.supervisor.process_state import SupervisorLimits
from tests.support import clips, needs
from tests.support.ledger import Ledger
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.fleet import Fleet
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

pytestmark = pytest.mark.fault

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
KILLS: Final = 1000 if os.environ.get("NVISION_HUB_FULL_FAULTS") else 400
RECONNECTS: Final = 24 if os.environ.get("NVISION_HUB_FULL_FAULTS") else 9  # of each camera
TENTH: Final = 0.1  # factor for the supervisor's limits and the times of the cases


def cameras(url: str, names: str, fps: int = 5) -> list[dict[str, Any]]:
    return [{"id": name, "url": url, "fps": fps} for name in names]


def family(hub: Hub) -> list[psutil.Process]:
    """Return the hub and all its descendants."""
    supervisor = psutil.Process(hub.process.pid)
    return [supervisor, *supervisor.children(recursive=True)]


@pytest.mark.slow
def test_a_killed_worker_interrupts_only_its_own_frames(
    gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    service = recorder()
    hub = start_hub(cameras(gst_camera(CAMERA).url(), "abcd"), service)
    for name in "abcd":
        hub.wait_for_results(name, 10)
    descriptors = psutil.Process(hub.process.pid).num_fds()
    killed_pid = hub.member_pid("camera:b")
    killed = time.monotonic()
    os.kill(killed_pid, signal.SIGKILL)
    hub.wait_until(lambda: hub.status("b")["pid"] != killed_pid)
    new_s = hub.status("b")["at"] - killed
    hub.wait_until(lambda: any(record.at > killed + 0.4 for record in service.received("b")))
    frame_s = next(record.at for record in service.received("b") if record.at > killed + 0.4) - killed
    moments = {name: [record.at for record in service.received(name) if record.at > killed - 1] for name in "acd"}
    gap_s = max(later - sooner for name in "acd" for sooner, later in pairwise(moments[name]))
    assert is_on_time(new_s, 2.0)
    assert is_on_time(frame_s, 5.0), "frames must continue at the next keyframe"
    assert is_on_time(gap_s, 1.0)
    assert hub.restarts() | {"camera:b": 0} == dict.fromkeys(hub.members(), 0)
    assert psutil.Process(hub.process.pid).num_fds() <= descriptors + 5
    measured(
        1,
        "killed worker of a camera",
        injected="kill -9 of 1 of 4",
        target="restarted within 2 s; other cameras have no gap above 1 s",
        measured=f"new worker reported after {new_s:.1f} s, frames after {frame_s:.1f} s; "
        f"longest gap of the other cameras {gap_s:.2f} s at 5 frames/s",
    )


@pytest.mark.long
def test_crash_loops_open_the_breaker_and_a_long_run_resets_it(
    start_fleet: Callable[..., Fleet], tmp_path: Path
) -> None:
    whole = SupervisorLimits()
    lives = {"quick": [0.0], "slow": [3 * TENTH], "lasting": [0.0, 0.0, 0.0, 90 * TENTH, 600.0]}
    fleet = start_fleet(
        {
            **{n: ("ends_after", {"lives": str(tmp_path / n), "lives_s": each}) for n, each in lives.items()},
            "well": "steady",
        },
        restart_first_s=whole.restart_first_s * TENTH,
        restart_max_s=whole.restart_max_s * TENTH,
        healthy_s=whole.healthy_s * TENTH,
        # Not divided, because a busy machine starts processes slowly. The pauses show that a tenth would suffice.
        crash_loop_window_s=whole.crash_loop_window_s,
        crash_loop_pause_s=whole.crash_loop_pause_s * TENTH,
    )
    well = fleet.ready_pid("well")
    fleet.wait_until(lambda: all(fleet.members[name]["crash_loop"] for name in ("quick", "slow")))
    fleet.wait_until(lambda: all(fleet.members[name]["restarts"] > 5 for name in ("quick", "slow")))
    fleet.wait_until(lambda: fleet.members["lasting"]["restarts"] == 4)
    again = re.compile(r"(\w+) exited \(exit code 3(; crash loop)?\); restarting in (\d+\.\d) s")
    found = [match.groups() for line in fleet.lines("hub") if (match := again.fullmatch(line))]
    loops = {name: [loop is not None for who, loop, _ in found if who == name] for name in lives}
    pauses = {name: [float(pause) for who, _, pause in found if who == name] for name in lives}
    for name in ("quick", "slow"):
        assert loops[name][:5] == [False] * 4 + [True]
        assert all(loops[name][4:])
        assert max(pauses[name][:4]) <= 16 * whole.restart_first_s * TENTH
        assert sum(pauses[name][:4]) + 4 * lives[name][0] < whole.crash_loop_window_s * TENTH
        assert all(5.3 <= pause <= 6.7 for pause in pauses[name][4:])
    assert not any(loops["lasting"])
    assert pauses["lasting"][3] <= 2 * whole.restart_first_s * TENTH + 0.05
    assert (fleet.pid("well"), fleet.members["well"]["restarts"]) == (well, 0)
    for case, name, injected in ((2, "quick", "exits immediately"), (3, "slow", "exits every 3 s")):
        measured(
            case,
            f"{name} crash loop",
            injected=f"{injected}; all times divided by 10",
            target="jittered backoff; `crash_loop` after 5 exits in 60 s, then one restart per minute",
            measured=f"backoff {min(pauses[name][:4]):.1f} to {max(pauses[name][:4]):.1f} s, `crash_loop` at exit 5, "
            f"then one restart every {min(pauses[name][4:]):.1f} to {max(pauses[name][4:]):.1f} s",
        )
    measured(
        3,
        "long run after a crash loop",
        injected="three immediate exits, then one after 90 s; all times divided by 10",
        target="a long run resets the backoff",
        measured=f"backoff {', '.join(f'{pause:.1f}' for pause in pauses['lasting'])} s; no `crash_loop`",
    )


@pytest.mark.long
def test_a_frozen_worker_is_killed_and_its_frames_return(
    recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    service = recorder()
    hub = start_hub(cameras("demo://street", "ab"), service)
    for name in "ab":
        hub.wait_for_results(name, 10)
    worker = psutil.Process(hub.member_pid("camera:a"))
    worker.suspend()
    frozen = time.monotonic()
    gone, _ = psutil.wait_procs([worker], timeout=PATIENCE_S)
    killed_s = time.monotonic() - frozen
    assert gone
    sent = len(service.received("a"))
    back_s = service.wait_for(sent + 1, "a")[sent].at - frozen
    moments = [record.at for record in service.received("b") if record.at > frozen]
    gap_s = max(later - sooner for sooner, later in pairwise(moments))
    assert is_on_time(back_s, 25.0)
    assert is_on_time(gap_s, 1.0)
    # The event loop's deadline may expire before the deadline for the next report.
    assert re.search(r"camera:a exited \(no (report|event loop) for \d+ s\)", hub.log())
    measured(
        4,
        "worker freezes",
        injected="SIGSTOP of 1 of 2 workers, default limits",
        target="killed within 20 s, frames again within 25 s",
        measured=f"killed after {killed_s:.1f} s, frames after {back_s:.1f} s; "
        f"longest gap of the other camera {gap_s:.2f} s",
    )


@pytest.mark.slow
def test_nothing_outlives_a_killed_hub(recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]) -> None:
    hub = start_hub(cameras("demo://street", "ab"), recorder())
    for name in "ab":
        hub.wait_for_results(name, 3)
    everyone = family(hub)
    assert any("valkey" in process.name() for process in everyone)
    killed = time.monotonic()
    hub.process.kill()
    _, left = psutil.wait_procs(everyone, timeout=PATIENCE_S)
    assert not left
    assert is_on_time(time.monotonic() - killed, 3.0)
    measured(
        6,
        "killed supervisor of a complete hub",
        injected="kill -9, with broker, demo camera and two camera workers streaming",
        target="no orphan after 3 s",
        measured=f"all {len(everyone)} processes gone after {time.monotonic() - killed:.1f} s",
    )


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("way", ["stop under load", "Ctrl-C"])
def test_a_stop_under_load_loses_no_accepted_result(
    recorder: Callable[..., Recorder], start_hub: Callable[..., Hub], way: str
) -> None:
    ctrl_c = way == "Ctrl-C"
    service = recorder(latency_s=0.2)
    group = needs.program("setsid", "util-linux")
    hub = start_hub(cameras("demo://street", "abc", 10), service, prefix=[group])
    for name in "abc":
        hub.wait_for_results(name, 20)
    everyone = family(hub)
    began = time.monotonic()
    if ctrl_c:
        os.killpg(hub.process.pid, signal.SIGINT)
    else:
        os.kill(hub.member_pid("camera:c"), signal.SIGSTOP)
        hub.process.terminate()
    hub.process.wait(PATIENCE_S)
    took_s = time.monotonic() - began
    assert hub.stop() == 0  # after this, the test has read all output of the hub
    _, left = psutil.wait_procs(everyone, timeout=PATIENCE_S)
    assert not left
    assert is_on_time(took_s, 10.0)
    ledgers = {name: Ledger.of(hub.status(name).get("metrics", {})) for name in "abc"}
    for name in "abc" if ctrl_c else "ab":
        assert ledgers[name].settled, ledgers[name]
    assert not any(ledger.lost for ledger in ledgers.values())
    afterwards = start_hub(cameras("demo://street", "z"), service, state_dir=str(hub.folder / "state"))
    kept = Counter(event["hub"]["camera"] for event in afterwards.events())
    for name, ledger in ledgers.items():
        # The worker stopped by SIGSTOP may have published results after its last report.
        assert kept[name] >= ledger.published if name == "c" and not ctrl_c else kept[name] == ledger.published
    measured(
        8 if ctrl_c else 7,
        way,
        injected=("SIGINT to the process group" if ctrl_c else "SIGTERM with 1 of 3 workers stopped by SIGSTOP")
        + ", 10 frames/s each",
        target="exit within 10 s; no accepted result lost" + ("; the broker exits last" if ctrl_c else ""),
        measured=f"exit after {took_s:.1f} s, 0 results lost: all {sum(led.published for led in ledgers.values())} "
        "published results are in the stream",
    )


@pytest.mark.long
def test_killed_workers_leak_nothing(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet(
        dict.fromkeys("abcdefgh", "steady"), restart_first_s=0.02, restart_max_s=0.04, crash_loop_exits=10**6
    )
    supervisor = psutil.Process(fleet.process.pid)
    kills, began = 0, time.monotonic()
    samples: list[tuple[int, int, int]] = []  # kills, descriptors, bytes

    def sample() -> None:
        """Record a sample once all members are ready again."""
        shown = len(fleet.shown)
        fleet.wait_until(lambda: len(fleet.shown) > shown + 1 and all(m["ready"] for m in fleet.members.values()))
        samples.append((kills, supervisor.num_fds(), supervisor.memory_info().rss))

    sample()
    while kills < KILLS:
        for _ in range(10):
            for child in supervisor.children():
                with contextlib.suppress(psutil.NoSuchProcess):  # the process was still ending after the previous kill
                    child.kill()
                    kills += 1
            with pytest.raises(subprocess.TimeoutExpired):
                fleet.process.wait(0.1)
        sample()
    warm, last = samples[len(samples) // 4], samples[-1]
    assert {descriptors for _, descriptors, _ in samples} == {samples[0][1]}
    assert last[2] - warm[2] < 1_000_000
    assert all(child.status() != psutil.STATUS_ZOMBIE for child in supervisor.children())
    measured(
        9,
        "leak over killed workers",
        injected=f"{kills} times kill -9 within {time.monotonic() - began:.0f} s",
        target="descriptors: slope 0; the supervisor's memory: flat",
        measured=f"{samples[0][1]} descriptors before and in each of {len(samples)} samples, slope 0; "
        f"memory {(last[2] - warm[2]) / 1e3:+.0f} kB from kill {warm[0]} to the last",
    )


@pytest.mark.long
def test_reconnecting_cameras_leak_nothing(
    gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    names = "abcdefgh"
    camera = gst_camera(CAMERA)
    hub = start_hub(cameras(camera.url(), names, 1), recorder(keep_frames=False))
    samples: list[dict[str, tuple[int, int]]] = []  # by process: descriptors and bytes
    for _ in range(RECONNECTS + 1):
        came = time.monotonic()
        hub.wait_until(lambda: all(hub.camera(name).state == "streaming" for name in names))
        known = {"supervisor": hub.process.pid} | {name: hub.member_pid(f"camera:{name}") for name in names}
        processes = {name: psutil.Process(pid) for name, pid in known.items()}
        samples.append({name: (each.num_fds(), each.memory_info().rss) for name, each in processes.items()})
        camera.kill()
        for name in names:
            hub.wait_for_state(name, "unreachable", since=came)
        camera.start()
    warm, last = samples[len(samples) // 3], samples[-1]
    more = {name: last[name][0] - warm[name][0] for name in warm}
    grown = {name: last[name][1] - warm[name][1] for name in warm}
    assert max(more.values()) <= 3, more
    assert grown["supervisor"] < 1_000_000
    assert max(grown.values()) < 8_000_000, grown
    assert set(hub.restarts().values()) == {0}
    measured(
        9,
        "leak over camera reconnects",
        injected=f"RTSP server of {len(names)} cameras killed (-9) and restarted, "
        f"{len(names) * (len(samples) - 1)} reconnects",
        target="descriptors: slope 0; the supervisor's memory: flat",
        measured=f"descriptors {max(more.values()):+d} at most; memory: supervisor "
        f"{grown.pop('supervisor') / 1e3:+.0f} kB, worker {max(grown.values()) / 1e6:+.1f} MB at most",
    )
