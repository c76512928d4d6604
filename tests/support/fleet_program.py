"""A supervisor with children from `children.py`. The plan is JSON on the command line. Each report is one line of JSON.

{"children": [{"name": "a", "stage": 0, "entry": "steady", "settings": null}], "limits": {"drain_s": 1.0}}
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

from nvision_hub.logs.setup import set_up
from nvision_hub.runtime.messages import HubFacts, encode
from nvision_hub.runtime.process import ProcessSpec
from nvision_hub.supervisor.process_state import SupervisorLimits
from nvision_hub.supervisor.supervisor import Supervisor
from tests.support import children
from tests.support.observers import TickObserver

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
    from nvision_hub.supervisor.process_state import ProcessState


def entry_of(name: str) -> Callable[[Any, SupervisorPipe], int | None]:
    """Return the entry point with this name."""
    if name in children.ENTRIES:
        return children.ENTRIES[name]
    from tests.support import hostile_children  # noqa: PLC0415 - loads codecs; most fleets start twice as fast without

    return hostile_children.ENTRIES[name]


def show(members: Sequence[ProcessState]) -> None:
    """Print one line with all children and the resources of the supervisor itself."""
    processes = {
        member.spec.name: {
            "phase": member.phase,
            "pid": member.pid,
            "ready": member.ready,
            "restarts": member.restarts,
            "crash_loop": member.crash_loop,
            "status": None if member.status is None else json.loads(encode(member.status).partition(b" ")[2]),
        }
        for member in members
    }
    own = {
        "at": time.monotonic(),
        "cpu_s": time.process_time(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are enough; runs a hundred times
        "threads": threading.active_count(),
    }
    print(json.dumps({"members": processes, "own": own}), flush=True)


def main() -> None:
    multiprocessing.set_start_method("fork")
    set_up()
    plan = json.loads(sys.argv[1])
    specs = [
        ProcessSpec(
            name=c["name"],
            stage=c["stage"],
            entry=entry_of(c["entry"]),
            settings=c["settings"],
            subscriber=c["entry"] == "subscribes",
            facts=HubFacts(site=c["name"], version=c["entry"]),
        )
        for c in plan["children"]
    ]
    supervisor = Supervisor(specs, limits=SupervisorLimits(**plan["limits"]), observer=TickObserver(show))
    print(json.dumps({"begins": True}), flush=True)
    stopped_by = supervisor.run()
    print(json.dumps({"stopped_by": stopped_by.name}), flush=True)


if __name__ == "__main__":
    main()
