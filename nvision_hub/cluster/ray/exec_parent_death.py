"""Run a program that the kernel kills when the program's parent dies.

Usage: `python -m nvision_hub.cluster.ray.exec_parent_death PARENT_PID PROGRAM ARGUMENTS...`.

This module is a separate program: its parent has threads, so the parent must not run Python code between fork and exec.
"""

from __future__ import annotations

import os
import sys

from nvision_hub.runtime.forked_child import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the request to the kernel survives exec; no shell needed
