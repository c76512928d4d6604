"""`doctor` on machines with real faults: it finds each fault, explains the fix, and reports nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.cli.checks import CheckStatus
from nvision_hub.cli.checks.machine import CHILD_OPEN_FILES, HUB_OPEN_FILES, check_open_files
from nvision_hub.cli.checks.service_and_clocks import check_clock
from tests.support import clips, command, hub, needs
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tests.support.command import Running
    from tests.support.http_camera import HttpCamera
    from tests.support.local_service import LocalService
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.rtsp import GstCamera

pytestmark = pytest.mark.long


SMALL = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
DEMO = {"id": "street", "url": "demo://street"}


def doctor(folder: Path, *arguments: str, **more: Any) -> tuple[int, dict[str, tuple[str, str]]]:
    """Run `doctor`. Return its exit code, and a mapping of each check's name to its status and message."""
    done = command.run("doctor", "--json", *arguments, cwd=folder, **more)
    assert "Traceback" not in done.stderr, done.stderr
    facts = json.loads(done.stdout)
    assert facts["ok"] is (done.returncode == 0)
    return done.returncode, {each["name"]: (each["status"], each["message"]) for each in facts["checks"]}


def only_fault(found: Mapping[str, tuple[str, str]], name: str, status: str, *words: str) -> None:
    """Assert that every check except `name` has passed, and that the message of `name` contains these words."""
    assert {key for key, (each, _) in found.items() if each != "passed"} == {name}, found
    actual, message = found[name]
    assert actual == status
    assert all(word in message for word in words), message


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
        return port


def test_a_machine_without_faults_passes(tmp_path: Path) -> None:
    hub.write(tmp_path, [DEMO], None)
    code, found = doctor(tmp_path)
    assert code == 0
    assert {status for status, _ in found.values()} == {"passed"}, found
    assert set(found) == {
        "cameras.yaml", "OpenCV", "demo cameras", "embedded broker", "sandbox", "semaphores", "state_dir", "disk",
        "open files", "gateway", "broker's port", "service", "clock", "camera street",
    }  # fmt: skip
    assert not (tmp_path / "state").exists(), "doctor leaves no files behind"
    shown = command.run("doctor", cwd=tmp_path)
    assert shown.returncode == 0
    assert "All checks passed. Run the hub: nvision-hub start" in shown.stdout
    assert max(map(len, shown.stdout.splitlines())) <= 80


def test_a_missing_libgl_is_found(tmp_path: Path, broken_opencv: dict[str, str]) -> None:
    hub.write(tmp_path, [DEMO], None)
    code, found = doctor(tmp_path, env=broken_opencv)
    assert code == 69
    only_fault(found, "OpenCV", "failed", "libGL.so.1", "apt-get install libgl1")


def test_a_missing_libgl_without_need_is_only_a_warning(
    tmp_path: Path, broken_opencv: dict[str, str], recorder: Callable[..., Recorder]
) -> None:
    hub.write(tmp_path, [{"id": "lobby", "url": "rtsp://127.0.0.1:9/"}], recorder())
    code, found = doctor(tmp_path, "--no-cameras", env=broken_opencv)
    assert code == 0
    only_fault(found, "OpenCV", "warning", "libGL.so.1")


def test_a_missing_optional_dependency_is_found(tmp_path: Path) -> None:
    package = tmp_path / "path" / "aio_rtsp_toolkit"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("raise ImportError('not installed')\n")
    hub.write(tmp_path, [DEMO], None)
    code, found = doctor(tmp_path, env={"PYTHONPATH": str(tmp_path / "path")})
    assert code == 69
    only_fault(found, "demo cameras", "failed", "pip install 'nvision-hub[demo]'")


def test_a_gateway_port_in_use_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hub.write(tmp_path, [DEMO], None, gateway={"listen": f"127.0.0.1:{port}"})
        code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "gateway", "failed", f"127.0.0.1:{port} is in use", f"(pid {os.getpid()})", "gateway.listen")


