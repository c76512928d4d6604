"""Environment variables that cameras.yaml refers to, kept from the hub's processes.

A process shows its environment in /proc, and its children inherit it. Before the hub starts, the program therefore
replaces itself by a new run of the same command, whose environment lacks these variables. They are in a memory file.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from nvision_hub.config.load import as_written
from nvision_hub.config.variables import referenced_variables
from nvision_hub.runtime.forked_call import call_in_child
from nvision_hub.runtime.memory_file import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DESCRIPTOR_VARIABLE: Final = "NVISION_HUB_SECRET_VARIABLES"

_TIMEOUT_S: Final = 60.0


def secret_variables(path: Path) -> MemoryFile | None:
    """Return the variables that the file refers to, as JSON in a memory file; None if none of them is set.

    If some are set, this function does not return, but runs the command again. Raises `HubError`.
    """
    descriptor = os.environ.pop(DESCRIPTOR_VARIABLE, None)
    if descriptor is not None:
        os.set_inheritable(int(descriptor), False)  # noqa: FBT003 - the name says what it means
        return MemoryFile(int(descriptor))
    names, _ = call_in_child(partial(_referenced, path), timeout_s=_TIMEOUT_S)
    values = {name: os.environ[name] for name in names if name in os.environ}
    if values:
        _run_again_without(values)
    return None


def _run_again_without(values: Mapping[str, str]) -> NoReturn:
    file = MemoryFile.create(json.dumps(values).encode())
    os.set_inheritable(file.fileno(), True)  # noqa: FBT003 - likewise
    environ = {name: value for name, value in os.environ.items() if name not in values}
    environ[DESCRIPTOR_VARIABLE] = str(file.fileno())
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - this program itself


def _referenced(path: Path) -> tuple[set[str], tuple[()]]:
    tree, _ = as_written(path)
    return {name for _, node in tree.scalars() for name in referenced_variables(node.text or "")}, ()
