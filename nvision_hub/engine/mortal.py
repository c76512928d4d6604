"""Runs a program that dies with whoever started it: `python -m nvision_hub.engine.mortal PARENT PROGRAM ARGUMENTS...`.

A step of its own, because the starter has threads, in which no code of ours may run between fork and exec.
"""

from __future__ import annotations

import os
import sys

from nvision_hub.lifeline import die_with_parent

if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]))
    os.execv(sys.argv[2], sys.argv[2:])  # noqa: S606 - the request survives an exec, and there is no shell to want