def test_a_default_port_in_use_is_only_a_warning(tmp_path: Path) -> None:
    hub.write(tmp_path, [DEMO], None)
    file = tmp_path / "cameras.yaml"
    content = json.loads(file.read_text())
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", 8080)):
        file.write_text(json.dumps({key: value for key, value in content.items() if key != "gateway"}))
        code, found = doctor(tmp_path)
        assert code == 0, "the hub uses the next port"
        only_fault(found, "gateway", "warning", "127.0.0.1:8080 is in use", "the next free port")


def test_an_address_of_another_machine_is_found(tmp_path: Path) -> None:
    token = {"token": "5f0c8e2b7d94413aa6b1de3870c952f4", "proxy": {"addresses": ["192.0.2.2"]}}
    hub.write(tmp_path, [DEMO], None, gateway={"listen": "192.0.2.1:8080", **token})
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "gateway", "failed", "not an address of this machine", "correct gateway.listen")


def test_unsafe_access_to_the_gateway_is_a_warning(tmp_path: Path) -> None:
    token = {"token": "5f0c8e2b7d94413aa6b1de3870c952f4", "insecure": True}
    hub.write(tmp_path, [DEMO], None, gateway={"listen": "0.0.0.0:0", **token})
    code, found = doctor(tmp_path)
    assert code == 0
    only_fault(found, "gateway access", "warning", "gateway.insecure", "set gateway.tls")


def test_an_added_camera_without_the_login_of_defaults_is_a_warning(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    folder.mkdir(mode=0o700)
    hosts = {"yard": "127.0.0.1", "gate": "127.0.0.2"}
    added = {name: {"id": name, "url": f"rtsp://{host}:9/"} for name, host in hosts.items()}
    (folder / "run-time.json").write_text(json.dumps({"added": added}))
    gateway = {"listen": "127.0.0.1:0", "camera_hosts": ["127.0.0.1"]}
    defaults = {"username": "viewer", "password": "canary"}
    hub.write(tmp_path, [DEMO], None, gateway=gateway, defaults=defaults)
    code, found = doctor(tmp_path, "--no-cameras")
    assert code == 0
    only_fault(found, "added cameras", "warning", "(gate)", "`defaults`", "gateway.camera_hosts")
    assert "canary" not in str(found)
    hub.write(tmp_path, [DEMO], None, gateway={**gateway, "camera_hosts": [*hosts.values()]}, defaults=defaults)
    code, found = doctor(tmp_path, "--no-cameras")
    assert {status for status, _ in found.values()} == {"passed"}, found


def test_a_broker_port_in_use_is_found(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        hub.write(tmp_path, [DEMO], None, redis={"url": "embedded", "embedded_port": port})
        code, found = doctor(tmp_path)
    assert code == 0, "the hub uses the next port"
    only_fault(found, "broker's port", "warning", "the next free port", "redis.embedded_port")


def test_an_unreachable_broker_is_found(tmp_path: Path) -> None:
    port = free_port()
    hub.write(tmp_path, [DEMO], None, redis={"url": f"redis://:canary@127.0.0.1:{port}"})
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "Redis", "failed", f"no Redis answers at redis://***@127.0.0.1:{port}", "start Redis")
    assert "canary" not in str(found)


def test_a_refused_broker_password_is_found(tmp_path: Path, debian_redis: Callable[..., DebianRedis]) -> None:
    server = debian_redis(password="right")
    hub.write(tmp_path, [DEMO], None, redis={"url": f"redis://:canary@127.0.0.1:{server.port}"})
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "Redis", "failed", "refused the password", "correct redis.url")


def test_a_wrong_camera_password_is_found(
    tmp_path: Path, gst_camera: Callable[..., GstCamera], http_camera: Callable[..., HttpCamera]
) -> None:
    camera = gst_camera(SMALL, user="viewer", password="right")
    cameras = [
        {"id": "good", "url": camera.url(user="viewer", password="right")},
        {"id": "wrong", "url": camera.url(user="viewer", password="canary")},
        {"id": "still", "url": http_camera().url()},
    ]
    hub.write(tmp_path, cameras, None)
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(
        found, "camera wrong", "failed", "refused the user name or password", "correct `username` and `password`"
    )
    assert "sends h264, 640x360" in found["camera good"][1]
    assert "canary" not in str(found)
    code, found = doctor(tmp_path, "--only", "good")
    assert code == 0
    code, found = doctor(tmp_path, "--no-cameras")
    assert code == 0
    assert not any(name.startswith("camera ") for name in found)


