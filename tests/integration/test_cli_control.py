"""Run-time control of a hub from another terminal: status, pause, resume, restart and set."""

from __future__ import annotations

import json
import os
import socket
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

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
TOKEN = "canary-5f0c8e2b7d94413aa6b1de3870c952f4"


class Operator:
    """An operator who runs commands in another terminal, with the hub's cameras.yaml."""

    def __init__(self, hub: Hub) -> None:
        self.hub = hub

    def run(self, *arguments: str, code: int = 0) -> str:
        """Run one command. Return its stdout, or its stderr if the expected exit code `code` is not 0."""
        done = command.run(*arguments, cwd=self.hub.folder)
        assert done.returncode == code, done.stdout + done.stderr
        assert "canary" not in done.stdout + done.stderr
        assert "Traceback" not in done.stderr
        return done.stderr if code else done.stdout

    def camera(self, camera: str) -> dict[str, Any]:
        """Return one camera from the output of `status --json`."""
        cameras = json.loads(self.run("status", "--json"))["cameras"]
        found: dict[str, Any] = next(each for each in cameras if each["id"] == camera)
        return found

    def wait_until(self, condition: Callable[[], bool], tries: int = 30) -> None:
        """Check the condition until it holds, at most `tries` times. Each check takes most of a second."""
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
    operator.wait_until(lambda: operator.camera("gate")["state"] == "streaming")
    return operator


def test_an_operator_reads_the_status_and_controls_cameras(
    operator: Operator, start_command: Callable[..., Running]
) -> None:
    running = operator.hub

    shown = operator.run("status")
    assert f"results redis://127.0.0.1:{running.addresses['redis'].rpartition(':')[2]}\n" in shown
    reader = urlsplit(running.broker_url("reader"))
    subscribe = f"redis-cli -p {reader.port} --user reader psubscribe 'nvision:results:*'"
    assert f"read    REDISCLI_AUTH={reader.password} {subscribe}\n" in shown
    assert f"consume {running.broker_url('consumer')}\n" in shown
    assert "page    http://127.0.0.1:" in shown
    addresses = json.loads(operator.run("status", "--json"))["addresses"]
    assert addresses["reader"] == running.broker_url("reader")
    assert addresses["consumer"] == running.broker_url("consumer")
    assert [line.split()[:2] for line in shown.splitlines()[-2:]] == [["lobby", "streaming"], ["gate", "streaming"]]

    assert operator.run("pause", "lobby") == "lobby is paused\n"
    running.wait_for_state("lobby", "paused")
    operator.wait_until(lambda: operator.camera("lobby")["state"] == "paused")
    assert operator.camera("gate")["state"] == "streaming"
    resumed = json.loads(operator.run("resume", "lobby", "gate", "--json"))["cameras"]
    assert [each["id"] for each in resumed] == ["lobby", "gate"]
    operator.wait_until(lambda: operator.camera("lobby")["state"] == "streaming")

    assert operator.run("set", "lobby", "fps=2", "jpeg_quality=40") == "lobby: fps 2, jpeg_quality 40\n"
    assert operator.camera("lobby")["fps"] == 2
    assert operator.camera("lobby")["run_time"]["set"] == {"fps": 2, "jpeg_quality": 40}
    assert operator.run("set", "lobby", "fps=file") == "lobby: jpeg_quality 40\n"
    changed = json.loads(operator.run("set", "lobby", "max_width=320", "jpeg_quality=file", "--json"))
    assert changed["run_time"]["set"] == {"max_width": 320}
    assert operator.run("set", "lobby", "max_width=none") == "lobby: as in cameras.yaml\n"

    before = running.camera("lobby").pid
    assert operator.run("restart", "lobby") == "lobby is restarting\n"
    running.wait_until(lambda: running.camera("lobby").pid not in {None, before})
    operator.wait_until(lambda: sum(operator.camera("lobby")["restarts"].values()) == 1)

    watched = start_command("status", "--watch", cwd=running.folder, terminal=(80, 30))
    watched.wait_for(lambda: watched.screen.count("camera  state") >= 3)
    watched.interrupt()
    assert watched.wait() == 130
    assert max(map(len, watched.screen.splitlines())) <= 80
    lines = start_command("status", "--watch", "--json", cwd=running.folder)
    lines.wait_for(lambda: lines.out.count("\n") >= 2)
    assert {camera["id"] for camera in json.loads(lines.out.splitlines()[0])["cameras"]} == {"lobby", "gate"}


@pytest.mark.long
def test_invalid_requests_are_rejected(operator: Operator) -> None:
    running = operator.hub
    for verb in ("pause", "resume", "restart"):
        assert "did you mean `lobby`?" in operator.run(verb, "gate", "loby", code=2)
    assert operator.camera("gate")["paused"] is False, "no camera may change if one of them is unknown"
    assert "choose from lobby, gate" in operator.run("set", "zzz", "fps=2", code=2)
    assert "fps must be a number above 0" in operator.run("set", "lobby", "fps=0", code=2)

    assert running.stop() == 0
    for call in (("status",), ("pause", "lobby"), ("resume", "lobby"), ("restart", "lobby"), ("set", "lobby", "fps=2")):
        assert "no hub is running with the state_dir of cameras.yaml" in operator.run(*call, code=69)


def test_a_gateway_that_does_not_listen_is_reported(tmp_path: Path) -> None:
    """The gateway at the published address may have crashed, or may not be listening yet."""
    hub.write(tmp_path, [{"id": "lobby", "url": "rtsp://127.0.0.1:9/"}], None)
    state = tmp_path / "state"
    state.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    facts = {"pid": os.getpid(), "site": "x", "redis": "x", "prefix": "x", "service": None, "demo": None}
    (state / "hub.json").write_text(json.dumps({**facts, "gateway": f"http://127.0.0.1:{port}"}))
    done = command.run("status", cwd=tmp_path)
    assert done.returncode == 69
    assert "cannot connect to the hub's gateway at" in done.stderr
    assert "nvision-hub logs gateway" in done.stderr
