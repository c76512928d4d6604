"""What the hub reads and writes: hostile configurations cost nothing, and its own files are its user's alone."""

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


# 53: hostile YAML


# A process's peak counts that of whoever forked it, so somebody small has to.
MEASURE: Final = """
import json, resource, subprocess, sys
done = subprocess.run(sys.argv[1:], capture_output=True, text=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([done.returncode, done.stderr, used.ru_utime + used.ru_stime, used.ru_maxrss / 1000]))
"""


def check(file: Path) -> tuple[int, str, float, float]:
    """Exit code, stderr, seconds of CPU and megabytes (peak) of `nvision-hub check FILE` as a process of its own."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, "-m", "nvision_hub", "check", file],
        env=command.environment(),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    code, said, took_s, peak_mb = json.loads(done.stdout)
    return code, said, took_s, peak_mb


@pytest.mark.long
@pytest.mark.slow
def test_hostile_yaml_is_refused_within_its_means(tmp_path: Path) -> None:
    plain = tmp_path / "plain.yaml"
    plain.write_text("cameras: [{id: a, url: demo://street}]")
    code, _, own_s, own_mb = check(plain)
    assert code == 0
    worst_s = worst_mb = 0.0
    hostile = tmp_path / "hostile.yaml"
    for case in HOSTILE:
        text, sentence = (str(value) for value in case.values)
        hostile.write_text(text)
        code, said, took_s, took_mb = check(hostile)
        assert code == 78
        assert sentence in said
        assert "Traceback" not in said
        worst_s, worst_mb = max(worst_s, took_s - own_s), max(worst_mb, took_mb - own_mb)
    assert worst_s < 1.0
    assert worst_mb < 50.0
    measured(
        53,
        "hostile YAML",
        injected=f"`check` of {len(HOSTILE)} files: alias, merge and defaults bombs, tags, 100 MB, depth, duplicates",
        target="refused within 1 s and 50 MB",
        measured=f"at most {max(worst_s, 0):.2f} s of CPU and {max(worst_mb, 0):.0f} MB beyond a plain file's "
        f"{own_s:.1f} s and {own_mb:.0f} MB",
    )


# 54: privileges


def open_to_others(*folders: Path) -> list[str]:
    """What below the folders, themselves included, is anything but 0600 (files) and 0700 (directories, sockets)."""
    found = []
    for folder in folders:
        for path in (folder, *folder.rglob("*")):
            mode = path.lstat().st_mode
            wanted = 0o600 if stat.S_ISREG(mode) else 0o700
            if stat.S_IMODE(mode) != wanted:
                found.append(f"{path}: {stat.filemode(mode)}")
    return found


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("umask", ["0", "022"])
def test_everything_that_it_writes_is_its_users_alone(
    tmp_path: Path, start_hub: Callable[..., Hub], umask: str
) -> None:
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
    hub.process.kill()  # what a killed hub leaves behind
    hub.process.wait(hub_support.STOP_S)
    assert running == open_to_others(state, cache, temporary) == []
    count = len([*state.rglob("*"), *cache.rglob("*"), *temporary.rglob("*")])
    measured(
        54,
        "files for everybody to read",
        injected=f"umask {umask}; state_dir, demo cache and TMPDIR looked at while it runs and after kill -9",
        target="0600 in 0700 directories",
        measured=f"all {count} files, directories and sockets are their user's alone",
    )


@pytest.mark.slow
@pytest.mark.parametrize("before", ["empty", "a hub's"])
def test_a_state_dir_of_its_own_that_is_open_is_closed(
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
    assert f"{STATE_DIR_OPEN.replace('is', 'was', 1)}; it is its owner's alone now" in running.err
    running.process.terminate()
    assert running.wait() == 0


def test_a_state_dir_that_others_use_is_refused_and_left_alone(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "notes.txt").write_text("somebody's")
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
        "a state_dir that was there before",
        injected="0755: empty, a hub's own, and one with somebody's files",
        target="nobody else may read it",
        measured="the first two are closed (0700) and that is told; the last is refused with its mend, and untouched",
    )


def test_a_new_configuration_is_its_users_alone(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        done = command.run("init", cwd=tmp_path)
    finally:
        os.umask(before)
    assert done.returncode == 0
    assert stat.S_IMODE((tmp_path / "cameras.yaml").stat().st_mode) == 0o600
