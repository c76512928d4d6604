"""Measure the CPU use of the supervisor and the gateway for a hundred cameras, without viewers.

The supervisor and the gateway are real processes. The cameras are child processes that only send status reports of
realistic size. Their own CPU use does not count.
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

from nvision_hub.broker.client import RedisSettings
from nvision_hub.logs.setup import set_up
from nvision_hub.runtime.messages import decode
from nvision_hub.runtime.process import ProcessSpec
from nvision_hub.runtime.status import Status
from nvision_hub.supervisor.supervisor import Supervisor
from tests.bench.bench import cpu_s, wait
from tests.bench.report import Goal, Report
from tests.bench.scrape import SyntheticCamera
from tests.support.gateway import facts
from tests.support.observers import TickObserver
from tests.support.redis_server import KeptValkey
from workers import gateway
from workers.gateway.settings import GatewaySettings

if TYPE_CHECKING:
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

CAMERAS: Final = 100
MAX_PERCENT: Final = 10.0  # percent of a core; 0.1 % per camera
_ROOT: Final = Path(__file__).parents[2]
_START_S: Final = 60.0


def reports(name: str, pipe: SupervisorPipe) -> None:
    """Send status reports like a camera worker, and do nothing else."""
    camera = SyntheticCamera(name, random.Random(name))  # noqa: S311 - determines sizes, not secrets

    def snapshot() -> Status:
        status = decode(camera.second())
        assert isinstance(status, Status)
        return status

    asyncio.run(pipe.serve(snapshot))


def supervise(redis_url: str) -> None:
    """Run the supervisor until SIGTERM. Print a line when all children are ready."""
    multiprocessing.set_start_method("fork")
    set_up()
    own = GatewaySettings(
        host="127.0.0.1",
        port=0,
        loopback=True,
        site="bench",
        stream=RedisSettings(url=redis_url, prefix="nvision", max_entries=1000),
    )
    specs = [ProcessSpec(name="gateway", stage=0, entry=gateway.run, settings=own, subscriber=True)]
    for number in range(CAMERAS):
        name = f"camera-{number:03}"
        specs.append(
            ProcessSpec(name=f"camera:{name}", stage=1, entry=reports, settings=name, facts=facts(name, index=number))
        )
    printed = False

    def watch(members: Any) -> None:
        nonlocal printed
        if not printed and all(member.ready for member in members):
            printed = True
            pids = {member.spec.name: member.pid for member in members}
            print(json.dumps({"gateway": pids["gateway"]}), flush=True)

    Supervisor(specs, observer=TickObserver(watch)).run()


def run(*, quick: bool) -> Report:
    """Measure the supervisor and the gateway."""
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
    wait(3.0)  # the start costs extra CPU time
    before = {name: cpu_s(each) for name, each in both.items()}
    wait(seconds)
    percent = {name: 100 * (cpu_s(each) - before[name]) / seconds for name, each in both.items()}
    report = Report(name="overhead", columns=[f"with {CAMERAS} cameras, no viewers", "% of a core"])
    report.rows += [[name, f"{value:.2f}"] for name, value in percent.items()]
    report.rows.append(["both, per camera", f"{sum(percent.values()) / CAMERAS:.4f}"])
    report.goals.append(
        Goal(what="supervisor and gateway, % of a core", value=sum(percent.values()), at_most=MAX_PERCENT)
    )
    return report


if __name__ == "__main__":
    supervise(sys.argv[1])
