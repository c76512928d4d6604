"""The hub rejects hostile configurations at low cost. Only the user who runs the hub can read its files."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from tests.support import command, needs
from tests.support import hub as hub_support
from tests.support.patience import PATIENCE_S, is_on_time
from tests.support.reliability import measured
from tests.unit.test_config_hostile import HOSTILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.hub import Hub

pytestmark = pytest.mark.fault

DEMO: Final = [{"id": "street", "url": "demo://street", "fps": 2}]
STATE_DIR_OPEN: Final = "is open to other users of this machine"


# Case 53: hostile YAML


# The measured peak memory of a process includes its parent's memory at the fork, so the parent is a small process.
MEASURE: Final = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stderr, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000]))
"""


def check(file: Path) -> tuple[int, str, float, float]:
    """Run `nvision-hub check FILE`. Return its exit code, stderr, CPU time in seconds and peak memory in megabytes."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, "-m", "nvision_hub", "check", file],
        env=command.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    code, stderr, cpu_s, peak_mb = json.loads(done.stdout)
    return code, stderr, cpu_s, peak_mb


@pytest.mark.long
@pytest.mark.slow
def test_hostile_yaml_is_rejected_within_the_limits(tmp_path: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text("cameras: [{id: a, url: demo://street}]")
    code, _, own_s, own_mb = check(plain)
    assert code == 0
    worst_s = worst_mb = 0.0
    hostile = tmp_path / "hostile.yaml"
    for case in HOSTILE:
        text, sentence = (str(value) for value in case.values)
        hostile.write_text(text)
        code, stderr, cpu_s, peak_mb = check(hostile)
        assert code == 78
        assert sentence in stderr
        assert "Traceback" not in stderr
        worst_s, worst_mb = max(worst_s, cpu_s - own_s), max(worst_mb, peak_mb - own_mb)
    assert is_on_time(worst_s, 1.0)
    assert worst_mb < 50.0
    measured(
        53,
        "hostile YAML",
        injected=f"`check` of {len(HOSTILE)} files: alias, merge and defaults bombs, tags, 100 MB, depth, duplicates",
        target="rejected within 1 s and 50 MB",
        measured=f"at most {max(worst_s, 0):.2f} s of CPU and {max(worst_mb, 0):.0f} MB more than a plain file "
        f"({own_s:.1f} s and {own_mb:.0f} MB)",
    )


# Case 54: privileges


def open_to_others(*folders: Path) -> list[str]:
    """Return the paths in these folders whose mode is not 0600 (files) or 0700 (directories, sockets)."""
    found = []
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            mode = path.lstat().st_mode
            expected = 0o600 if stat.S_ISREG(mode) else 0o700
            if stat.S_IMODE(mode) != expected:
                found.append(f"{path}: {stat.filemode(mode)}")
    return found


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("umask", ["0", "022"])
def test_only_the_user_can_read_files_of_the_hub(tmp_path: Path, start_hub: Callable[..., Hub], umask: str) -> None:
    temporary, cache = tmp_path / "tmp", tmp_path / "cache"
    temporary.mkdir(mode=0o700)
    state = tmp_path / "hub0" / "state"
    shell = needs.program("sh", "dash")
    hub = start_hub(
        DEMO,
        None,
        prefix=[shell, "-c", f'umask {umask}; exec "$@"', "sh"],
        env={"TMPDIR": str(temporary), "XDG_CACHE_HOME": str(cache)},
    )
    hub.wait_for_results("street", 3)
    written = {path.name for path in (*state.rglob("*"), *cache.rglob("*"))}
    assert {"hub.json", "hub.lock", "valkey.conf", "valkey.sock", "street.mp4"} <= written
    running = open_to_others(state, cache, temporary)
    hub.process.kill()  # a killed hub leaves files behind
    hub.process.wait(PATIENCE_S)
    assert running == open_to_others(state, cache, temporary) == []
    count = len([*state.rglob("*"), *cache.rglob("*"), *temporary.rglob("*")])
    measured(
        54,
        "files that other users can read",
        injected=f"umask {umask}; state_dir, demo cache and TMPDIR checked during the run and after kill -9",
        target="0600 in 0700 directories",
        measured=f"only the owner can read all {count} files, directories and sockets",
    )


@pytest.mark.slow
@pytest.mark.parametrize("before", ["empty", "a hub's"])
def test_an_open_state_dir_of_the_hub_is_closed(
    tmp_path: Path, start_command: Callable[..., Running], before: str
) -> None:
    state = tmp_path / "state"
    state.mkdir()
    state.chmod(0o755)
    if before == "a hub's":
        (state / "hub.lock").touch()
    hub_support.write(tmp_path, DEMO, None)
    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: "  streaming" in running.err)
    assert stat.S_IMODE(state.stat().st_mode) == 0o700
    assert f"{STATE_DIR_OPEN.replace('is', 'was', 1)}; its permissions are now 0700" in running.err
    running.process.terminate()
    assert running.wait() == 0


def test_a_state_dir_with_other_files_is_rejected_and_unchanged(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "notes.txt").write_text("of another program")
    hub_support.write(tmp_path, DEMO, None, state_dir=str(shared))
    done = command.run("start", cwd=tmp_path)
    assert done.returncode == 69
    assert STATE_DIR_OPEN in done.stderr
    assert f"{shared / 'hub'}" in done.stderr
    assert "Traceback" not in done.stderr
    assert stat.S_IMODE(shared.stat().st_mode) == 0o755
    assert [path.name for path in shared.iterdir()] == ["notes.txt"]
    measured(
        54,
        "existing state_dir",
        injected="three folders of mode 0755: empty, of a hub, with files of another program",
        target="no other user can read it",
        measured="the hub sets the first two to 0700 and logs this; it only rejects the last, and names a fix",
    )


def test_only_the_user_can_read_a_new_configuration(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = command.run("init", cwd=tmp_path)
    finally:
        os.umask(before)
    assert done.returncode == 0
    assert stat.S_IMODE((tmp_path / "cameras.yaml").stat().st_mode) == 0o600
