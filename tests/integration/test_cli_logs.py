"""Log lines of a running hub: JSON on a pipe, files per camera, and the `logs` command."""

from __future__ import annotations

import json
import os
import signal
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clips, command, hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

SMALL = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
KEYS = {"at", "level", "event", "camera", "worker", "state", "message"}
AUTO = {"NVISION_HUB_LOG_FORMAT": "auto"}


def entries(text: str) -> list[dict[str, Any]]:
    complete, _, _ = text.rpartition("\n")
    return [json.loads(line) for line in complete.splitlines()]


@pytest.mark.long
def test_logs_are_json_on_a_pipe_and_in_files(
    tmp_path: Path,
    gst_camera: Callable[..., GstCamera],
    recorder: Callable[..., Recorder],
    start_command: Callable[..., Running],
) -> None:
    camera = gst_camera(SMALL, user="viewer", password="right")
    cameras = [
        {"id": "lobby", "url": camera.url(user="viewer", password="right"), "fps": 5},
        {"id": "locked", "url": camera.url(user="viewer", password="canary"), "fps": 5},
    ]
    hub.write(tmp_path, cameras, recorder())
    running = start_command("start", cwd=tmp_path, env=AUTO)
    running.wait_for(lambda: any(entry["message"] == "streaming" for entry in entries(running.err)))
    running.wait_for(lambda: any(entry["state"] == "auth_failed" for entry in entries(running.err)))
    logged = entries(running.err)
    assert {frozenset(entry) for entry in logged} == {frozenset(KEYS)}
    (streaming,) = (entry for entry in logged if entry["message"] == "streaming")
    assert streaming["camera"] == "lobby"
    assert streaming["worker"] == "camera:lobby"
    assert streaming["state"] == "streaming"
    assert {entry["worker"] for entry in logged} >= {"hub", "camera:lobby", "camera:locked"}

    follower = start_command("logs", "lobby", "-f", "--json", cwd=tmp_path)
    follower.wait_for(lambda: "streaming" in follower.out)
    pid = next(process.pid for process in running.record_family() if "camera:lobby" in " ".join(process.cmdline()))
    os.kill(pid, signal.SIGKILL)
    follower.wait_for(lambda: "camera:lobby exited (signal 9)" in follower.out)
    follower.wait_for(lambda: follower.out.count('"streaming"') >= 4)  # two lines, each with the word in two fields
    follower.interrupt()
    assert follower.wait() == 130

    running.process.terminate()
    assert running.wait() == 0
    done = command.run("logs", "locked", cwd=tmp_path)
    assert done.returncode == 0
    assert "refused the user name or password" in done.stdout
    assert "auth_failed" in done.stdout
    assert "canary" not in done.stdout
    shown = command.run("logs", "lobby", "--json", "-n", "1", cwd=tmp_path)
    assert [entry["camera"] for entry in entries(shown.stdout)] == ["lobby"]
    assert command.run("logs", "hub", cwd=tmp_path).stdout.count("camera:lobby exited (signal 9)") == 1
    directory = tmp_path / "state" / "logs"
    assert {file.stat().st_mode & 0o777 for file in directory.iterdir()} == {0o600}
    assert all("canary" not in file.read_text() for file in directory.iterdir())


@pytest.mark.parametrize(
    ("name", "code", "words"),
    [
        ("loby", 2, ("no camera or process has the name 'loby'", "`lobby`")),
        ("zzz", 2, ("choose from lobby, gate",)),
        ("lobby", 1, ("has no log of lobby", "nvision-hub start")),
    ],
)
def test_an_unknown_camera_or_process_and_a_missing_log_are_reported(
    tmp_path: Path, name: str, code: int, words: tuple[str, ...]
) -> None:
    hub.write(tmp_path, [{"id": "lobby", "url": "demo://street"}, {"id": "gate", "url": "demo://street"}], None)
    done = command.run("logs", name, cwd=tmp_path)
    assert done.returncode == code
    assert all(word in done.stderr for word in words), done.stderr
    assert "Traceback" not in done.stderr


def test_the_operator_can_choose_the_format(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    on_terminal = start_command("service", "--listen", "127.0.0.1:0", cwd=tmp_path, env=AUTO, terminal=(100, 30))
    on_terminal.wait_for(lambda: " INFO    hub  local Nvision service listens on" in on_terminal.screen)
    on_pipe = start_command("service", "--listen", "127.0.0.1:0", cwd=tmp_path, env=AUTO)
    on_pipe.wait_for(lambda: entries(on_pipe.err))
    assert entries(on_pipe.err)[0]["worker"] == "hub"
    asked = start_command("service", "--listen", "127.0.0.1:0", "--log-format", "text", cwd=tmp_path, env=AUTO)
    asked.wait_for(lambda: " INFO    hub  local Nvision" in asked.err)
