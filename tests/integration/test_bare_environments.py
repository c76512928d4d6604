"""Environments that lack what programs expect: a home directory, a user's name, a cache, /dev/shm, UTF-8."""

from __future__ import annotations

import json
import os
import subprocess
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.errors import EXIT_UNAVAILABLE
from nvision_hub.hub.composition import clip_cache
from tests.support import command, needs
from tests.support.other_user import UID

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running

CAMERAS: Final = """
cameras: [{id: street, url: "demo://street", fps: 5}]
redis: {embedded_port: 0}
gateway: {listen: none}
"""
WITHOUT_VARIABLES: Final = ("env", "-u", "HOME", "-u", "XDG_CACHE_HOME", "-u", "USER", "-u", "LOGNAME")


def other_user() -> list[str]:
    """Return a program that runs another one as a user without an entry in /etc/passwd.

    The user may read all files, because the test's Python may be in a home directory, but it may not write them.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as another user; run this test as root")
    only_reads = ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "+dac_read_search"]
    bounding = ["--bounding-set", "-all,+dac_read_search"]
    user = [f"--reuid={UID}", f"--regid={UID}", "--clear-groups"]
    return [needs.program("setpriv", "util-linux"), *user, *only_reads, *bounding]


def folder_of_other_user(folder: Path) -> Path:
    """Return a folder with a cameras.yaml that belongs to the other user."""
    own = folder / "own"
    own.mkdir()
    (own / "cameras.yaml").write_text(CAMERAS)
    os.chown(own, UID, UID)
    return own


def failed_checks(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    checks = json.loads(done.stdout)["checks"]
    return {check["name"]: check["message"] for check in checks if check["status"] == "failed"}


def wait_until_streaming(hub: Running) -> None:
    hub.wait_for(lambda: "camera:street  streaming" in hub.err)
    assert "restarting" not in hub.err
    assert "redis_unavailable" not in hub.err


@pytest.mark.long
@pytest.mark.parametrize("cache", ["no home directory", "a cache of another user", "a home that does not exist"])
def test_a_user_without_a_name_runs_the_demo(
    open_folder: Path, start_command: Callable[..., Running], cache: str
) -> None:
    folder = folder_of_other_user(open_folder)
    (open_folder / "cache").mkdir()
    variables = {
        "no home directory": list(WITHOUT_VARIABLES),
        "a cache of another user": ["env", "HOME=/root", f"XDG_CACHE_HOME={open_folder}/cache"],
        "a home that does not exist": [*WITHOUT_VARIABLES, "HOME=/nonexistent"],
    }[cache]
    prefix = [*other_user(), *variables]
    assert failed_checks(command.run("doctor", "--no-cameras", "--json", cwd=folder, prefix=prefix)) == {}
    wait_until_streaming(start_command("start", cwd=folder, prefix=prefix))
    assert list((folder / ".nvision-hub" / "demo").glob("*/street.mp4"))


@pytest.mark.long
def test_an_unwritable_state_dir_is_reported(open_folder: Path) -> None:
    folder = folder_of_other_user(open_folder)
    os.chown(folder, 0, 0)
    for arguments in (("doctor", "--no-cameras", "--json"), ("start",)):
        done = command.run(*arguments, cwd=folder, prefix=[*other_user(), *WITHOUT_VARIABLES])
        assert done.returncode == EXIT_UNAVAILABLE
        assert "choose another state_dir" in done.stdout + done.stderr


@pytest.mark.long
def test_doctor_and_start_report_dev_shm_without_write_access(tmp_path: Path) -> None:
    mounts = [needs.program("unshare", "util-linux"), "--mount", "sh", "-c"]
    prefix = [*mounts, 'mount -t tmpfs -o ro none /dev/shm && exec "$@"', "sh"]
    if subprocess.run([*prefix, "true"], check=False, capture_output=True).returncode:
        pytest.skip("only root can mount a file system; run this test as root")
    (tmp_path / "cameras.yaml").write_text(CAMERAS)
    found = failed_checks(command.run("doctor", "--no-cameras", "--json", cwd=tmp_path, prefix=prefix))
    done = command.run("start", cwd=tmp_path, prefix=prefix)
    assert done.returncode == EXIT_UNAVAILABLE
    sentence = "The directory /dev/shm cannot be written (Read-only file system), and the hub's processes need"
    assert done.stderr.count(sentence) == 1
    assert list(found) == ["semaphores"]
    assert sentence in found["semaphores"]


@pytest.mark.long
@pytest.mark.parametrize(
    "variables",
    [{"LC_ALL": "C"}, {"LC_ALL": "POSIX"}, {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}],
    ids=["C", "POSIX", "ASCII"],
)
def test_a_path_beyond_ascii_works_in_every_locale(
    tmp_path: Path, start_command: Callable[..., Running], variables: dict[str, str]
) -> None:
    folder = tmp_path / "Überwachung ☂"
    folder.mkdir()
    (folder / "cameras.yaml").write_text(CAMERAS)
    done = command.run("doctor", "--no-cameras", "--json", cwd=folder, env=variables)
    assert failed_checks(done) == {}
    wait_until_streaming(start_command("start", cwd=folder, env=variables))


def test_clips_are_in_the_cache_of_the_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "new" / "cache"))
    assert clip_cache(tmp_path / "state") == tmp_path / "new" / "cache" / "nvision-hub"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert clip_cache(tmp_path / "state") == tmp_path / ".cache" / "nvision-hub"
