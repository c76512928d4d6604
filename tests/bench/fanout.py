"""A hub whose broker, webhook dispatcher and one endpoint are killed again and again: does every result arrive?

`python -m tests.bench fanout --cameras 8 --rate 100 --minutes 5 --kill-every 10`. A real hub with its own broker,
GStreamer cameras, a service that answers every picture and writes it down, and three endpoints, of which one is killed
with the others and comes back. Prints the ledger: what the service answered, what is in the stream, what each endpoint
took. Exit code 1 where one result is missing in the stream or at an endpoint that was never killed.
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
AWAY_S: Final = 2.0  # how long the killed endpoint stays away
REST_WITHIN_S: Final = 60.0
# The dispatcher that dies so often has its crash-loop breaker open, and is tried once a minute.
ARRIVED_WITHIN_S: Final = 240.0


@dataclass(kw_only=True)
class Outcome:
    """What became of the results, by their ids."""

    answered: set[str]  # by the service
    streamed: Counter[str]
    taken: dict[str, Counter[str]]  # by each endpoint
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
                self.problems.append(f"{strangers} results are of pictures that the service never had: {place}")

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
        return "\n".join([*lines, "NOT PASSED" if self.problems else "passed: nothing is lost"])


@dataclass(kw_only=True)
class Fanout:
    """The hub and its peers."""

    hub: Hub
    camera: GstCamera
    recorder: Recorder
    receivers: dict[str, Receiver]
    names: Sequence[str]
    kills: Counter[str] = field(default_factory=Counter)

    def hurt(self) -> None:
        """Kill what is to be killed. The endpoint is away until `mend`."""
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

    def mend(self) -> None:
        """The endpoint comes back."""
        self.receivers[KILLED].start()

    def all_answered(self) -> set[str]:
        """End the pictures; what the service has answered, once it has answered all of them."""
        self.camera.kill()
        for name in self.names:
            self._wait_for_rest(name)
        return {each.frame_id for each in self.recorder.received()}

    def _wait_for_rest(self, name: str) -> None:
        def rests() -> bool:
            camera = self.hub.camera(name)
            return camera.state != "streaming" and camera.total("frames_in_flight") == 0

        self.hub.wait_until(rests, REST_WITHIN_S)

    def arrived(self, count: int) -> None:
        """Wait until so many results may be everywhere, or have had their time."""
        deadline = time.monotonic() + ARRIVED_WITHIN_S
        while time.monotonic() < deadline:
            pass_time(self.hub, 1.0)
            if all(self.receivers[name].count() >= count for name in HEALTHY) and all(
                len(set(self.receivers[name].taken())) >= count for name in HEALTHY
            ):
                return


def pass_time(hub: Hub, seconds: float) -> None:
    """Let the hub run; one that ends by itself is an error."""
    with contextlib.suppress(subprocess.TimeoutExpired):
        hub.process.wait(seconds)
        raise RuntimeError(f"the hub has ended by itself:\n{hub.log()[-4000:]}")


def run(*, cameras: int, rate: float, seconds: float, kill_every_s: float) -> Outcome:
    """Once, in a folder of its own; `rate` is results a second of all cameras together."""
    names = [f"camera-{number}" for number in range(cameras)]
    with tempfile.TemporaryDirectory(prefix="nvision-fanout-") as folder, contextlib.ExitStack() as stack:

        def own(name: str) -> Path:
            place = Path(folder, name)
            place.mkdir()
            return place

        camera = GstCamera(folder=own("rtsp"), mounts={f"/{name}": CLIP for name in names})
        recorder = Recorder(folder=own("service"), behaviour={"keep_pictures": False})
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
        fanout.hurt()
        pass_time(hub, AWAY_S)
        fanout.mend()
    took_s = time.monotonic() - began
    answered = fanout.all_answered()
    fanout.arrived(len(answered))
    streamed = Counter(event["hub"]["id"] for event in hub.events())
    taken = {name: Counter(receiver.taken()) for name, receiver in fanout.receivers.items()}
    return Outcome(answered=answered, streamed=streamed, taken=taken, kills=fanout.kills, seconds=took_s)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench fanout", description="Results among killed peers.")
    parser.add_argument("--cameras", type=int, default=8)
    parser.add_argument("--rate", type=float, default=100.0, help="results a second of all cameras together")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--kill-every", type=float, default=10.0, help="seconds")
    given = parser.parse_args(arguments)
    outcome = run(cameras=given.cameras, rate=given.rate, seconds=60 * given.minutes, kill_every_s=given.kill_every)
    print(outcome.as_text())
    return 1 if outcome.problems else 0


if __name__ == "__main__":
    sys.exit(main())
