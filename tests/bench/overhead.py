"""What a supervisor and its gateway cost beside a hundred cameras that only report, while nobody looks.

The supervisor and the gateway are the real ones, each a process of its own; the hundred are real children whose
reports are as large as a camera's are and grow as theirs do. What the children cost themselves is not counted.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import random
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psutil

from nvision_hub import logs
from nvision_hub.broker.publisher import Stream
from nvision_hub.child import ChildSpec
from nvision_hub.status import Status
from nvision_hub.supervisor import Supervisor
from tests.bench.bench import cpu_s, wait
from tests.bench.report import Goal, Report
from tests.bench.scrape import SyntheticCamera
from tests.support.gateway import facts
from tests.support.redis_server import KeptValkey
from workers.gateway import gateway

if TYPE_CHECKING:
    from nvision_hub.link import Link

CAMERAS: Final = 100
MOST_PERCENT: Final = 10.0  # of a core: 0.1 % for each camera
_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 60.0


def reports(name: str, link: Link) -> None:
    """A child that reports as a camera does, and does nothing else."""
    camera = SyntheticCamera(name, random.Random(name))  # noqa: S311 - sizes, no secrets
    asyncio.run(link.run(lambda: Status.decode(camera.second())))


def supervise(redis_url: str) -> None:
    """Be the supervisor, until SIGTERM; a line on standard output once all are ready."""
    multiprocessing.set_start_method("fork")
    logs.set_up()
    own = gateway.GatewaySettings(
        host="127.0.0.1",
        port=0,
        loopback=True,
        site="bench",
        stream=Stream(url=redis_url, prefix="nvision", max_entries=1000),
    )
    specs = [ChildSpec(name="gateway", stage=0, entry=gateway.run, settings=own, overseer=True)]
    for number in range(CAMERAS):
        name = f"camera-{number:03}"
        told = {**facts(name), "index": number}
        specs.append(ChildSpec(name=f"camera:{name}", stage=1, entry=reports, settings=name, facts=told))
    told_of = False

    def watch(members: Any) -> None:
        nonlocal told_of
        if not told_of and all(member.ready for member in members):
            told_of = True
            pids = {member.spec.name: member.pid for member in members}
            print(json.dumps({"gateway": pids["gateway"]}), flush=True)

    Supervisor(specs, watch=watch).run()


def run(*, quick: bool) -> Report:
    """Both, for a while."""
    seconds = 10 if quick else 60
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as folder:
        broker = KeptValkey(folder=Path(folder))
        broker.start()
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.bench.overhead", broker.url], cwd=_ROOT, stdout=subprocess.PIPE, text=True
        )
        try:
            return _measured(process, seconds)
        finally:
            process.terminate()
            process.wait(_START_S)
            broker.close()


def _measured(process: subprocess.Popen[str], seconds: float) -> Report:
    assert process.stdout is not None
    pids = json.loads(process.stdout.readline())
    both = {"supervisor": psutil.Process(process.pid), "gateway": psutil.Process(pids["gateway"])}
    wait(3.0)  # what a start costs is over
    before = {name: cpu_s(each) for name, each in both.items()}
    wait(seconds)
    percent = {name: 100 * (cpu_s(each) - before[name]) / seconds for name, each in both.items()}
    report = Report(name="overhead", columns=[f"beside {CAMERAS} cameras, nobody watching", "% of a core"])
    report.rows += [[name, f"{value:.2f}"] for name, value in percent.items()]
    report.rows.append(["both, for each camera", f"{sum(percent.values()) / CAMERAS:.4f}"])
    report.goals.append(
        Goal(what="supervisor and gateway, % of a core", value=sum(percent.values()), at_most=MOST_PERCENT)
    )
    return report


if __name__ == "__main__":
    supervise(sys.argv[1])
