"""A hub that runs, steered from another terminal: status, pause, resume, restart and set, through its gateway."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import clips, command, hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

SMALL = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
TOKEN = "canary-token-0123456789"


class Operator:
    """Somebody at another terminal, with the hub's cameras.yaml."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def does(self, *arguments: str, code: int = 0) -> str:
        """One call; what it said, on stdout where it went well, else on stderr."""
        done = command.run(*arguments, cwd=self.hub.folder)
        assert done.returncode == code, done.stdout + done.stderr
        assert "canary" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def sees(self, camera: str) -> dict[str, Any]:
        """One camera of `status --json`."""
        cameras = json.loads(self.does("status", "--json"))["cameras"]
        found: dict[str, Any] = next(each for each in cameras if each["id"] == camera)
        return found

    def sees_soon(self, condition: Callable[[], bool], tries: int = 30) -> None:
        """Ask until it is so; each call takes a good part of a second."""
        assert any(condition() for _ in range(tries)), self.hub.log()


@pytest.fixture
def operator(
    gst_camera: Callable[..., GstCamera], recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> Operator:
    camera = gst_camera(SMALL)
    cameras = [{"id": name, "url": camera.url(), "fps": 5} for name in ("lobby", "gate")]
    running = start_hub(cameras, recorder(), gateway={"listen": "127.0.0.1:0", "token": TOKEN})
    for name in ("lobby", "gate"):
        running.wait_for_results(name, 3)
    operator = Operator(running)
    operator.sees_soon(lambda: operator.sees("gate")["state"] == "streaming")
    return operator


def test_an_operators_day(operator: Operator, start_command: Callable[..., Running]) -> None:
    running = operator.hub

    shown = operator.does("status")
    assert f"results redis://127.0.0.1:{running.addresses['redis'].rpartition(':')[2]}\n" in shown
    assert "page    http://127.0.0.1:" in shown
    assert [line.split()[:2] for line in shown.splitlines()[-2:]] == [["lobby", "streaming"], ["gate", "streaming"]]

    assert operator.does("pause", "lobby") == "lobby is paused\n"
    running.wait_for_state("lobby", "paused")
    operator.sees_soon(lambda: operator.sees("lobby")["state"] == "paused")
    assert operator.sees("gate")["state"] == "streaming"
    resumed = json.loads(operator.does("resume", "lobby", "gate", "--json"))["cameras"]
    assert [each["id"] for each in resumed] == ["lobby", "gate"]
    operator.sees_soon(lambda: operator.sees("lobby")["state"] == "streaming")

    assert operator.does("set", "lobby", "fps=2", "jpeg_quality=40") == "lobby: fps 2, jpeg_quality 40\n"
    assert operator.sees("lobby")["fps"] == 2
    assert operator.sees("lobby")["run_time"]["set"] == {"fps": 2, "jpeg_quality": 40}
    assert operator.does("set", "lobby", "fps=file") == "lobby: jpeg_quality 40\n"
    changed = json.loads(operator.does("set", "lobby", "max_width=320", "jpeg_quality=file", "--json"))
    assert changed["run_time"]["set"] == {"max_width": 320}
    assert operator.does("set", "lobby", "max_width=none") == "lobby: as in cameras.yaml\n"

    before = running.camera("lobby").pid
    assert operator.does("restart", "lobby") == "lobby starts anew\n"
    running.wait_until(lambda: running.camera("lobby").pid not in {None, before})
    operator.sees_soon(lambda: sum(operator.sees("lobby")["restarts"].values()) == 1)

    watched = start_command("status", "--watch", cwd=running.folder, terminal=(80, 30))
    watched.wait_for(lambda: watched.screen.count("camera  state") >= 3)
    watched.interrupt()
    assert watched.wait() == 130
    assert max(map(len, watched.screen.splitlines())) <= 80
    lines = start_command("status", "--watch", "--json", cwd=running.folder)
    lines.wait_for(lambda: lines.out.count("\n") >= 2)
    assert {camera["id"] for camera in json.loads(lines.out.splitlines()[0])["cameras"]} == {"lobby", "gate"}


@pytest.mark.long
def test_what_cannot_be_done(operator: Operator) -> None:
    running = operator.hub
    for verb in ("pause", "resume", "restart"):
        assert "did you mean `lobby`?" in operator.does(verb, "gate", "loby", code=2)
    assert operator.sees("gate")["paused"] is False, "nothing is done where one is not known"
    assert "there are lobby, gate" in operator.does("set", "zzz", "fps=2", code=2)
    assert "fps must be a number above 0" in operator.does("set", "lobby", "fps=0", code=2)

    file = running.folder / "cameras.yaml"
    content = file.read_text()
    other = running.folder / "other.yaml"
    other.write_text(content.replace(TOKEN, "canary-of-somebody-else"))
    for call in (("status",), ("pause", "lobby"), ("set", "lobby", "fps=2")):
        assert "gateway.token" in operator.does(*call, "--config", str(other), code=1)
    other.write_text(content.replace(TOKEN, ""))
    assert "gateway.token" in operator.does("status", "--config", str(other), code=1)

    assert running.stop() == 0
    for call in (("status",), ("pause", "lobby"), ("resume", "lobby"), ("restart", "lobby"), ("set", "lobby", "fps=2")):
        assert "no hub runs with the state_dir of cameras.yaml" in operator.does(*call, code=69)


def test_a_hub_without_a_gateway(recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]) -> None:
    nobody = {"id": "lobby", "url": "rtsp://127.0.0.1:9/"}
    operator = Operator(start_hub([nobody], recorder(), gateway={"listen": "none"}))
    operator.hub.redis().close()
    sentence = operator.does("status", code=69)
    assert "gateway.listen is none" in sentence
    assert "start the hub again" in sentence


def test_a_gateway_that_is_not_there(tmp_path: Path) -> None:
    """Its address is known before it listens, and it may have died."""
    hub.write(tmp_path, [{"id": "lobby", "url": "rtsp://127.0.0.1:9/"}], None)
    state = tmp_path / "state"
    state.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    facts = {"pid": os.getpid(), "site": "x", "redis": "x", "prefix": "x", "service": None, "demo": None}
    (state / "hub.json").write_text(json.dumps({**facts, "gateway": f"http://127.0.0.1:{port}"}))
    done = command.run("status", cwd=tmp_path)
    assert done.returncode == 69
    assert "nothing answers at" in done.stderr
    assert "nvision-hub logs gateway" in done.stderr