@pytest.mark.parametrize(("offset", "expected"), [("+3600", "60 min ahead of"), ("-86400", "24 h behind")])
def test_a_wrong_clock_is_found(
    tmp_path: Path, debian_redis: Callable[..., DebianRedis], offset: str, expected: str
) -> None:
    library = next(iter(Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")), None)
    if library is None:
        needs.missing("libfaketime is not installed; install it: apt-get install faketime")
    server = debian_redis()
    hub.write(tmp_path, [DEMO], None, redis={"url": server.url})
    env = {"LD_PRELOAD": str(library), "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    code, found = doctor(tmp_path, env=env)
    assert code == 0, "the hub still runs, but its event times are wrong"
    only_fault(found, "clock", "warning", f"{expected} Redis at {server.url}", "timedatectl set-ntp true")


def test_the_services_clock_is_compared(tmp_path: Path, local_service: Callable[..., LocalService]) -> None:
    service = local_service(streaming_keys=["right"])
    nvision = {"url": service.url, "streaming_key": "right"}
    hub.write(tmp_path, [DEMO], None, nvision=nvision)
    code, found = doctor(tmp_path)
    assert code == 0
    assert found["clock"] == ("passed", f"agrees with {service.url}")


def test_a_rejected_key_is_found(tmp_path: Path, local_service: Callable[..., LocalService]) -> None:
    service = local_service(streaming_keys=["right"])
    hub.write(tmp_path, [DEMO], None, nvision={"url": service.url, "streaming_key": "canary-key"})
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "service", "failed", "refused the key", "correct nvision.streaming_key")
    assert "canary" not in str(found)


def test_an_unreachable_service_is_found(tmp_path: Path) -> None:
    nvision = {"url": f"ws://127.0.0.1:{free_port()}/api", "streaming_key": "canary-key"}
    hub.write(tmp_path, [DEMO], None, nvision=nvision)
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "service", "failed", "connection refused by", "check nvision.url")


def test_a_full_disk_is_found(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o700)
    hub.write(tmp_path, [DEMO], None)
    unshare = needs.program("unshare", "util-linux")
    alone = [unshare, *([] if os.geteuid() == 0 else ["--map-root-user"]), "--mount"]
    fill = 'mount -t tmpfs -o size=256k,mode=700 tmpfs "$0" && exec "$@"'
    prefix = [*alone, "sh", "-c", fill, str(state)]
    if subprocess.run([*prefix, "true"], capture_output=True, check=False).returncode:
        needs.missing("this user cannot mount in a private namespace; test as root")
    words = [*prefix, sys.executable, "-m", "nvision_hub", "doctor", "--json"]
    done = subprocess.run(
        words, cwd=tmp_path, env=command.environment(), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 69, done.stderr
    found = {each["name"]: each for each in json.loads(done.stdout)["checks"]}
    assert {name for name, each in found.items() if each["status"] == "failed"} == {"state_dir", "disk"}
    assert "No space left on device" in found["state_dir"]["message"]
    assert "free some space" in found["disk"]["message"]


def test_a_folder_that_others_can_read_is_found(tmp_path: Path) -> None:
    state = tmp_path / "state"
    state.mkdir(mode=0o755)
    hub.write(tmp_path, [DEMO], None)
    code, found = doctor(tmp_path)
    assert code == 0
    only_fault(found, "state_dir", "warning", "other users of this machine can read", "makes it private at startup")
    (state / "theirs").write_text("")
    code, found = doctor(tmp_path)
    assert code == 69
    only_fault(found, "state_dir", "failed", "chmod 700")


def test_a_low_limit_of_open_files_is_found(tmp_path: Path) -> None:
    cameras = [{"id": f"camera{number}", "url": "rtsp://127.0.0.1:9/"} for number in range(24)]
    hub.write(tmp_path, cameras, None)
    prlimit = needs.program("prlimit", "util-linux")
    words = [prlimit, "--nofile=64:", sys.executable, "-m", "nvision_hub", "doctor", "--no-cameras", "--json"]
    done = subprocess.run(
        words, cwd=tmp_path, env=command.environment(), capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert done.returncode == 69, done.stderr
    (fault,) = (each for each in json.loads(done.stdout)["checks"] if each["status"] == "failed")
    assert fault["name"] == "open files"
    assert "ulimit -n 1024" in fault["message"]


def test_an_invalid_file_is_reported_with_all_mistakes(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text("siet: x\ncameras:\n  - {id: A, url: 'demo://street'}\n")
    done = command.run("doctor", cwd=tmp_path)
    assert done.returncode == 78
    assert "cameras.yaml:1:1: siet" in done.stdout
    assert "cameras.yaml:3:" in done.stdout
    assert "OpenCV" in done.stdout, "OpenCV is checked without a configuration"


def test_doctor_passes_beside_a_running_hub(tmp_path: Path, start_command: Callable[..., Running]) -> None:
    hub.write(tmp_path, [DEMO], None)
    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: "camera:street  streaming" in running.err)
    code, found = doctor(tmp_path)
    assert code == 0, found
    assert {status for status, _ in found.values()} == {"passed"}, found
    assert f"the running hub (pid {running.process.pid})" in found["broker's port"][1]
    assert "sends h264" in found["camera street"][1]
    # The check of the limit on open files uses this number.
    children = 4  # broker, service, demo, one camera
    held = len(list(Path(f"/proc/{running.process.pid}/fd").iterdir()))
    assert held <= HUB_OPEN_FILES + CHILD_OPEN_FILES * children


def test_check_opens_cameras_with_probe(
    tmp_path: Path, gst_camera: Callable[..., GstCamera], start_command: Callable[..., Running]
) -> None:
    camera = gst_camera(SMALL, user="viewer", password="right")
    cameras = [
        {"id": "good", "url": camera.url(user="viewer", password="right")},
        {"id": "wrong", "url": camera.url(user="viewer", password="canary")},
    ]
    hub.write(tmp_path, cameras, None)
    done = command.run("check", "--probe", "--json", cwd=tmp_path)
    assert done.returncode == 69
    assert done.stderr == ""
    facts = json.loads(done.stdout)
    assert facts["ok"] is False
    assert [each["id"] for each in facts["probed"]] == ["good", "wrong"]
    assert facts["probed"][0]["found"]["codec"] == "h264"
    assert facts["probed"][1]["state"] == "auth_failed"
    assert "canary" not in done.stdout
    watched = start_command("check", "--probe", cwd=tmp_path, terminal=(80, 30))
    assert watched.wait(PATIENCE_S) == 69
    assert "/2" in watched.screen, "the progress bar must show the count"
    assert "good   h264 640x360, 25.0 fps, a keyframe every 1.0 s" in watched.screen
    assert "1 of 2 cameras sends no frames" in watched.screen
    assert command.run("check", "--probe", "--only", "good", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("ahead_s", "status", "words"),
    [
        ({}, CheckStatus.PASSED, "not compared"),
        ({"Redis": 4.9, "wss://x": -4.9}, CheckStatus.PASSED, "agrees with Redis, wss://x"),
        ({"Redis": 1.0, "wss://x": 5.1}, CheckStatus.WARNING, "5.1 s behind wss://x"),
        ({"Redis": -200.0}, CheckStatus.WARNING, "3 min ahead of Redis"),
        ({"Redis": 3e7}, CheckStatus.WARNING, "347 d behind Redis"),
    ],
)
def test_a_large_clock_difference_is_a_warning(ahead_s: dict[str, float], status: CheckStatus, words: str) -> None:
    result = check_clock(ahead_s)
    assert result.status is status
    assert words in result.message


def test_the_limit_of_open_files_must_suffice() -> None:
    assert check_open_files(10, 100).status is CheckStatus.PASSED
    assert check_open_files(11, 100).status is CheckStatus.FAILED
