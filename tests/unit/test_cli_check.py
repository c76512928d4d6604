"""The commands `check`, `init` and `schema`, which work on files."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest

from nvision_hub import cli

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

GOOD = """\
version: 1
site: test
nvision: {url: "wss://nvision.example/api", streaming_key: canary-key}
redis: {url: "redis://:canary-redis@10.0.0.2:6379/0"}
cameras:
  - {id: lobby, url: "rtsp://viewer:canary-password@10.0.0.5/stream1", fps: 2}
  - {id: gate, url: "http://10.0.0.6/video.mjpg", fps: 0.5, max_width: 640}
"""


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("NVISION_HUB_CONFIG", raising=False)
    file = tmp_path / "cameras.yaml"
    file.write_text(GOOD)
    return file


@pytest.mark.usefixtures("good")
def test_check_shows_what_would_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check"]) == 0
    shown = capsys.readouterr()
    for text in (
        "lobby",
        "gate",
        "rtsp://***@10.0.0.5/stream1",
        "<= 640 px",
        "wss://nvision.example/api",
        "2.5 per second",
    ):
        assert text in shown.out
    assert "redis://***@10.0.0.2:6379/0, channel nvision:results:<camera>" in shown.out
    assert "canary" not in shown.out + shown.err
    assert shown.err == ""


@pytest.mark.usefixtures("good")
def test_json_contains_every_setting_and_no_secret(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--json", "--only", "gate"]) == 0
    text = capsys.readouterr().out
    facts = json.loads(text)
    assert facts["ok"] is True
    assert [camera["id"] for camera in facts["cameras"]] == ["gate"]
    assert facts["cameras"][0]["fps"] == 0.5
    assert facts["warnings"] == []
    assert "canary" not in text


def test_the_file_may_come_from_the_environment(
    good: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    other = good.rename(good.with_name("other.yaml"))
    monkeypatch.setenv("NVISION_HUB_CONFIG", str(other))
    assert cli.main(["check"]) == 0
    assert "other.yaml is valid (2 cameras)" in capsys.readouterr().out


def test_every_problem_is_reported_at_once(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    good.write_text("version: 1\nsiet: x\ncameras:\n  - {id: A, url: 'ftp://x', fps: 1000}\n")
    assert cli.main(["check"]) == 78
    shown = capsys.readouterr()
    assert shown.out == ""
    assert [line.split(": ")[:2] for line in shown.err.splitlines()] == [
        ["cameras.yaml:2:1", "siet"],
        ["cameras.yaml:4:10", "cameras[0].id"],
        ["cameras.yaml:4:18", "cameras[0].url"],
        ["cameras.yaml:4:34", "cameras[0].fps"],
    ]
    assert cli.main(["check", "--json"]) == 78
    shown = capsys.readouterr()
    facts = json.loads(shown.out)
    assert facts["ok"] is False
    assert [(found["line"], found["field"], found["code"]) for found in facts["problems"]] == [
        (2, "siet", "unknown_key"),
        (4, "cameras[0].id", "invalid_value"),
        (4, "cameras[0].url", "invalid_value"),
        (4, "cameras[0].fps", "invalid_value"),
    ]
    assert shown.err == ""


@pytest.mark.usefixtures("good")
def test_an_unknown_camera_is_a_usage_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["check", "--only", "loby"]) == 2
    assert "did you mean `lobby`?" in capsys.readouterr().err
    assert cli.main(["check", "--only", "zzz"]) == 2
    assert "choose from lobby, gate" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("addition", "expected"),
    [
        ("defaults: {placement: {site: east}}", "placement (camera lobby, gate): "),
    ],
)
def test_unsupported_settings_are_reported(
    good: Path, capsys: pytest.CaptureFixture[str], addition: str, expected: str
) -> None:
    good.write_text(f"{GOOD}{addition}\n")
    assert cli.main(["check"]) == 0
    assert f"warning: cameras.yaml: {expected}" in capsys.readouterr().err
    assert cli.main(["check", "--json"]) == 0
    (warning,) = json.loads(capsys.readouterr().out)["warnings"]
    assert expected in warning


def test_check_shows_the_changes_that_a_start_restores(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = good.parent / "state"
    folder.mkdir(mode=0o700)
    added = {"yard": {"id": "yard", "url": "rtsp://10.0.0.9/stream1"}}
    changes = {"added": added, "removed": ["gate"], "settings": {"lobby": {"fps": 0.25}}}
    (folder / "run-time.json").write_text(json.dumps(changes))
    good.write_text(f"{GOOD}state_dir: {folder}\ndefaults: {{username: viewer, password: canary-default}}\n")
    assert cli.main(["check", "--json"]) == 0
    text = capsys.readouterr().out
    assert "canary" not in text
    facts = json.loads(text)
    assert [(camera["id"], camera["fps"]) for camera in facts["cameras"]] == [("lobby", 0.25), ("yard", 5.0)]
    login, restored = facts["warnings"]
    assert "cameras added at run time (yard) do not receive" in login
    assert restored == "run-time overrides still in effect: lobby fps=0.25; added yard; removed gate"


def test_init_writes_a_valid_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert cli.main(["init"]) == 0
    assert "nvision-hub start" in capsys.readouterr().out
    assert (tmp_path / "cameras.yaml").stat().st_mode & 0o777 == 0o600
    assert cli.main(["check"]) == 0
    assert cli.main(["init", "second.yaml"]) == 0
    assert "nvision-hub start second.yaml" in capsys.readouterr().out
    assert (tmp_path / "second.yaml").read_text() == (tmp_path / "cameras.yaml").read_text()


def test_init_never_overwrites_a_file(good: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["init"]) == 1
    assert "already exists and was not changed" in capsys.readouterr().err
    assert good.read_text() == GOOD
    assert cli.main(["init", "no-such-folder/cameras.yaml"]) == 1
    assert "cannot write no-such-folder/cameras.yaml" in capsys.readouterr().err


def test_schema_is_a_json_schema(capsys: pytest.CaptureFixture[str]) -> None:
    from jsonschema import Draft202012Validator  # noqa: PLC0415 - this import takes a second of CPU time

    assert cli.main(["schema"]) == 0
    Draft202012Validator.check_schema(json.loads(capsys.readouterr().out))


@pytest.fixture
def check_problems(good: Path, capsys: pytest.CaptureFixture[str]) -> Callable[[str], str]:
    """Return a function that runs `check` with a cameras.yaml, and returns stderr."""

    def run(content: str) -> str:
        good.write_text(content)
        cli.main(["check"])
        return capsys.readouterr().err

    return run


SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def test_check_finds_a_missing_clip(check_problems: Callable[[str], str], good: Path) -> None:
    content = 'cameras: [{id: lobby, url: "file:clip.mp4"}]'
    assert "camera lobby: the file " in check_problems(content)
    (good.parent / "clip.mp4").touch()
    assert check_problems(content) == ""


@pytest.mark.parametrize(
    ("host", "is_private"),
    [
        ("127.0.0.1", True),
        ("10.1.2.3:8080", True),
        ("[::1]", True),
        ("[fd00::1]", True),
        ("localhost", True),
        ("nas.local", True),
        ("8.8.8.8", False),
        ("example.com", False),
    ],
)
def test_check_finds_a_webhook_to_a_private_address(
    check_problems: Callable[[str], str], host: str, *, is_private: bool
) -> None:
    webhook = f'{{id: alarms, url: "http://{host}/hook", secret: {SECRET}'
    cameras = 'cameras: [{id: lobby, url: "demo://street"}]'
    found = check_problems(f"{cameras}\nwebhooks: [{webhook}}}]")
    assert ("webhook alarms: " in found and "allow_private: true" in found) is is_private
    assert "webhook" not in check_problems(f"{cameras}\nwebhooks: [{webhook}, allow_private: true}}]")


def test_check_finds_images_that_fill_the_stream(check_problems: Callable[[str], str]) -> None:
    cameras = 'cameras: [{id: lobby, url: "demo://street", fps: 5}, {id: gate, url: "demo://street", fps: 0.001}]'
    nvision = "nvision: {output_visualized_image: true}"
    found = check_problems(f"{nvision}\n{cameras}")
    assert "cameras lobby, gate return images, so redis.stream_max_bytes keeps only about the last 9 min" in found
    assert check_problems(f"{nvision}\n{cameras}\nredis: {{stream_max_bytes: 10000000000}}") == ""
    assert check_problems(cameras) == ""


def test_check_finds_a_missing_extra(check_problems: Callable[[str], str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "aiomqtt", None)  # the import fails
    found = check_problems('mqtt: {url: "mqtt://10.0.0.3"}\ncameras: [{id: lobby, url: "rtsp://10.0.0.5/"}]\n'
                           'nvision: {url: "wss://nvision.example/api", streaming_key: canary-key}')  # fmt: skip
    assert "the hub cannot start: the MQTT bridge needs aiomqtt; run pip install 'nvision-hub[mqtt]'" in found


@pytest.mark.parametrize(
    ("written", "suggested"),
    [("Lobby 1", "lobby-1"), ("LOBBY", "lobby"), ("-gate", "gate"), ("Eingang (Süd)", "eingang-s-d"), ("!", None)],
)
def test_an_invalid_id_gets_a_suggestion(
    check_problems: Callable[[str], str], written: str, suggested: str | None
) -> None:
    found = check_problems(f'cameras: [{{id: "{written}", url: "demo://street"}}]')
    assert "cameras[0].id: must be 1 to 63 lower-case letters" in found
    assert (f"did you mean `{suggested}`?" in found) is (suggested is not None)


@pytest.mark.parametrize("port", ["99999", "65536", "0"])
def test_a_port_out_of_range_is_reported(check_problems: Callable[[str], str], port: str) -> None:
    for url in (f"rtsp://10.0.0.5:{port}/x", f"rtsp://viewer:secret@10.0.0.5:{port}/x"):
        found = check_problems(f'cameras: [{{id: lobby, url: "{url}"}}]')
        assert "cameras[0].url: has a port that is out of range; use a port from 1 to 65535" in found
        assert "secret" not in found
