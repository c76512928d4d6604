"""The machine runs out of a resource, or its clock changes: only the affected parts fail.

The tests run real hubs with cameras and a service, and limit the resources of the running processes from outside. Only
the hub sees the small file systems that serve as disks, and only the hub reads the changed clock.
"""

from __future__ import annotations

import contextlib
import os
import re
import resource
import subprocess
import time
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from tests.support import clips, needs
from tests.support.patience import is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.hub import Hub
    from tests.support.recorder import Received, Recorder
    from tests.support.rtsp import GstCamera

    Clock = tuple[dict[str, str], Callable[[str], None]]

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LARGE: Final = clips.ClipSpec(codec="h264", width=3840, height=2160, kbit_s=8000, gop_s=1.0, seconds=1)
FAKETIME: Final = "faketime/libfaketimeMT.so.1"


def watch(hub: Hub, seconds: float) -> None:
    """Wait `seconds`. Fail if the hub exits."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        raise AssertionError(f"the hub ended with {hub.process.wait(seconds)}\n{hub.log()}")


def longest_gap_s(records: Sequence[Received], since: float, until: float) -> float:
    """Return the longest gap between frames from `since` to `until` (CLOCK_MONOTONIC), in seconds."""
    moments = [since, *(record.at for record in records if since < record.at < until), until]
    return max(later - sooner for sooner, later in pairwise(moments))


def open_files(pid: int) -> int:
    return psutil.Process(pid).num_fds()


# Case 11: memory


@pytest.mark.parametrize("cause", ["on larger frames", "during a reconnect"])
def test_a_worker_out_of_memory_restarts_alone(
    gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub], cause: str
) -> None:
    others = ["a", "b", "c"]
    camera, service = gst_camera({f"/{name}": SMALL for name in others}), recorder()
    limited_camera = gst_camera(SMALL)
    urls = {"limited": limited_camera.url()} | {name: camera.url(f"/{name}") for name in others}
    hub = start_hub([{"id": name, "url": url, "fps": 5} for name, url in urls.items()], service)
    for name in urls:
        hub.wait_for_results(name, 5)
    before = {name: hub.camera(name).pid for name in urls}
    limited = before["limited"]
    assert limited is not None
    descriptors = open_files(hub.process.pid)
    clips.make(LARGE)  # encode the clip before the measurement, because this takes seconds
    began = time.monotonic()
    has = psutil.Process(limited).memory_info()
    resource.prlimit(limited, resource.RLIMIT_AS, (has.vms, has.vms))
    resource.prlimit(
        limited, resource.RLIMIT_DATA, (has.data, has.data)
    )  # includes memory that malloc has reserved but not used
    # In a steady state, a worker allocates no additional memory.
    if cause == "on larger frames":
        limited_camera.switch_clip(LARGE)
    else:
        limited_camera.kill()
        limited_camera.start()
    hub.wait_until(lambda: hub.camera("limited").restarts == 1)
    noticed_s = time.monotonic() - began
    sent = len(service.received("limited"))
    service.wait_for(sent + 5, "limited")
    back_s = time.monotonic() - began
    ended = time.monotonic()
    gaps = {name: longest_gap_s(service.received(name), began, ended) for name in others}
    # The duration depends on the machine. This test checks which process restarts, and why.
    assert is_on_time(max(gaps.values()), 1.0)
    assert {name: hub.camera(name).pid for name in others} == {name: before[name] for name in others}
    assert hub.camera("limited").restarts == 1
    assert "MemoryError" in hub.log()  # the worker detected and logged the error
    assert "killing " not in hub.log()
    assert open_files(hub.process.pid) <= descriptors + 5
    assert not psutil.pid_exists(limited)
    measured(
        11,
        f"worker runs out of memory {cause}",
        injected="prlimit --as --data limits 1 of 4 live workers to its current use, then "
        + ("4K frames from its camera" if cause == "on larger frames" else "its camera restarts"),
        target="only that camera restarts; other cameras have no gap above 1 s",
        measured=f"exited after {noticed_s:.1f} s, frames again after {back_s:.1f} s; "
        f"longest gap of the other cameras {max(gaps.values()):.2f} s",
    )


# Case 12: descriptors


@pytest.mark.parametrize("remedy", ["the limit is raised", "cameras are removed"])
def test_cameras_start_once_descriptors_suffice(
    gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub], remedy: str
) -> None:
    camera, service = gst_camera(SMALL), recorder()
    prlimit = needs.program("prlimit", "util-linux")
    names = [f"camera{number}" for number in range(24)]
    cameras = [{"id": name, "url": camera.url(), "fps": 1} for name in names]
    hub = start_hub(cameras, service, prefix=[prlimit, "--nofile=100:"])
    short = re.compile(r"camera:(\w+) could not start: Too many open files; raise .*ulimit -n.*LimitNOFILE")
    hub.wait_until(lambda: len(set(short.findall(hub.log()))) > 0)
    hub.wait_until(lambda: sum(hub.camera(name).state == "streaming" for name in names) >= 5)
    running = [name for name in names if hub.camera(name).pid is not None]
    pids = {name: hub.camera(name).pid for name in running}
    began = time.monotonic()
    if remedy == "the limit is raised":
        resource.prlimit(hub.process.pid, resource.RLIMIT_NOFILE, (1024, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        wanted = names
    else:
        wanted = [name for name in names if name not in running[: len(running) - 2]][: len(running) - 2]
        hub.change([each for each in cameras if each["id"] in wanted])
    hub.wait_until(lambda: all(hub.camera(name).state == "streaming" for name in wanted))
    took_s = time.monotonic() - began
    assert is_on_time(took_s, 10.0)
    kept = [name for name in running if name in wanted]
    assert {name: hub.camera(name).pid for name in kept} == {name: pids[name] for name in kept}
    assert all(hub.camera(name).restarts == 0 for name in wanted)
    assert "Traceback" not in hub.log()
    measured(
        12,
        "out of file descriptors",
        injected=f"ulimit -n 100 for a hub of 24 cameras, then {remedy}",
        target="clear error; all streaming within 10 s",
        measured=f"{len(running)} of 24 ran, the others reported the reason; {len(wanted)} streaming after "
        f"{took_s:.1f} s, no running worker restarted",
    )


# Case 13: the disk


def small_disk(folder: Path, size: str) -> list[str]:
    """Return the command that mounts a file system of this size as state_dir, visible only to the hub.

    Tests therefore read the hub's results over TCP, as the user `reader`.
    """
    unshare = needs.program("unshare", "util-linux")
    folder.mkdir(parents=True)
    alone = [unshare, *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    mount = f'mount -t tmpfs -o size={size},mode=700 tmpfs "$0" && exec "$@"'
    prefix = [*alone, "sh", "-c", mount, str(folder)]
    tried = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
    if tried.returncode:
        needs.missing(f"this user may mount nothing in a namespace of its own ({tried.stderr.strip()}); test as root")
    return prefix


def fill(file: Path) -> int:
    """Write until the disk is full. Return the number of bytes written."""
    with file.open("wb", buffering=0) as filler:
        for block in (2**16, 2**12, 1):
            with contextlib.suppress(OSError):
                while True:
                    filler.write(bytes(block))
        return filler.tell()


def test_a_full_disk_causes_no_crash_and_no_loss_without_count(
    tmp_path: Path,
    gst_camera: Callable[..., GstCamera],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
) -> None:
    camera, service = gst_camera(SMALL), recorder()
    names = ["a", "b", "c"]
    prefix = small_disk(tmp_path / "hub0" / "state", "8m")
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 10} for name in names], service, prefix=prefix)
    for name in names:
        hub.wait_for_results(name, 10)
    before = {name: hub.camera(name).pid for name in names}
    descriptors = open_files(hub.process.pid)
    # This path leads to the file system that only the hub sees.
    filler = Path(f"/proc/{hub.process.pid}/root{tmp_path}/hub0/state/filler")
    fill(filler)
    hub.wait_until(lambda: all("No space left" in (hub.camera(name).error or "") for name in names))
    begun = {name: hub.camera(name) for name in names}
    sent = {name: len(service.received(name)) for name in names}
    watch(hub, 25.0)  # longer than the deadline for a broker that does not reply
    while_full = {name: len(service.received(name)) - sent[name] for name in names}
    ended = {name: hub.camera(name) for name in names}
    published = {name: ended[name].total("results_published_total") for name in names}
    filler.unlink()
    freed = time.monotonic()
    hub.wait_until(
        lambda: all(hub.camera(name).total("results_published_total") > published[name] + 10 for name in names)
    )
    took_s = time.monotonic() - freed
    assert is_on_time(took_s, 10.0)
    for name in names:
        supplied, answered = (
            ended[name].total(metric) - begun[name].total(metric)
            for metric in ("packets_received_total", "frames_answered_total")
        )
        dropped = sum(
            ended[name].metrics.get(series, 0) - begun[name].metrics.get(series, 0)
            for series in (f"frames_dropped_total{{reason={reason}}}" for reason in ("late", "overwritten"))
        )
        assert answered + dropped > 0.9 * supplied / 25 * 10, "due frames are answered, or dropped on a busy machine"
    assert is_on_time(25.0 / min(while_full.values()), 1 / (0.9 * 10)), "frames are sent during that time"
    assert {name: hub.camera(name).pid for name in names} == before
    assert hub.restarts() == dict.fromkeys(hub.members(), 0), hub.log()
    hub.wait_until(lambda: all(hub.camera(name).error is None for name in names))
    assert open_files(hub.process.pid) <= descriptors + 5
    added = sum(hub.camera(name).total("results_published_total") for name in names)
    assert len({event["frame_id"] for event in hub.events(user="reader")}) >= added, (
        "the stream contains every published result"
    )
    assert hub.stop() == 0
    received, added, lost = (
        sum(hub.camera(name).total(f"results_{what}_total") for name in names)
        for what in ("received", "published", "lost")
    )
    assert received == added + lost, "every result is counted as published or lost"
    assert "Traceback" not in hub.log()
    measured(
        13,
        "disk full",
        injected="an 8 MB tmpfs as state_dir, filled to the last byte for 25 s at 30 results/s",
        target="no crash; losses counted; recovers within 10 s",
        measured=f"no restart, {sum(while_full.values()) / 25:.0f} frames/s sent during that time; results flow "
        f"again {took_s:.1f} s after space was freed; {lost:.0f} lost",
    )


def test_a_broker_killed_on_a_full_disk_recovers(
    tmp_path: Path,
    gst_camera: Callable[..., GstCamera],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
) -> None:
    camera, service = gst_camera(SMALL), recorder()
    prefix = small_disk(tmp_path / "hub0" / "state", "8m")
    hub = start_hub([{"id": "a", "url": camera.url(), "fps": 10}], service, prefix=prefix)
    hub.wait_for_results("a", 20)
    before = len(hub.events("a", user="reader"))
    filler = Path(f"/proc/{hub.process.pid}/root{tmp_path}/hub0/state/filler")
    fill(filler)
    hub.wait_until(lambda: "No space left" in (hub.camera("a").error or ""))
    psutil.Process(hub.member_pid("broker")).kill()
    hub.wait_until(lambda: hub.restarts()["broker"] >= 1)
    watch(hub, 8.0)
    filler.unlink()
    freed = time.monotonic()
    published = hub.camera("a").total("results_published_total")
    hub.wait_until(lambda: hub.camera("a").total("results_published_total") > published + 10)
    took_s = time.monotonic() - freed
    assert is_on_time(took_s, 10.0)
    assert len(hub.events("a", user="reader")) > before
    measured(
        13,
        "broker killed while the disk is full",
        injected="as for a full disk, with kill -9 of the process that runs the broker",
        target="recovers within 10 s of free space",
        measured=f"results flow again after {took_s:.1f} s",
    )


def test_a_disk_that_is_full_from_the_start_is_reported(
    tmp_path: Path, recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    prefix = small_disk(tmp_path / "hub0" / "state", "4k")
    full = [*prefix[:-1], prefix[-1]]
    full[full.index("-c") + 1] = full[full.index("-c") + 1].replace(
        "exec", '{ head -c 8192 /dev/zero > "$0/filler" || true; } && exec'
    )
    with pytest.raises(AssertionError, match="not met"):
        start_hub([{"id": "a", "url": "demo://street"}], recorder(), prefix=full)
    log = (tmp_path / "hub0" / "hub.log").read_text(encoding="utf-8")
    assert re.search(r"state_dir .* \(No space left on device\)", log)
    assert "Traceback" not in log


# Case 14: the clock


@pytest.fixture
def clock(tmp_path: Path) -> Clock:
    """Return an environment in which the wall clock follows a file, and a function that sets this clock."""
    library = next(iter(Path("/usr/lib").glob(f"*/{FAKETIME}")), None)
    if library is None:
        needs.missing("libfaketime is not installed; `apt-get install faketime` brings it")
    file = tmp_path / "clock" / "offset"
    file.parent.mkdir()

    def set_to(offset: str) -> None:
        new = file.with_suffix(".new")
        new.write_text(f"{offset}\n")
        new.replace(file)

    set_to("+0")
    return (
        {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(file),
            "FAKETIME_NO_CACHE": "1",
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "FAKETIME_DISABLE_SHM": "1",
            "ALSO_WRITABLE": str(file.parent),
        },
        set_to,
    )


@pytest.mark.parametrize("jump", [("forwards", "+3600"), ("backwards", "-3600")], ids=["forwards", "backwards"])
def test_a_clock_jump_of_an_hour_kills_and_delays_nothing(
    clock: Clock,
    gst_camera: Callable[..., GstCamera],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
    jump: tuple[str, str],
) -> None:
    env, set_clock = clock
    direction, offset = jump
    camera, service = gst_camera(SMALL), recorder()
    names = ["a", "b"]
    hub = start_hub([{"id": name, "url": camera.url(), "fps": 5} for name in names], service, env=env)
    for name in names:
        hub.wait_for_results(name, 10)
    before = {name: hub.camera(name).pid for name in names}
    # libfaketime has a lock. A process that is forked while another thread holds it hangs, and the supervisor replaces
    # it. The clock jumps after that.
    restarts, logged = hub.restarts(), hub.log()
    began = time.monotonic()
    set_clock(offset)
    watch(hub, 20.0)  # longer than every timeout of the supervisor
    set_clock("+0")
    watch(hub, 20.0)
    ended = time.monotonic()
    stalls = {name: longest_gap_s(service.received(name), began, ended) for name in names}
    shift = float(offset)
    records = [record for record in service.received() if began < record.at < ended]
    wall = time.time() - time.monotonic()
    shifts = [record.created - (record.at + wall) for record in records]
    assert sum(abs(each - shift) < 60 for each in shifts) > 20, "the clock of the hub has jumped"
    odd = [each for each in shifts if min(abs(each - shift), abs(each)) >= 60]
    assert odd == []
    assert is_on_time(max(stalls.values()), 2.0)
    assert hub.restarts() == restarts, hub.log()
    assert {name: hub.camera(name).pid for name in names} == before
    assert "the supervisor was suspended" not in hub.log().removeprefix(logged)
    events = hub.events()
    assert len({event["hub"]["id"] for event in events}) == len(events)
    for name in names:
        sequences = [event["hub"]["sequence"] for event in hub.events(name)]
        assert sequences == sorted(sequences), "stream order does not depend on the clock"
    assert hub.stop() == 0
    assert "killing " not in hub.log().removeprefix(logged)
    measured(
        14,
        f"clock jumps one hour {direction}, and back",
        injected="libfaketime in every process of the hub, offset changed while they run",
        target="no false kill, no stall over 2 s",
        measured=f"no restart; longest gap {max(stalls.values()):.2f} s at 5 frames/s",
    )
