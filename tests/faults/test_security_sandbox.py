"""A camera worker that an attacker controls tries to leave its process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from nvision_hub.runtime import landlock
from tests.support.command import environment
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.fleet import Fleet
    from tests.support.hub import Hub

pytestmark = pytest.mark.fault

DEMO: Final = {"id": "street", "url": "demo://street"}


def attempted(fleet: Fleet) -> dict[str, str | None]:
    """Return the error of each attempt of the child `a`; None for an attempt that succeeded."""

    def found() -> list[str]:
        return [line.removeprefix("attempted ") for line in fleet.lines("a") if line.startswith("attempted ")]

    fleet.wait_until(lambda: bool(found()))
    errors: dict[str, str | None] = json.loads(found()[0])
    return errors


def test_a_restricted_worker_reaches_no_other_process_or_program(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": ("attempts_system_calls", {"restricted": True})})
    errors = attempted(fleet)
    fleet.ready()
    if not landlock.version():  # only Landlock protects these files
        errors = {name: error for name, error in errors.items() if not name.startswith("open ")}
    assert {name: error for name, error in errors.items() if error not in {"EPERM", "EACCES"}} == {}
    assert "threads start" in fleet.lines("a")
    assert fleet.members["a"]["restarts"] == 0
    fleet.stop_with()
    measured(
        78,
        "worker under an attacker's control leaves its process",
        injected=f"{len(errors)} attempts of a restricted worker: ptrace, process_vm_readv, execve, kill, "
        "unshare, clone with namespaces, bpf and others",
        target="each fails with EPERM or EACCES; the supervisor and the worker continue",
        measured=f"{len(errors)} of {len(errors)} failed; the supervisor and the worker continued",
    )


def test_without_the_sandbox_the_attempts_succeed(start_fleet: Callable[..., Fleet]) -> None:
    errors = attempted(start_fleet({"a": ("attempts_system_calls", {"restricted": False})}))
    possible = {name for name, error in errors.items() if error is None}
    assert possible >= {"signal the supervisor", "execute a program", "start a program"}
    assert len(errors) > 5
    if os.geteuid() == 0:  # other users may be forbidden to trace (kernel.yama.ptrace_scope)
        assert possible >= {"read the memory of the supervisor", "open the memory file of the supervisor"}


@pytest.mark.skipif(not landlock.version(), reason="this kernel does not use Landlock")
def test_a_camera_worker_opens_only_its_own_files_of_the_hub(start_fleet: Callable[..., Fleet]) -> None:
    fleet = start_fleet({"a": "opens_files_of_a_hub"})
    errors = attempted(fleet)
    assert errors.pop("own spool") is None
    assert set(errors.values()) == {"EACCES"}, errors
    fleet.stop_with()
    measured(
        78,
        "camera worker under an attacker's control opens files",
        injected=f"a restricted worker opens {', '.join(errors)}",
        target="only the worker's own spool and the known certificates",
        measured=f"{len(errors)} of {len(errors)} denied; the worker used its spool and recorded a certificate",
    )


def test_only_camera_workers_are_restricted(start_hub: Callable[..., Hub]) -> None:
    hub = start_hub([DEMO], None)
    hub.wait_for_results("street", 2)
    processes = {process.pid: process for process in psutil.Process(hub.process.pid).children(recursive=True)}
    worker = hub.member_pid("camera:street")
    assert (status(worker, "NoNewPrivs"), status(worker, "Seccomp")) == (1, 2)
    # Each thread has its own restrictions.
    threads = [int(task.name) for task in Path(f"/proc/{worker}/task").iterdir()]
    assert {status(thread, "Seccomp") for thread in threads} == {2}
    assert len(threads) > 1
    own = status(hub.process.pid, "Seccomp")
    assert {status(pid, "Seccomp") for pid in {hub.process.pid, *processes} - {worker}} == {own}
    assert hub.stop() == 0
    assert "sandbox" not in hub.log()


ASKS_FOR_CAMERAS: Final = """
import os, socket, sys
from nvision_hub.runtime import sandbox
folder, name = os.path.split(sys.argv[1])
os.chdir(folder)  # the whole path may be too long for a socket address
if sys.argv[2:]:
    sandbox.restrict()
with socket.socket(socket.AF_UNIX) as client:
    client.connect(name)
    try:
        client.sendall(b"GET /api/v1/cameras HTTP/1.1\\r\\nHost: localhost\\r\\n\\r\\n")
        print(client.recv(12))
    except ConnectionError:
        print(b"")
"""


def test_a_restricted_process_of_the_hubs_user_cannot_use_the_control_socket(start_hub: Callable[..., Hub]) -> None:
    hub = start_hub([DEMO], None)
    control = json.loads((hub.folder / "state" / "hub.json").read_text())["control"]
    hub.wait_until(lambda: Path(control).exists())

    def reply(*more: str) -> str:
        words = [sys.executable, "-c", ASKS_FOR_CAMERAS, control, *more]
        done = subprocess.run(words, check=False, capture_output=True, text=True, env=environment())
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    assert reply() == "b'HTTP/1.1 200'"
    assert reply("restricted") == "b''"
    hub.wait_until(lambda: "it is a restricted process of the hub" in hub.log())
    hub.stop()
    measured(
        81,
        "camera worker under an attacker's control connects to the control socket",
        injected="a restricted process with the hub's user id requests the cameras",
        target="refused; the hub's own commands still work",
        measured="the connection was closed, and the refusal logged",
    )


def status(task: int, field: str) -> int:
    """Return a number of /proc/PID/status."""
    lines = Path(f"/proc/{task}/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:"))


def test_without_libseccomp_the_hub_warns_once_and_its_cameras_stream(
    start_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    folder = tmp_path / "modules"
    folder.mkdir()
    # The first statement of pyseccomp that fails on a machine without libseccomp.
    (folder / "pyseccomp.py").write_text('raise RuntimeError("Unable to find libseccomp")\n')
    hub = start_hub([DEMO, {**DEMO, "id": "second"}], None, env={"PYTHONPATH": str(folder)})
    hub.wait_for_results("street", 2)
    hub.wait_for_results("second", 2)
    worker = hub.member_pid("camera:street")
    assert (status(worker, "NoNewPrivs"), status(worker, "Seccomp")) == (1, 0)
    assert hub.stop() == 0
    assert hub.log().count("camera workers run without a system call filter: Unable to find libseccomp") == 1
