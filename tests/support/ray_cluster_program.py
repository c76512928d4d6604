"""A Ray cluster of one machine, in a process of its own: a head without CPUs, and nodes with labels.

Usage: `python -m tests.support.ray_cluster_program`, with RAY_AUTH_MODE and the rest in its environment. Prints one
line of JSON, `{"address": ...}`, once its head runs. Orders are lines on standard input, each answered by one line:

    {"add": "east", "labels": {"zone": "east"}, "cpus": 4}    {"remove": "east"}    {"told": "<actor's name>"}

Ends with standard input, and takes every process of the cluster along.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from typing import Any

import ray
from ray.cluster_utils import Cluster
from ray.exceptions import RayError


class Nodes:
    def __init__(self) -> None:
        self.cluster: Any = Cluster()
        self._nodes: dict[str, Any] = {}

    def add(self, cpus: int, labels: dict[str, str]) -> Any:
        return self.cluster.add_node(
            num_cpus=cpus,
            labels=labels,
            node_ip_address="127.0.0.1",
            object_store_memory=80 * 2**20,
            include_dashboard=False,
        )

    def obey(self, order: dict[str, Any]) -> dict[str, Any]:
        if "add" in order:
            node = self._nodes[order["add"]] = self.add(order["cpus"], order["labels"])
            return {"node": node.node_id}
        if "remove" in order:
            self.cluster.remove_node(self._nodes.pop(order["remove"]), allow_graceful=False)
            return {}
        return _told(order["told"])


def _told(name: str) -> dict[str, Any]:
    answer: Any
    try:
        answer = ray.get(ray.get_actor(name).told.remote(), timeout=5)
    except (RayError, ValueError) as error:
        answer = {"error": str(error)}
    return dict(answer)


def main() -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    sys.stdout = sys.stderr  # where Ray may print what it likes
    nodes = Nodes()
    nodes.add(0, {})
    ray.init(address=nodes.cluster.address, namespace="nvision-hub", log_to_driver=False, logging_level=logging.ERROR)
    answers.write(json.dumps({"address": nodes.cluster.address}) + "\n")
    for line in sys.stdin:
        answers.write(json.dumps(nodes.obey(json.loads(line))) + "\n")
    ray.shutdown()
    nodes.cluster.shutdown()


if __name__ == "__main__":
    main()
