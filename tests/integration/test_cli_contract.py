"""Rules for every command: help, exit codes, shell completion, and JSON output of commands that only read.

The first test fails if a command is missing from the tables below.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub import cli
from tests.support import command, hub, needs
from workers.local_service.packaged_models import MODELS

if TYPE_CHECKING:
    from pathlib import Path

CAMERAS: Final = [{"id": "lobby", "url": "rtsp://127.0.0.1:9/a"}, {"id": "gate", "url": "rtsp://127.0.0.1:9/b"}]
SECRET: Final = "whsec_" + "A" * 40
BAD: Final = "cameras:\n  - {id: A, url: 'demo://street'}\n"

# One call of each command on a machine without a hub, with the expected exit code and whether stdout is JSON.
CALLS: Final = {
    "start": ("start --only unknown", 2, False),
    "check": ("check --json", 0, True),
    "doctor": ("doctor --no-cameras --json", 0, True),
    "init": ("init other.yaml", 0, False),
    "schema": ("schema", 0, True),
    "discover": ("discover --seconds 0.5 --interface 127.0.0.1 --json", 1, True),
    "probe": ("probe rtsp://127.0.0.1:9/ --json", 69, False),
    "status": ("status --json", 69, False),
    "explain": ("explain lobby --json", 69, False),
    "ps": ("ps --json", 0, True),
    "usage": ("usage --json", 69, False),
    "tail": ("tail --json", 69, False),
    "tracks": ("tracks --json", 69, False),
    "logs": ("logs lobby --json", 1, False),
    "pause": ("pause lobby --json", 69, False),
    "resume": ("resume lobby --json", 69, False),
    "restart": ("restart lobby --json", 69, False),
    "set": ("set lobby fps=2 --json", 69, False),
    "replay": ("replay --webhook alarms --since 1h --json", 69, False),
    "dead-letters": ("dead-letters --json", 69, False),
    "token": ("token list --json", 0, True),
    "audit": ("audit --json", 0, False),
    "backup": ("backup hub.zip", 69, False),
    "restore": ("restore missing.zip", 69, False),
    "service": ("service --latency -1", 2, False),
    "models": ("models list --json", 0, True),
    "render": ("render systemd --program /usr/bin/nvision-hub", 0, False),
    "completion": ("completion bash", 0, False),
    "version": ("version --json", 0, True),
}
WITHOUT_JSON: Final = {"start", "init", "schema", "backup", "restore", "service", "render", "completion"}
WITHOUT_CONFIG: Final = {"ps", "init", "schema", "discover", "service", "models", "completion", "version"}
# Arguments that make the other commands read cameras.yaml.
ARGUMENTS: Final = {
    "probe": ["lobby"],
    "explain": ["lobby"],
    "logs": ["lobby"],
    "pause": ["lobby"],
    "resume": ["lobby"],
    "restart": ["lobby"],
    "set": ["lobby", "fps=2"],
    "replay": ["--webhook", "alarms", "--dead"],
    "render": ["compose"],
    "token": ["list"],
    "backup": ["hub.zip"],
    "restore": ["hub.zip"],
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("NVISION")]:
        monkeypatch.delenv(name)
    webhook = {"id": "alarms", "url": "https://example.com/hook", "secret": SECRET}
    hub.write(tmp_path, CAMERAS, None, webhooks=[webhook], state_dir="${STATE_DIRECTORY:-state}")
    return tmp_path


def test_every_command_is_listed() -> None:
    assert set(CALLS) == set(cli.COMMANDS)


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.usefixtures("folder")
def test_each_command_has_its_exit_code_and_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments, code, is_json = CALLS[name]
    assert cli.main(arguments.split()) == code, capsys.readouterr()
    shown = capsys.readouterr()
    if is_json:
        json.loads(shown.out)
    if code in {2, 69}:
        assert shown.out == "", "errors belong on stderr"
        assert shown.err.strip()
    assert "Traceback" not in shown.err


@pytest.mark.parametrize("key", ["objects", "faces"])
def test_each_model_shows_its_license_and_origin(key: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["models", "show", key, "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["license"]
    assert shown["package"]
    installed = MODELS[key].is_installed
    assert (shown["size_bytes"] is not None) is installed
    assert cli.main(["models", "show", key]) == 0
    assert shown["name"] in capsys.readouterr().out
    assert cli.main(["models", "list"]) == 0
    assert shown["name"] in capsys.readouterr().out


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.usefixtures("folder")
def test_an_unknown_option_is_a_usage_error(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--no-such-option"]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "--no-such-option" in shown.err


@pytest.mark.parametrize("name", sorted(set(cli.COMMANDS) - WITHOUT_CONFIG))
def test_an_invalid_cameras_yaml_is_reported_with_its_location(
    name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "cameras.yaml").write_text(BAD)
    assert cli.main([name, *ARGUMENTS.get(name, [])]) == 78
    shown = capsys.readouterr()
    assert "cameras.yaml:2:10: cameras[0].id" in shown.out + shown.err


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_has_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert ("--json" in shown) is (name not in WITHOUT_JSON)
    assert "Example" in shown


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Return a PATH on which `nvision-hub` runs this checkout."""
    folder = tmp_path / "bin"
    folder.mkdir()
    program = folder / "nvision-hub"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m nvision_hub "$@"\n')
    program.chmod(0o755)
    return f"{folder}{os.pathsep}{os.environ['PATH']}"


@pytest.mark.long
@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (["pau"], {"pause"}),
        (["pause", ""], {"lobby", "gate"}),
        (["set", "lo"], {"lobby"}),
        (["logs", "l"], {"lobby"}),
        (["start", "--only", "g"], {"gate"}),
        (["check", "--pr"], {"--probe"}),
        (["start", "--log-format", "j"], {"json"}),
    ],
)
def test_bash_completes(folder: Path, path: str, words: list[str], wanted: set[str]) -> None:
    needs.program("bash", "bash")
    # An unset variable must not prevent completion.
    (folder / "cameras.yaml").write_text("cameras:\n  - {id: lobby, url: '${NOT_SET_HERE}'}\n  - {id: gate, url: x}\n")
    script = """
        eval "$(nvision-hub completion bash)"
        COMP_WORDS=(nvision-hub "$@")
        COMP_CWORD=$#
        _nvision_hub_completion nvision-hub
        printf '%s\n' "${COMPREPLY[@]}"
    """
    done = subprocess.run(
        ["bash", "-c", script, "bash", *words],
        cwd=folder,
        env=command.environment({"PATH": path}),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stderr == ""
    assert set(done.stdout.split()) == wanted


@pytest.mark.parametrize(("shell", "mark"), [("bash", "complete -o"), ("zsh", "#compdef"), ("fish", "complete ")])
def test_each_shell_has_a_script(shell: str, mark: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert mark in script
    assert "_NVISION_HUB_COMPLETE" in script
