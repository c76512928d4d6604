"""Environment variables that cameras.yaml refers to: `start` keeps them from the environment of the hub's processes."""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

import psutil
import pytest

from nvision_hub.hub.secret_variables import DESCRIPTOR_VARIABLE
from tests.support import command, hub
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running

DEMO = {"id": "street", "url": "demo://street"}


@pytest.mark.long
def test_only_secret_variables_leave_the_environment(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    hub.write(tmp_path, [DEMO], None, site="${SITE}", state_dir="${XDG_RUNTIME_DIR}/state")
    variables = {"SITE": "a-canary", "XDG_RUNTIME_DIR": str(tmp_path)}
    running = start_command("start", cwd=tmp_path, env=variables)
    running.wait_for(lambda: "camera:street  streaming" in running.err)
    environ = psutil.Process(running.process.pid).environ()  # the children's is overwritten with their process titles
    assert environ["XDG_RUNTIME_DIR"] == str(tmp_path)
    assert "SITE" not in environ


def test_ctrl_c_during_the_second_import_prints_no_traceback(
    tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    hub.write(tmp_path, [DEMO], None, site="${SITE}")
    running = start_command("start", cwd=tmp_path, env={"SITE": "here"})
    process = psutil.Process(running.process.pid)
    deadline = time.monotonic() + PATIENCE_S
    while DESCRIPTOR_VARIABLE not in process.environ():
        assert time.monotonic() < deadline, "the program does not run itself again"
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    assert running.wait() == 130
    assert running.err == ""


def test_a_pipe_is_rejected(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "cameras.yaml")
    done = command.run("start", "cameras.yaml", cwd=tmp_path)
    assert done.returncode == 78
    assert done.stderr.startswith("cameras.yaml: is not a regular file, ")


@pytest.mark.parametrize("value", ["", "x", "99999"])
def test_a_foreign_descriptor_is_rejected(tmp_path: Path, value: str) -> None:
    hub.write(tmp_path, [DEMO], None)
    done = command.run("start", cwd=tmp_path, env={DESCRIPTOR_VARIABLE: value})
    assert done.returncode == 1
    assert (
        done.stderr
        == f"nvision-hub: the environment variable {DESCRIPTOR_VARIABLE} is for the hub's own use; unset it\n"
    )
