"""The control socket of a hub: commands that work without cameras.yaml, and the users who may connect."""

from __future__ import annotations

import json
import os
import shutil
import socket
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nvision_hub.hub.running_hubs import RUN, RUNTIME_VARIABLE
from tests.support import clips, command, hub, needs
from tests.support.other_user import UID, open_folder, run_as_other_user
from tests.support.recorder import KEY

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.command import Running
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

__all__ = ["open_folder"]

SMALL = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
BROKEN = "cameras: [{id: lobby, urll: x}]\nnvision: {streaming_key: '${NO_SUCH_VARIABLE}'}\n"
UNREACHABLE = {"id": "lobby", "url": "rtsp://127.0.0.1:9/"}
# Send one request to a control socket, and print the status line and the body.
REQUEST = """
with socket.socket(socket.AF_UNIX) as client:
    client.settimeout(60)
    try:
        client.connect(sys.argv[1])
    except PermissionError:
        print("permission denied")
        sys.exit()
    lines = ("POST /api/v1/cameras/lobby/pause HTTP/1.1", "host: x", "connection: close", "content-length: 0", "", "")
    client.sendall("\\r\\n".join(lines).encode())
    while data := client.recv(65536):
        print(data.decode(), end="")
"""


@pytest.mark.long
def test_commands_need_no_valid_configuration(
    gst_camera: Callable[..., GstCamera],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
    start_command: Callable[..., Running],
    tmp_path: Path,
) -> None:
    """An operator needs the commands most when cameras.yaml is broken. The gateway has no address either."""
    service, site = recorder(), f"reach-{os.getpid()}"
    nvision = {"url": service.url, "streaming_key": "${REACH_KEY}"}
    cameras = [{"id": "lobby", "url": gst_camera(SMALL).url(), "fps": 5}]
    running = start_hub(cameras, service, nvision=nvision, site=site, env={"REACH_KEY": KEY})
    running.wait_for_results("lobby", 3)
    running.gateway()
    assert stat.S_IMODE(Path(running.addresses["control"]).stat().st_mode) == 0o600
    (running.folder / "cameras.yaml").write_text(BROKEN)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()

    def run(*arguments: str, cwd: Path) -> str:
        done = command.run(*arguments, cwd=cwd)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    state = ("--state-dir", str(running.folder / "state"))
    for where, options in ((running.folder, ()), (elsewhere, ("--site", site)), (elsewhere, state)):
        shown = json.loads(run("status", "--json", *options, cwd=where))
        assert [camera["id"] for camera in shown["cameras"]] == ["lobby"]
        assert shown["addresses"]["reader"] == running.broker_url("reader")
    assert run("pause", "lobby", cwd=running.folder) == "lobby is paused\n"
    running.wait_for_state("lobby", "paused")
    assert run("resume", "lobby", "--site", site, cwd=elsewhere) == "lobby is resuming\n"
    assert run("set", "lobby", "fps=2", *state, cwd=elsewhere) == "lobby: fps 2\n"
    assert run("restart", "lobby", cwd=running.folder) == "lobby is restarting\n"
    assert "streaming" in run("logs", "lobby", "--site", site, cwd=elsewhere)
    assert run("dead-letters", cwd=running.folder) == ""
    tail = start_command("tail", "lobby", "--json", cwd=running.folder)
    tail.wait_for(lambda: '"source_id"' in tail.out)

    hubs = json.loads(run("ps", "--json", cwd=elsewhere))["hubs"]
    assert {"site": site, "pid": running.process.pid, "gateway": None}.items() <= next(
        each for each in hubs if each["site"] == site
    ).items()
    entries = [json.loads(line) for line in run("audit", "--json", cwd=running.folder).splitlines()]
    paused = next(entry for entry in entries if entry["action"] == "camera_pause")
    assert (paused["kind"], paused["role"], paused["address"]) == ("user", "admin", f"uid {os.geteuid()}")

    other = elsewhere / "other.yaml"
    hub.write(elsewhere, [UNREACHABLE], service)
    (elsewhere / "cameras.yaml").rename(other)
    done = command.run("status", "--config", str(other), cwd=elsewhere)
    assert done.returncode == 69
    assert "no hub is running with the state_dir of other.yaml" in done.stderr
    assert f"--site {site}  --state-dir {running.folder / 'state'}" in done.stderr


