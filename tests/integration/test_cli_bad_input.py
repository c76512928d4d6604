"""User mistakes: for each, the error names the location and the fix, and the exit code is correct."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub import cli
from tests.support import clip_files, clips, command, hub

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.http_camera import HttpCamera
    from tests.support.rtsp import GstCamera

Call = Callable[..., "Done"]

SMALL = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
PASSWORD = "p@ss:/?#%[] é"
DEMO = {"id": "street", "url": "demo://street"}


@dataclass(frozen=True, kw_only=True)
class Done:
    """Exit code and output of a call."""

    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the working directory for calls in this process."""
    monkeypatch.chdir(tmp_path)
    for name in ("NVISION_HUB_CONFIG", "NVISION_STREAMING_KEYS", "NOT_SET_HERE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.fixture
def call(capsys: pytest.CaptureFixture[str]) -> Call:
    """Run the CLI inside the test process. Use this only for commands that fail before they start a child process."""

    def run(*arguments: str) -> Done:
        code = cli.main(arguments)
        output = capsys.readouterr()
        return Done(returncode=code, stdout=output.out, stderr=output.err)

    return run


def assert_rejected(done: Any, code: int, *words: str) -> None:
    """Assert the exit code, a line on stderr with all the words, and no traceback."""
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    lines = done.stderr.splitlines()
    assert any(all(word in line for word in words) for line in lines), done.stderr


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("cameras: [{id: a, url: 'demo://street'", ("cameras.yaml:1:11", "not closed")),
        ("cameras:\n\t- id: a", ("cameras.yaml:2:", "tab")),
        ("", ("is empty", "nvision-hub init")),
        ("- a list", ("cameras.yaml:1:1", "cameras:")),
        ("version: 1", ("cameras: is missing or empty", "demo://street")),
        ("camera: []\ncameras: [{id: a, url: 'demo://street'}]", ("cameras.yaml:1:1: camera:", "`cameras`")),
        ("cameras: [{id: a, url: 'demo://street', fsp: 1}]", ("cameras[0].fsp", "`fps`")),
        (
            "cameras:\n  - {id: a, url: 'demo://street'}\n  - {id: a, url: 'demo://street'}",
            ("cameras.yaml:3:10: cameras[1].id", "line 2"),
        ),
        ("cameras:\n  - {id: a, id: b, url: 'demo://street'}", ("cameras.yaml:2:13", "id")),
        ("cameras: [{id: a, url: 'rtsp://u:${NOT_SET_HERE}@10.0.0.5/1'}]", ("cameras[0].url", "NOT_SET_HERE")),
        ("cameras: [{id: a, url: 'ftp://10.0.0.5/1'}]", ("cameras[0].url", "rtsp://", "usb:")),
        ("cameras: [{id: a, url: 'concat:/etc/passwd'}]", ("cameras[0].url",)),
        ("cameras: [{id: a, url: 'file:/etc/passwd'}]", ("cameras[0].url", "outside")),
        ("cameras: [{id: a, url: 'demo://street', fps: 0}]", ("cameras[0].fps", "0", "60")),
        ("cameras: [{id: a, url: 'demo://street', fps: 1000}]", ("cameras[0].fps", "60")),
        ("cameras: [{id: a, url: 'demo://street', fps: fast}]", ("cameras[0].fps", "number")),
        ("cameras: [{id: a, url: 'demo://steet'}]", ("cameras[0].url", "`street`")),
        (
            "nvision: {url: 'wss://nvision.example/api'}\ncameras: [{id: a, url: 'demo://street'}]",
            ("nvision.streaming_key", "portal"),
        ),
    ],
)
def test_an_invalid_file_is_reported_with_location_and_fix(
    folder: Path, call: Call, text: str, words: tuple[str, ...]
) -> None:
    (folder / "cameras.yaml").write_text(text)
    assert_rejected(call("start"), 78, *words)
    assert not (folder / ".nvision-hub").exists()


