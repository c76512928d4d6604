"""Exit code and message of each error, help for each command, and the speed of `--help`."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, NoReturn

import pytest

from nvision_hub import cli
from nvision_hub.errors import ConfigError, Diagnostic, HubError, UnavailableError
from tests.support import command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

HEAVY = ("av", "cv2", "numpy", "pydantic", "redis", "rich", "websockets", "workers", "nvision_hub.config")


@pytest.fixture
def fail_with(monkeypatch: pytest.MonkeyPatch) -> Callable[[BaseException], None]:
    """Return a function that makes the command `schema` fail with the given error."""

    def arrange(error: BaseException) -> None:
        def fail() -> NoReturn:
            raise error

        monkeypatch.setattr("nvision_hub.cli.commands.init.schema_text", fail)

    return arrange


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, summary in cli.COMMANDS.items():
        assert f"  {name}" in shown
        assert summary in shown


@pytest.mark.parametrize("name", cli.COMMANDS)
@pytest.mark.parametrize("option", ["-h", "--help"])
def test_every_command_has_help(name: str, option: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([name, option]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: nvision-hub {name}")
    assert "Example" in shown
    assert max(map(len, shown.splitlines())) <= 80


@pytest.mark.parametrize("name", ["check", "probe", "tail", "version"])
def test_commands_that_read_offer_json(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    cli.main([name, "--help"])
    assert "--json" in capsys.readouterr().out


def test_help_imports_no_heavy_package(tmp_path: Path) -> None:
    program = """if True:
        import sys
        from nvision_hub.cli import main
        main(["--help"])
        print([name for name in sys.argv[1:] if name in sys.modules])
    """
    words = [sys.executable, "-c", program, *HEAVY]
    done = subprocess.run(words, cwd=tmp_path, env=command.environment(), capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main([]) == 2
    shown = capsys.readouterr()
    assert "Commands:" in shown.out + shown.err


def test_a_mistyped_command_suggests_the_nearest(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["chekc"]) == 2
    shown = capsys.readouterr()
    assert "Did you mean 'check'?" in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (HubError("It failed."), 1),
        (UnavailableError("Redis is down."), 69),
        (ConfigError([Diagnostic(code="bad", message="bad", file="f.yaml", line=1, column=2, path=("key",))]), 78),
    ],
)
def test_an_error_prints_its_message_and_sets_the_exit_code(
    error: HubError, code: int, fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(error)
    assert cli.main(["schema"]) == code
    shown = capsys.readouterr()
    prefix = "" if isinstance(error, ConfigError) else "nvision-hub: "
    assert shown.err == f"{prefix}{error}\n"
    assert shown.out == ""


def test_no_error_reveals_a_secret(
    fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    for error in (HubError("rtsp://u:hunter2@cam/1 failed"), RuntimeError("rtsp://u:hunter2@cam/1 failed")):
        fail_with(error)
        assert cli.main(["--debug", "schema"]) == 1
        shown = capsys.readouterr().err
        assert "hunter2" not in shown
        assert "rtsp://***@cam/1 failed" in shown


def test_an_internal_error_asks_for_a_report(
    fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]
) -> None:
    fail_with(RuntimeError("what?"))
    assert cli.main(["schema"]) == 1
    shown = capsys.readouterr().err
    assert len(shown.splitlines()) == 1
    assert "RuntimeError: what?" in shown
    assert "please report it" in shown


@pytest.mark.parametrize("by_variable", [True, False])
def test_debug_shows_the_traceback(
    fail_with: Callable[[BaseException], None],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    *,
    by_variable: bool,
) -> None:
    fail_with(RuntimeError("what?"))
    if by_variable:
        monkeypatch.setenv("NVISION_HUB_DEBUG", "1")
    assert cli.main(["schema"] if by_variable else ["--debug", "schema"]) == 1
    assert "Traceback (most recent call last)" in capsys.readouterr().err


def test_ctrl_c_exits_with_130(fail_with: Callable[[BaseException], None], capsys: pytest.CaptureFixture[str]) -> None:
    fail_with(KeyboardInterrupt())
    assert cli.main(["schema"]) == 130
    assert capsys.readouterr().err.strip() == ""


def test_a_closed_pipe_is_not_an_error(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "nvision_hub", "schema"],
        cwd=tmp_path,
        env=command.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    with process, process.stderr:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 0


def test_version_shows_the_dependencies(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["version", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert {"nvision-hub", "Python", "FFmpeg", "OpenCV", "websockets", "redis", "Valkey"} <= set(facts)
    assert not any("not usable" in value for value in facts.values())
    assert cli.main(["version"]) == 0
    assert facts["FFmpeg"] in capsys.readouterr().out


def test_version_works_without_opencv(tmp_path: Path, broken_opencv: dict[str, str]) -> None:
    done = command.run("version", cwd=tmp_path, env=broken_opencv)
    assert done.returncode == 0
    assert "apt-get install libgl1" in done.stdout
    assert done.stderr == ""


def test_the_package_runs_as_a_module(tmp_path: Path) -> None:
    assert command.run("--help", cwd=tmp_path).stdout.startswith("Usage: nvision-hub ")
