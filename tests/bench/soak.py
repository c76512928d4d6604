"""Run a hub under random faults: count losses, check the accounting, and check that everything recovers.

`python -m tests.bench soak --cameras 8 --minutes 10 --fault-every 5 [--seed N]`. The benchmark runs a real hub with its
own broker, GStreamer cameras and a recording service. It injects faults at random, such as kill -9, SIGSTOP and refused
connections. It prints the ledger and the resources of the supervisor over time. The exit code is 1 if the ledger does
not balance, if a camera does not stream 25 s after the last fault, or if the supervisor's resource use has grown.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from tests.support.clips import ClipSpec
from tests.support.fleet_ledger import Account, FleetLedger
from tests.support.hub import Hub, end, write
from tests.support.recorder import Recorder
from tests.support.rtsp import GstCamera, Server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

CLIP: Final = ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
FPS: Final = 4.0
SERVERS: Final = 2  # RTSP servers, so that a fault affects half of the cameras
BACK_TIMEOUT_S: Final = 25.0
CLOSE_CODES: Final = (1000, 1001, 1011, 1012, 1013)  # not 1008: a camera would then wait for an operator
MAX_KILLS_PER_MINUTE: Final = 3  # per child: below the crash-loop limit, which is tested separately
MEMORY_GROWTH_BYTES: Final = 4_000_000
DESCRIPTORS_GROWTH: Final = 5
THREADS_GROWTH: Final = 2


@dataclass(frozen=True, kw_only=True)
class Sample:
    """Resources of the supervisor. `at` is the time in seconds since the start of the soak."""

    at: float
    private_bytes: int
    descriptors: int
    threads: int
    streaming: int  # number of cameras that stream


@dataclass(kw_only=True)
class Outcome:
    """Outcome of a soak. `problems` is empty if the soak passed."""

    account: Account
    faults: list[str]
    samples: list[Sample]
    back_s: float | None  # seconds from the end of the last fault until all cameras streamed; None if they never did
    problems: list[str]

    def as_text(self) -> str:
        back = "never" if self.back_s is None else f"{self.back_s:.1f} s"
        kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(Counter(self.faults).items()))
        lines = [f"{len(self.faults)} faults: {kinds}", f"all cameras streaming after the last fault: {back}"]
        lines += ["supervisor:"]
        lines += [
            f"{sample.at:7.0f} s  {sample.private_bytes / 1e6:6.1f} MB  {sample.descriptors:4} descriptors  "
            f"{sample.threads:3} threads  {sample.streaming:3} cameras streaming"
            for sample in self.samples
        ]
        lines += self.account.lines()
        lines += [f"PROBLEM: {problem}" for problem in self.problems]
        return "\n".join([*lines, "NOT PASSED" if self.problems else "passed: the ledger balances"])


@dataclass(kw_only=True)
class _Fault:
    """A fault in progress. `undo` ends the fault."""

    target: str
    until: float
    undo: Callable[[], None]


@dataclass(kw_only=True)
class Soak:
    """The hub, its cameras and its service, with the faults injected into them."""

    hub: Hub
    recorder: Recorder
    servers: Sequence[GstCamera]
    cameras: Sequence[str]
    rng: random.Random
    going_on: list[_Fault] = field(default_factory=list)
    injected: list[str] = field(default_factory=list)
    _deaths: dict[str, list[float]] = field(default_factory=dict)

    def inject(self) -> None:
        """Inject one fault into a healthy target."""
        kinds = [
            self._kill_worker,
            self._freeze_worker,
            self._kill_camera,
            self._freeze_camera,
            self._kill_service,
            self._freeze_service,
            self._kill_broker,
            self._close,
            self._refuse,
            self._send_invalid,
        ]
        self.rng.shuffle(kinds)
        for kind in kinds:
            if kind():
                self.injected.append(kind.__name__.removeprefix("_").replace("_", " "))
                return

    def end_those_due(self, now: float) -> None:
        """Undo the faults that have lasted long enough."""
        for fault in [each for each in self.going_on if now >= each.until]:
            fault.undo()
            self.going_on.remove(fault)

    def _begin(self, target: str, undo: Callable[[], None], least_s: float, most_s: float) -> bool:
        self.going_on.append(
            _Fault(target=target, until=time.monotonic() + self.rng.uniform(least_s, most_s), undo=undo)
        )
        return True

    def _troubled(self, target: str) -> bool:
        return any(fault.target == target for fault in self.going_on)

    def _may_die(self, name: str) -> bool:
        """Return whether another kill of a child stays within `MAX_KILLS_PER_MINUTE` for the last 60 s.

        If so, count the kill.
        """
        now = time.monotonic()
        recent = [at for at in self._deaths.get(name, []) if now - at < 60]
        if len(recent) >= MAX_KILLS_PER_MINUTE:
            return False
        self._deaths[name] = [*recent, now]
        return True

    def _signal_worker(self, number: signal.Signals) -> bool:
        camera = self.rng.choice(list(self.cameras))
        pid = self.hub.camera(camera).pid
        if pid is None or not self._may_die(f"camera:{camera}"):
            return False
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return True

    def _kill_worker(self) -> bool:
        return self._signal_worker(signal.SIGKILL)

    def _freeze_worker(self) -> bool:
        return self._signal_worker(signal.SIGSTOP)  # the supervisor must detect and kill the worker

    def _kill(self, server: Server, name: str) -> bool:
        if self._troubled(name):
            return False
        server.kill()
        return self._begin(name, server.start, 1.0, 8.0)  # type: ignore[attr-defined]

    def _freeze(self, server: Server, name: str) -> bool:
        if self._troubled(name):
            return False
        server.suspend()
        return self._begin(name, server.resume, 2.0, 20.0)

    def _kill_camera(self) -> bool:
        number = self.rng.randrange(len(self.servers))
        return self._kill(self.servers[number], f"rtsp {number}")

    def _freeze_camera(self) -> bool:
        number = self.rng.randrange(len(self.servers))
        return self._freeze(self.servers[number], f"rtsp {number}")

    def _kill_service(self) -> bool:
        return self._kill(self.recorder, "service")

    def _freeze_service(self) -> bool:
        return self._freeze(self.recorder, "service")

    def _order(self, usual: dict[str, Any], least_s: float, most_s: float, **behavior: Any) -> bool:
        if self._troubled("service"):
            return False
        self.recorder.set_behavior(**behavior)
        return self._begin("service", lambda: self.recorder.set_behavior(**usual), least_s, most_s)

    def _close(self) -> bool:
        return self._order({"close_code": None}, 0.5, 3.0, close_code=self.rng.choice(CLOSE_CODES))

    def _refuse(self) -> bool:
        usual = {"status": 101, "headers": [], "close_code": None}
        rejection = {"status": self.rng.choice((429, 503)), "headers": [["Retry-After", "2"]], "close_code": 1011}
        return self._order(usual, 1.0, 5.0, **rejection)

    def _send_invalid(self) -> bool:
        answer = self.rng.choice(("garbage", "text", "unknown_frame", "twice", "none", "without_ids"))
        return self._order({"answer": "detection"}, 1.0, 4.0, answer=answer)

    def _kill_broker(self) -> bool:
        pid = self.hub.pid("broker")
        if pid is None or not self._may_die("broker"):
            return False
        with contextlib.suppress(psutil.Error):
            for program in psutil.Process(pid).children():
                program.kill()
        return True


def run(*, cameras: int, seconds: float, fault_every_s: float, seed: int) -> Outcome:
    """Run one soak in a temporary folder."""
    names = [f"camera-{number}" for number in range(cameras)]
    with tempfile.TemporaryDirectory(prefix="nvision-soak-") as folder, contextlib.ExitStack() as stack:
        servers = []
        for number in range(min(SERVERS, cameras)):
            own = Path(folder) / f"rtsp{number}"
            own.mkdir()
            mounts = {f"/{name}": CLIP for name in names[number::SERVERS]}
            server = GstCamera(folder=own, mounts=mounts)
            server.start()
            stack.callback(server.kill)
            servers.append(server)
        (Path(folder) / "service").mkdir()
        recorder = Recorder(folder=Path(folder) / "service", behavior={"latency_s": 0.05, "keep_frames": False})
        recorder.start()
        stack.callback(recorder.kill)
        listed = [
            {"id": name, "url": servers[number % SERVERS].url(f"/{name}"), "fps": FPS, "stall_timeout": 5}
            for number, name in enumerate(names)
        ]
        write(Path(folder), listed, recorder)
        ledger = FleetLedger()
        hub = Hub(folder=Path(folder), on_report=ledger.on_report)
        soak = Soak(
            hub=hub,
            recorder=recorder,
            servers=servers,
            cameras=names,
            rng=random.Random(seed),  # noqa: S311 - repeatable
        )
        try:
            hub.start()
            return _carry_out(soak, ledger, seconds, fault_every_s)
        finally:
            for each in (*servers, recorder):
                with contextlib.suppress(ProcessLookupError):
                    each.resume()
            end(hub)


def _carry_out(soak: Soak, ledger: FleetLedger, seconds: float, fault_every_s: float) -> Outcome:
    hub, names = soak.hub, soak.cameras
    for name in names:
        hub.wait_for_results(name, 5, 60)
    began = time.monotonic()
    samples = [_sample(hub, names, began)]
    due, sampled = began, began
    while (now := time.monotonic()) < began + seconds:
        soak.end_those_due(now)
        if now >= due:
            soak.inject()
            due = now + soak.rng.uniform(0.5, 1.5) * fault_every_s
        if now - sampled > max(5.0, seconds / 20):
            sampled = now
            samples.append(_sample(hub, names, began))
        _pass_time(hub, 0.1)
    soak.end_those_due(float("inf"))
    back_s = _all_back(hub, names)
    problems = []
    if back_s is None:
        states = ", ".join(f"{name} {hub.camera(name).state} ({hub.camera(name).error})" for name in names)
        problems.append(f"not all stream {BACK_TIMEOUT_S:.0f} s after the last fault: {states}")
    _pass_time(hub, 3.0)  # let workers recover results that killed workers left behind
    samples.append(_sample(hub, names, began))
    problems += _growth(samples)
    published = ledger.published()
    streamed = [event["hub"]["id"] for event in hub.events()]
    if len(set(streamed)) < published and "kill broker" not in soak.injected:
        problems.append(f"{published} results count as published, {len(set(streamed))} are in the stream")
    code = hub.stop()
    if code != 0:
        problems.append(f"the hub ended with exit code {code}")
    account = ledger.account([(each.source_id, each.frame_id) for each in soak.recorder.received()], streamed)
    if account.known.in_flight != account.frames_unknown or account.results_waiting:
        problems.append("frames are in flight although all processes have ended")
    return Outcome(
        account=account,
        faults=soak.injected,
        samples=samples,
        back_s=back_s,
        problems=problems + account.problems,
    )


def _sample(hub: Hub, names: Sequence[str], began: float) -> Sample:
    process = psutil.Process(hub.process.pid)
    return Sample(
        at=time.monotonic() - began,
        private_bytes=process.memory_full_info().uss,
        descriptors=process.num_fds(),
        threads=process.num_threads(),
        streaming=sum(hub.camera(name).state == "streaming" for name in names),
    )


def _growth(samples: Sequence[Sample]) -> list[str]:
    """Describe each resource of which the supervisor uses more after the last fault than before the first fault."""
    first, last = samples[0], samples[-1]
    grown = {
        "bytes of memory": (last.private_bytes - first.private_bytes, MEMORY_GROWTH_BYTES),
        "descriptors": (last.descriptors - first.descriptors, DESCRIPTORS_GROWTH),
        "threads": (last.threads - first.threads, THREADS_GROWTH),
    }
    return [f"the supervisor has {by} more {what} than at the start" for what, (by, most) in grown.items() if by > most]


def _all_back(hub: Hub, names: Sequence[str]) -> float | None:
    """Return the seconds until every camera streams and publishes again; None after a timeout."""
    began = time.monotonic()
    before = {name: (hub.camera(name).pid, hub.camera(name).total("results_published_total")) for name in names}

    def back(name: str) -> bool:
        camera = hub.camera(name)
        pid, published = before[name]
        new = camera.total("results_published_total") > (published if camera.pid == pid else 0)
        return camera.state == "streaming" and camera.pid is not None and new

    try:
        hub.wait_until(lambda: all(back(name) for name in names), BACK_TIMEOUT_S)
    except AssertionError:
        return None
    return time.monotonic() - began


def _pass_time(hub: Hub, seconds: float) -> None:
    with contextlib.suppress(subprocess.TimeoutExpired):
        hub.process.wait(seconds)
        raise RuntimeError(f"the hub has exited:\n{hub.log()[-4000:]}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench soak", description="A hub under random faults.")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--fault-every", type=float, default=5.0, help="seconds between faults, on average")
    parser.add_argument("--seed", type=int, default=None, help="repeats the same faults; random by default")
    given = parser.parse_args(arguments)
    seed = random.randrange(10**6) if given.seed is None else given.seed  # noqa: S311 - reported and repeatable
    print(f"seed {seed}", flush=True)
    outcome = run(cameras=given.cameras, seconds=60 * given.minutes, fault_every_s=given.fault_every, seed=seed)
    print(outcome.as_text())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