def test_all_mistakes_are_reported_at_once(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(
        "siet: x\ncameras:\n"
        "  - {id: A, url: 'demo://street', fps: 0}\n"
        "  - {id: b, url: 'ftp://x', password: '${NOT_SET_HERE}'}\n"
    )
    done = command.run("start", cwd=tmp_path)
    assert done.returncode == 78
    assert [line.split(":")[:2] for line in done.stderr.splitlines()] == [
        ["cameras.yaml", line] for line in ("1", "3", "3", "4", "4")
    ]


def test_missing_and_unreadable_files_are_reported(folder: Path, call: Call) -> None:
    assert_rejected(call("start"), 78, "cameras.yaml", "no such file", "nvision-hub init")
    assert_rejected(call("start", "."), 78, "is a folder")
    (folder / "cameras.yaml").write_bytes(b"site: \xff\xfe\n")
    assert_rejected(call("start"), 78, "cameras.yaml:1:7", "UTF-8")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("start --only stret", ("no camera 'stret'", "`street`")),
        ("start --log-level loud", ("loud", "warning")),
        ("start --onyl street", ("--onyl", "--only")),
        ("service --listen 8090", ("host:port",)),
        ("service --model no.onnx", ("no.onnx", "does not exist")),
        ("service --latency -1", ("--latency",)),
        ("probe", ("URL|CAMERA",)),
        ("probe rtps://u:canary@10.0.0.5/", ("must begin with rtsp://",)),
        ("probe usb:0 --username u", ("no user name",)),
        ("probe rtsp://u:p@c/ --username u", ("give it once",)),
        ("probe rtsp://u:p@c/ --password-env HOME", ("give it once",)),
        ("probe rtsp://u@c/ --password-env NOT_SET_HERE", ("NOT_SET_HERE", "export")),
        ("probe rtsp://u@c/ --password-env HOME --password-stdin", ("exclude each other",)),
        ("probe street --username u", ("apply only to a URL", "user name and password in cameras.yaml")),
        ("probe stret", ("no camera 'stret'", "`street`")),
    ],
)
def test_usage_errors_are_explained(folder: Path, call: Call, arguments: str, words: tuple[str, ...]) -> None:
    hub.write(folder, [DEMO], None)
    done = call(*arguments.split())
    assert_rejected(done, 2, *words)
    assert "canary" not in done.stderr


def test_an_invalid_callback_url_is_rejected(tmp_path: Path) -> None:
    assert_rejected(command.run("service", "--callback", "ftp://x", cwd=tmp_path), 78, "callback", "http://")


def test_an_unreachable_redis_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
    hub.write(tmp_path, [DEMO], None, redis={"url": f"redis://:canary@127.0.0.1:{port}/0"})
    for verb in ("start", "tail"):
        done = command.run(verb, cwd=tmp_path)
        assert_rejected(done, 69, "no Redis", f" at redis://***@127.0.0.1:{port}", "correct redis.url")
        assert "canary" not in done.stderr


