"""Environment variables in cameras.yaml that must stay out of the environment of the hub's processes.

The environment of a process is visible in /proc, and child processes inherit it. Before the hub starts, the program
therefore replaces itself with a new run of the same command. A memory file passes the variables to the new run.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from functools import partial
from typing import TYPE_CHECKING, Final, NoReturn

from nvision_hub.cluster.identity import VARIABLE as GROUP_VARIABLE
from nvision_hub.config.load import as_written
from nvision_hub.config.variables import referenced_variables
from nvision_hub.errors import ConfigError, Diagnostic, HubError
from nvision_hub.runtime.forked_call import call_in_child
from nvision_hub.runtime.memory_file import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

DESCRIPTOR_VARIABLE: Final = "NVISION_HUB_SECRET_VARIABLES"

# Variables that the hub's processes and their libraries read. `state_dir` may refer to some of these variables.
_NOT_SECRET: Final = frozenset(
    {
        "HOME",
        "LANG",
        "LOGNAME",
        "PATH",
        "RUNTIME_DIRECTORY",
        "STATE_DIRECTORY",
        "TMPDIR",
        "TZ",
        "USER",
        "XDG_CACHE_HOME",
        "XDG_RUNTIME_DIR",
        GROUP_VARIABLE,
    }
)
_TIMEOUT_S: Final = 60.0


def secret_variables(path: Path) -> MemoryFile | None:
    """Return the variables to which the file refers as JSON in a memory file; None if none of them is set.

    If a variable is set in the environment, this function does not return. It runs the command again instead. Raises
    `HubError`.
    """
    descriptor = os.environ.pop(DESCRIPTOR_VARIABLE, None)
    if descriptor is not None:
        return _received(descriptor)
    if path.exists() and not path.is_file() and not path.is_dir():
        message, fix = "is not a regular file, and `start` reads it several times", "copy its content into a file"
        raise ConfigError([Diagnostic(code="file_unreadable", message=message, fix=fix, file=str(path))])
    names, _ = call_in_child(partial(_referenced, path), timeout_s=_TIMEOUT_S)
    values = {name: os.environ[name] for name in names - _NOT_SECRET if name in os.environ}
    if values:
        _run_again_without(values)
    return None


def _received(descriptor: str) -> MemoryFile:
    try:
        os.set_inheritable(int(descriptor), False)  # noqa: FBT003 - the name says what it means
        file = MemoryFile(int(descriptor))
    except (ValueError, OSError) as error:
        raise HubError(f"the environment variable {DESCRIPTOR_VARIABLE} is for the hub's own use; unset it") from error
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})  # undo the block of `_run_again_without`
    return file


def _run_again_without(values: Mapping[str, str]) -> NoReturn:
    file = MemoryFile.create(json.dumps(values).encode())
    os.set_inheritable(file.fileno(), True)  # noqa: FBT003 - likewise
    environ = {name: value for name, value in os.environ.items() if name not in values}
    environ[DESCRIPTOR_VARIABLE] = str(file.fileno())
    # Without this, Ctrl-C would print a traceback while the new run imports its modules.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environ)  # noqa: S606 - this program itself


def _referenced(path: Path) -> tuple[set[str], tuple[()]]:
    tree, _ = as_written(path)
    return {name for _, node in tree.scalars() for name in referenced_variables(node.text or "")}, ()
