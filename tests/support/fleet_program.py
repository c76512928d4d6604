"""A supervisor with children of `children.py`: the plan is JSON on the command line, what it knows a line of JSON each.

{"children": [{"name": "a", "stage": 0, "entry": "steady", "settings": null}], "limits": {"drain_s": 1.0}}
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import threading
import time
from dataclasses import asdict
from typing import TYPE_CHECKING

from nvision_hub import logs
from nvision_hub.child import ChildSpec
from nvision_hub.supervisor import Limits, Supervisor
from tests.support.children import ENTRIES

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.supervisor import Member


def show(members: Sequence[Member]) -> None:
    """One line: the members, and what the supervisor itself uses."""
    told = {
        member.spec.name: {
            "phase": member.phase,
            "pid": member.pid,
            "ready": member.ready,
            "restarts": member.restarts,
            "crash_loop": member.crash_loop,
            "status": None if member.status is None else asdict(member.status),
        }
        for member in members
    }
    own = {
        "at": time.monotonic(),
        "cpu_s": time.process_time(),
        "descriptors": len(os.listdir("/proc/self/fd")),  # noqa: PTH208 - names are enough, a hundred times
        "threads": threading.active_count(),
    }
    print(json.dumps({"members": told, "own": own}), flush=True)


def main() -> None:
    multiprocessing.set_start_method("fork")
    logs.set_up()
    plan = json.loads(sys.argv[1])
    specs = [
        ChildSpec(
            name=c["name"],
            stage=c["stage"],
            entry=ENTRIES[c["entry"]],
            settings=c["settings"],
            overseer=c["entry"] == "oversees",
            facts={"entry": c["entry"]},
        )
        for c in plan["children"]
    ]
    supervisor = Supervisor(specs, limits=Limits(**plan["limits"]), watch=show)
    print(json.dumps({"begins": True}), flush=True)
    stopped_by = supervisor.run()
    print(json.dumps({"stopped_by": stopped_by.name}), flush=True)


if __name__ == "__main__":
    main()