def test_a_service_port_in_use_is_reported(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = command.run("service", "--listen", f"127.0.0.1:{port}", cwd=tmp_path)
    assert_rejected(done, 69, f"127.0.0.1 port {port}", "choose another port")


def test_a_missing_libgl_is_reported_with_the_fix(tmp_path: Path, broken_opencv: dict[str, str]) -> None:
    words = ("OpenCV cannot be loaded", "libGL.so.1", "apt-get install libgl1")
    hub.write(tmp_path, [DEMO], None)
    assert_rejected(command.run("start", cwd=tmp_path, env=broken_opencv), 69, *words)
    assert_rejected(command.run("service", "--listen", "127.0.0.1:0", cwd=tmp_path, env=broken_opencv), 69, *words)
    assert command.run("check", cwd=tmp_path, env=broken_opencv).returncode == 0


def test_a_state_dir_that_cannot_be_created_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    hub.write(tmp_path, [DEMO], None, state_dir=str(tmp_path / "file" / "state"))
    assert_rejected(
        command.run("start", cwd=tmp_path), 69, "state_dir", "cannot be written", "choose another state_dir"
    )


@pytest.mark.long
def test_probe_reports_the_problem_of_a_camera(
    tmp_path: Path, gst_camera: Callable[..., GstCamera], unknown_codec: str
) -> None:
    camera = gst_camera(SMALL, user="viewer", password=PASSWORD)
    address = f"rtsp://viewer@127.0.0.1:{camera.port}/cam"
    wrong = command.run("probe", address, "--password-stdin", cwd=tmp_path, stdin="canary\n")
    assert_rejected(wrong, 69, "refused the user name or password", "rtsp://***@127.0.0.1")
    assert "canary" not in wrong.stderr
    assert_rejected(
        command.run("probe", f"rtsp://127.0.0.1:{camera.port}/cam", cwd=tmp_path), 69, "user name and password"
    )
    missing = command.run("probe", f"{address}2", "--password-env", "SECRET", cwd=tmp_path, env={"SECRET": PASSWORD})
    assert_rejected(missing, 69, "does not exist; ", "correct the path")
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    assert_rejected(command.run("probe", f"rtsp://127.0.0.1:{port}/", cwd=tmp_path), 69, "connection refused by")
    assert_rejected(command.run("probe", unknown_codec, cwd=tmp_path), 69, "set the camera to H.264, H.265 or MJPEG")
    (tmp_path / "notes.mp4").write_text("no video at all\n" * 100)
    assert_rejected(command.run("probe", "file:notes.mp4", cwd=tmp_path), 69, "set the camera to H.264")
    assert_rejected(command.run("probe", "usb:99", cwd=tmp_path), 69, "/dev/video99 does not exist")


@pytest.mark.long
def test_probe_reports_what_a_camera_sends(
    tmp_path: Path, gst_camera: Callable[..., GstCamera], http_camera: Callable[..., HttpCamera]
) -> None:
    camera = gst_camera(SMALL, user="viewer", password=PASSWORD)
    address = f"rtsp://viewer@127.0.0.1:{camera.port}/cam"
    done = command.run("probe", address, "--seconds", "2.5", "--password-stdin", cwd=tmp_path, stdin=f"{PASSWORD}\n")
    assert done.returncode == 0, done.stderr
    for text in (
        "h264, 640x360",
        "one every 1.00 s",
        "treated as limited",
        "fps: 0.5",
        "password: ${CAMERA_1_PASSWORD}",
    ):
        assert text in done.stdout, done.stdout
    assert PASSWORD not in done.stdout
    assert f'url: "rtsp://127.0.0.1:{camera.port}/cam"' in done.stdout
    done = command.run("probe", camera.url(), "--transport", "udp", "--seconds", "2.5", "--json", cwd=tmp_path)
    facts = json.loads(done.stdout)
    assert facts["url"] == f"rtsp://***@127.0.0.1:{camera.port}/cam"
    assert facts["fps"] == pytest.approx(25, rel=0.02)
    assert facts["decoded_per_s"] == {"5": pytest.approx(23, abs=4), "1": pytest.approx(1, abs=0.1),
                                      "0.5": pytest.approx(0.5, abs=0.1)}  # fmt: skip
    mjpeg = command.run("probe", http_camera().url(), "--seconds", "1", cwd=tmp_path)
    assert "mjpeg, 640x360, JPEG" in mjpeg.stdout
    assert "full range" in mjpeg.stdout
    snapshot = command.run("probe", f"snapshot+{http_camera().url('/snapshot.jpg')}", "--seconds", "1", cwd=tmp_path)
    assert "jpeg, 640x360" in snapshot.stdout, snapshot.stderr


def test_probe_prompts_for_the_password_on_a_terminal(
    tmp_path: Path, gst_camera: Callable[..., GstCamera], start_command: Callable[..., Running]
) -> None:
    camera = gst_camera(SMALL, user="viewer", password="canary")
    address = f"rtsp://viewer@127.0.0.1:{camera.port}/cam"
    probe = start_command("probe", address, "--seconds", "2", cwd=tmp_path, terminal=(80, 40))
    probe.wait_for(lambda: "Password of viewer:" in probe.screen)
    probe.type("canary\n")
    assert probe.wait() == 0
    assert "h264, 640x360" in probe.screen
    assert "canary" not in probe.screen


def _logged(running: Running, text: str) -> bool:
    return text in running.err


def test_failing_cameras_do_not_affect_others(
    tmp_path: Path,
    gst_camera: Callable[..., GstCamera],
    unknown_codec: str,
    start_command: Callable[..., Running],
) -> None:
    camera = gst_camera(SMALL, user="viewer", password=PASSWORD)
    cameras: list[dict[str, Any]] = [
        {"id": "locked", "url": camera.url(user="viewer", password="canary")},
        {"id": "lost", "url": f"{camera.url()}-nowhere"},
        {"id": "strange", "url": unknown_codec},
        {"id": "gone", "url": "rtsp://127.0.0.1:9/"},
        {"id": "good", "url": camera.url(), "fps": 5},
    ]
    hub.write(tmp_path, cameras, None)
    running = start_command("start", cwd=tmp_path)
    for text in (
        "camera:good  streaming",
        "camera:locked  auth_failed",
        "camera:lost  not_found",
        "camera:strange  unsupported",
        "camera:gone  unreachable",
    ):
        running.wait_for(partial(_logged, running, text))
    assert "correct `username` and `password` of this camera" in running.err
    assert "canary" not in running.err
    assert PASSWORD not in running.err
    assert "Traceback" not in running.err
    running.interrupt()
    assert running.wait() == 130


@pytest.mark.long
def test_the_entry_that_probe_suggests_for_a_file_is_valid(tmp_path: Path) -> None:
    """cameras.yaml accepts only files in its own folder."""
    clip_files.file_of(SMALL, tmp_path).close()
    clip = tmp_path / "clip.mkv"
    for folder in (tmp_path, tmp_path / "site"):
        folder.mkdir(exist_ok=True)
        found = command.run("probe", f"file:{clip}", "--seconds", "1", cwd=folder)
        assert found.returncode == 0, found.stderr
        heading, _, entry = found.stdout.partition("In cameras.yaml")[2].partition(":\n")
        assert ("ln -s" in heading) is (folder != tmp_path)
        if folder != tmp_path:
            (folder / clip.name).symlink_to(clip)
        (folder / "cameras.yaml").write_text(f"cameras:\n{entry}")
        checked = command.run("check", cwd=folder)
        assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
    bare = command.run("probe", clip.name, cwd=tmp_path)
    assert (bare.returncode, f"for a video file, write file:{clip.name}" in bare.stderr) == (2, True)
