"""Check that every result arrives while a hub's broker, its dispatcher and one endpoint are killed repeatedly.

`python -m tests.bench fanout --cameras 8 --rate 100 --minutes 5 --kill-every 10`. The benchmark runs a real hub with
its own broker, GStreamer cameras, a service and three endpoints. The service answers and records every frame. The
benchmark also restarts the killed endpoint. It prints the ledger: results sent by the service, results in the stream,
and results accepted by each endpoint. The exit code is 1 if a result is missing in the stream or at an endpoint that
was never killed.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil

from tests.support.clips import ClipSpec
from tests.support.hub import Hub, end, write
from tests.support.receiver import SECRET, Receiver
from tests.support.recorder import Recorder
from tests.support.rtsp import GstCamera

if TYPE_CHECKING:
    from collections.abc import Sequence

CLIP: Final = ClipSpec(codec="h264", width=320, height=240, kbit_s=300, gop_s=1.0, seconds=2)
HEALTHY: Final = ("alarms", "archive")
KILLED: Final = "sick"
AWAY_S: Final = 2.0  # how long the killed endpoint stays down
REST_TIMEOUT_S: Final = 60.0
# The kills put the dispatcher in a crash loop, so it then restarts only once a minute.
ARRIVED_TIMEOUT_S: Final = 240.0


@dataclass(kw_only=True)
class Outcome:
    """Ids of the results at each stage."""

    answered: set[str]  # results that the service has sent
    streamed: Counter[str]
    taken: dict[str, Counter[str]]  # results that each endpoint has accepted
    kills: Counter[str]
    seconds: float
    problems: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        places = {"the stream": self.streamed, **{name: self.taken[name] for name in HEALTHY}}
        for place, found in places.items():
            if missing := len(self.answered - found.keys()):
                self.problems.append(f"{missing} results are missing: {place}")
        for place, found in {**places, KILLED: self.taken[KILLED]}.items():
            if strangers := len(found.keys() - self.answered):
                self.problems.append(f"{strangers} results belong to frames that the service never received: {place}")

    def as_text(self) -> str:
        kills = ", ".join(f"{what} {number} times" for what, number in self.kills.items())
        lines = [
            f"killed: {kills}, in {self.seconds:.0f} s",
            "",
            "| | different results | more than once |",
            "|---|---|---|",
            f"| answered by the service | {len(self.answered):,} | |",
            *(
                f"| {place} | {len(found):,} | {found.total() - len(found):,} |"
                for place, found in {"in the stream": self.streamed, **self.taken}.items()
            ),
            "",
            *(f"PROBLEM: {problem}" for problem in self.problems),
        ]
        return "\n".join([*lines, "NOT PASSED" if self.problems else "passed: no result is lost"])


@dataclass(kw_only=True)
class Fanout:
    """The hub, its cameras, its service and its endpoints."""

    hub: Hub
    camera: GstCamera
    recorder: Recorder
    receivers: dict[str, Receiver]
    names: Sequence[str]
    kills: Counter[str] = field(default_factory=Counter)

    def kill(self) -> None:
        """Kill the broker, the dispatcher and one endpoint. The endpoint stays down until `restore` is called."""
        broker, dispatcher = self.hub.pid("broker"), self.hub.pid("webhooks")
        if broker is not None:
            with contextlib.suppress(psutil.Error):
                for program in psutil.Process(broker).children():
                    program.kill()
                    self.kills["the broker"] += 1
        if dispatcher is not None:
            with contextlib.suppress(psutil.Error):
                psutil.Process(dispatcher).kill()
                self.kills["the dispatcher"] += 1
        self.receivers[KILLED].kill()
        self.kills["an endpoint"] += 1

    def restore(self) -> None:
        """Restart the endpoint."""
        self.receivers[KILLED].start()

    def all_answered(self) -> set[str]:
        """Stop the cameras and wait until the service has answered every frame. Return the ids of the results."""
        self.camera.kill()
        for name in self.names:
            self._wait_for_rest(name)
        return {each.frame_id for each in self.recorder.received()}

    def _wait_for_rest(self, name: str) -> None:
        def rests() -> bool:
            camera = self.hub.camera(name)
            return camera.state != "streaming" and camera.total("frames_in_flight") == 0

        self.hub.wait_until(rests, REST_TIMEOUT_S)

    def arrived(self, count: int) -> None:
        """Wait until the endpoints that were never killed have all results, or until a deadline has passed."""
        deadline = time.monotonic() + ARRIVED_TIMEOUT_S
        while time.monotonic() < deadline:
            pass_time(self.hub, 1.0)
            if all(self.receivers[name].count() >= count for name in HEALTHY) and all(
                len(set(self.receivers[name].accepted())) >= count for name in HEALTHY
            ):
                return


def pass_time(hub: Hub, seconds: float) -> None:
    """Let the hub run. Fail if it exits."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        hub.process.wait(seconds)
        raise RuntimeError(f"the hub has exited:\n{hub.log()[-4000:]}")


def run(*, cameras: int, rate: float, seconds: float, kill_every_s: float) -> Outcome:
    """Run once in a temporary folder. `rate` is in results per second, for all cameras together."""
    names = [f"camera-{number}" for number in range(cameras)]
    with tempfile.TemporaryDirectory(prefix="nvision-fanout-") as folder, contextlib.ExitStack() as stack:

        def own(name: str) -> Path:
            place = Path(folder, name)
            place.mkdir()
            return place

        camera = GstCamera(folder=own("rtsp"), mounts={f"/{name}": CLIP for name in names})
        recorder = Recorder(folder=own("service"), behavior={"keep_frames": False})
        receivers = {name: Receiver(folder=own(name)) for name in (*HEALTHY, KILLED)}
        servers: list[GstCamera | Recorder | Receiver] = [camera, recorder, *receivers.values()]
        for server in servers:
            server.start()
            stack.callback(server.kill)
        listed = [{"id": name, "url": camera.url(f"/{name}"), "fps": rate / cameras} for name in names]
        webhooks = [
            {"id": name, "url": each.url(), "secret": SECRET, "allow_private": True} for name, each in receivers.items()
        ]
        write(Path(folder), listed, recorder, webhooks=webhooks)
        hub = Hub(folder=Path(folder))
        stack.callback(end, hub)
        hub.start()
        fanout = Fanout(hub=hub, camera=camera, recorder=recorder, receivers=receivers, names=names)
        return _carry_out(fanout, seconds, kill_every_s)


def _carry_out(fanout: Fanout, seconds: float, kill_every_s: float) -> Outcome:
    hub = fanout.hub
    for name in fanout.names:
        hub.wait_for_results(name, 5, 60)
    began = time.monotonic()
    while time.monotonic() - began < seconds:
        pass_time(hub, kill_every_s - AWAY_S)
        fanout.kill()
        pass_time(hub, AWAY_S)
        fanout.restore()
    took_s = time.monotonic() - began
    answered = fanout.all_answered()
    fanout.arrived(len(answered))
    streamed = Counter(event["hub"]["id"] for event in hub.events())
    taken = {name: Counter(receiver.accepted()) for name, receiver in fanout.receivers.items()}
    return Outcome(answered=answered, streamed=streamed, taken=taken, kills=fanout.kills, seconds=took_s)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench fanout", description="Check results despite kills.")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--rate", type=float, default=100.0, help="results per second of all cameras together")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kill-every", type=float, default=10.0, help="seconds between kills")
    given = parser.parse_args(arguments)
    outcome = run(cameras=given.cameras, rate=given.rate, seconds=60 * given.minutes, kill_every_s=given.kill_every)
    print(outcome.as_text())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