@pytest.mark.long
def test_two_hubs_with_one_site_are_an_ambiguous_choice(
    recorder: Callable[..., Recorder], start_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    service, site = recorder(), f"twin-{os.getpid()}"
    twins = [start_hub([UNREACHABLE], service, site=site) for _ in range(2)]
    done = command.run("status", "--site", site, cwd=tmp_path)
    assert done.returncode == 2
    assert "several hubs match; choose one with --site or --state-dir" in done.stderr
    assert all(str(twin.folder / "state") in done.stderr for twin in twins)
    excluding = command.run("status", "--site", site, "--url", "http://127.0.0.1:9", cwd=tmp_path)
    assert (excluding.returncode, "--site and --url exclude each other" in excluding.stderr) == (2, True)


def test_a_url_reaches_a_hub_with_a_token(
    recorder: Callable[..., Recorder], start_hub: Callable[..., Hub], tmp_path: Path
) -> None:
    token = "5f0c8e2b7d94413aa6b1de3870c952f4"
    running = start_hub([UNREACHABLE], recorder(), gateway={"listen": "127.0.0.1:0", "token": token})
    options = ("--url", running.gateway())
    done = command.run("pause", "lobby", *options, cwd=tmp_path, env={"NVISION_HUB_TOKEN": token})
    assert (done.returncode, done.stdout) == (0, "lobby is paused\n"), done.stderr
    shown = command.run("status", *options, cwd=tmp_path, env={"NVISION_HUB_TOKEN": token})
    assert "paused" in shown.stdout
    refused = command.run("status", *options, cwd=tmp_path)
    assert (refused.returncode, "set NVISION_HUB_TOKEN to a token" in refused.stderr) == (1, True)
    logs = command.run("logs", "lobby", *options, cwd=tmp_path)
    assert (logs.returncode, "run the command on that machine" in logs.stderr) == (2, True)


def test_another_user_is_refused(recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]) -> None:
    running = start_hub([UNREACHABLE], recorder())
    running.wait_until(lambda: running.pid("gateway") is not None)
    control = Path(running.addresses["control"])
    assert command.run("status", cwd=running.folder).returncode == 0  # the socket exists
    assert run_as_other_user(REQUEST, control) == "permission denied\n"
    # Even a socket that anyone may open admits only two users.
    control.chmod(0o666)
    answer = run_as_other_user(REQUEST, control)
    assert answer.startswith("HTTP/1.1 403 ")
    assert "user_not_admitted" in answer
    audited = command.run("audit", "--json", cwd=running.folder).stdout.splitlines()
    entry = next(entry for entry in map(json.loads, audited) if entry["outcome"] == "refused")
    assert (entry["action"], entry["actor"], entry["address"]) == ("camera_pause", f"uid-{UID}", f"uid {UID}")
    assert running.camera("lobby").state != "paused"


@pytest.fixture
def unit_folder() -> Iterator[Path]:
    """Provide a directory in /run/nvision-hub, as systemd creates it for a unit of another user."""
    if os.geteuid() != 0:
        pytest.skip("only root can run a hub as another user; run this test as root")
    folder = RUN / "nvision-hub" / f"test-{os.getpid()}"
    folder.parent.mkdir(exist_ok=True)
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.long
def test_root_reaches_a_hub_of_another_user(
    recorder: Callable[..., Recorder], open_folder: Path, unit_folder: Path, tmp_path: Path
) -> None:
    """The shipped unit runs the hub as a user of its own, and root has a plain shell."""
    site = f"unit-{os.getpid()}"
    home = open_folder / "home"
    home.mkdir()
    hub.write(home, [UNREACHABLE], recorder(), site=site)
    for path in (home, home / "cameras.yaml"):
        os.chown(path, UID, UID)
    (home / "hub.log").touch()
    # The capability lets the other user read the tests' Python, which may be in a private folder.
    user = (f"--reuid={UID}", f"--regid={UID}", "--clear-groups")
    reading = ("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search")
    prefix = [needs.program("setpriv", "util-linux"), *user, *reading]
    running = hub.Hub(folder=home, prefix=prefix, env={RUNTIME_VARIABLE: str(unit_folder), "HOME": str(home)})
    try:
        running.start()
        shown = json.loads(command.run("status", "--json", "--site", site, cwd=tmp_path).stdout)
        assert shown["addresses"]["state_dir"] == str(home / "state")
        assert ":***@" not in shown["addresses"]["reader"]
        done = command.run("pause", "lobby", "--site", site, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (0, "lobby is paused\n"), done.stderr
        created = command.run("token", "create", "wall", "--role", "view", "--site", site, cwd=tmp_path)
        assert created.returncode == 0, created.stderr
        assert (home / "state" / "tokens.json").stat().st_uid == UID
        audited = command.run("audit", "--site", site, cwd=tmp_path).stdout
        assert "root (admin) from uid 0: camera_pause lobby" in audited
        # The hub's own user is admitted as well.
        assert run_as_other_user(REQUEST, running.addresses["control"]).startswith("HTTP/1.1 202 ")
    finally:
        hub.end(running)
    assert list(unit_folder.glob("*.json")) == []


def test_a_socket_of_an_earlier_process_is_replaced(
    recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    """A killed gateway leaves its socket behind. Commands wait for its successor."""
    running = start_hub([UNREACHABLE], recorder())
    assert command.run("status", cwd=running.folder).returncode == 0
    before = running.member_pid("gateway")
    os.kill(before, 9)
    running.wait_until(lambda: running.pid("gateway") not in {None, before})
    assert command.run("status", cwd=running.folder).returncode == 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(running.addresses["control"])
