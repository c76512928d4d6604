"""Ray cluster on one machine, in its own process: a head node without CPUs, and nodes with labels.

Usage: `python -m tests.support.ray_cluster_program`, with Ray's variables such as RAY_AUTH_MODE in the environment.
When the head node runs, the program prints a line of JSON, `{"address": ...}`. It answers each line on standard input:

    {"add": "east", "labels": {"zone": "east"}, "cpus": 4}    {"remove": "east"}    {"status": "<actor's name>"}

When standard input closes, the program ends every process of the cluster and exits.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import sys
from dataclasses import asdict
from typing import Any, Final

import ray
from ray.cluster_utils import Cluster
from ray.exceptions import RayError

# Ray ends a node whose agents need more than 15 s to start (node_manager.cc), as on a busy machine.
START_ATTEMPTS: Final = 5


class Nodes:
    def __init__(self) -> None:
        self.cluster: Any = Cluster()
        self._nodes: dict[str, Any] = {}

    def add(self, cpus: int, labels: dict[str, str]) -> Any:
        for _ in range(START_ATTEMPTS - 1):
            with contextlib.suppress(Exception):  # Ray raises no more specific class
                return self._add(cpus, labels)
        return self._add(cpus, labels)

    def _add(self, cpus: int, labels: dict[str, str]) -> Any:
        return self.cluster.add_node(
            num_cpus=cpus,
            labels=labels,
            node_ip_address="127.0.0.1",
            object_store_memory=80 * 2**20,
            include_dashboard=False,
            include_log_monitor=False,  # fewer processes make the agents start sooner
            no_monitor=True,
        )

    def execute(self, command: dict[str, Any]) -> dict[str, Any]:
        if "add" in command:
            node = self._nodes[command["add"]] = self.add(command["cpus"], command["labels"])
            return {"node": node.node_id}
        if "remove" in command:
            self.cluster.remove_node(self._nodes.pop(command["remove"]), allow_graceful=False)
            return {}
        return _status(command["status"])


def _status(name: str) -> dict[str, Any]:
    try:
        actor: Any = ray.get_actor(name)
        reply: Any = actor.status.remote()
        return asdict(ray.get(reply, timeout=5))
    except (RayError, ValueError) as error:
        return {"error": str(error)}


def main() -> None:
    replies = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = sys.stderr  # keep Ray's output separate from the replies
    nodes = Nodes()
    nodes.add(0, {})
    ray.init(address=nodes.cluster.address, namespace="nvision-hub", log_to_driver=False, logging_level=logging.ERROR)
    replies.write(json.dumps({"address": nodes.cluster.address}) + "\n")
    for line in sys.stdin:
        replies.write(json.dumps(nodes.execute(json.loads(line))) + "\n")
    ray.shutdown()
    nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
