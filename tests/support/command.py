"""The command line in the form that users run: in a separate process, connected to pipes or to a terminal."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

_ROOT: Final = Path(__file__).parents[2]
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_IGNORE_SIGINT: Final = ("sh", "-c", "trap '' INT; exec \"$@\"", "sh")
_PROGRAM: Final = (sys.executable, "-m", "nvision_hub")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return this process's environment, with the project on PYTHONPATH and without variables that affect the CLI."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NVISION")}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        kept.pop(name, None)
    kept["TERM"] = "xterm-256color"
    kept["NVISION_HUB_LOG_FORMAT"] = "text"  # the default on a pipe is JSON, but most tests expect text
    path = os.pathsep.join(filter(None, [(extra or {}).get("PYTHONPATH"), str(_ROOT)]))
    return {**kept, **(extra or {}), "PYTHONPATH": path}


def run(
    *arguments: object,
    cwd: Path,
    env: Mapping[str, str] | None = None,
    stdin: str = "",
    timeout_s: float = PATIENCE_S,
    prefix: Sequence[str] = (),
) -> subprocess.CompletedProcess[str]:
    """Run one command until it exits. `prefix` is a program that runs the command, such as `env`."""
    return subprocess.run(
        [*prefix, *_PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )


@dataclass(kw_only=True)
class Running:
    """A command that runs in the background of the test.

    Like a shell's foreground job, it has its own process group.
    """

    process: subprocess.Popen[bytes]
    master: int | None  # descriptor of its terminal; None with pipes
    _text: dict[str, str] = field(default_factory=lambda: {"out": "", "err": ""})
    _output: threading.Condition = field(default_factory=threading.Condition)
    _readers: list[threading.Thread] = field(default_factory=list)
    _family: set[psutil.Process] = field(default_factory=set)

    def listen(self, name: str, descriptor: int) -> None:
        thread = threading.Thread(target=self._read, args=(name, descriptor), daemon=True)
        thread.start()
        self._readers.append(thread)

    def _read(self, name: str, descriptor: int) -> None:
        while True:
            try:
                data = os.read(descriptor, 65536)
            except OSError:  # the other end of the terminal is closed
                data = b""
            with self._output:
                self._text[name] += data.decode(errors="replace")
                self._output.notify_all()
            if not data:
                return

    @property
    def out(self) -> str:
        """Output on stdout so far. On a terminal, this is all raw output."""
        return self._text["out"]

    @property
    def err(self) -> str:
        """Output on stderr so far."""
        return self._text["err"]

    @property
    def screen(self) -> str:
        """Text of all redraws of the terminal so far, in order, without escape sequences."""
        # A carriage return without a line feed starts the next redraw.
        return _ANSI.sub("", self.out).replace("\r\n", "\n").replace("\r", "\n")

    def wait_for(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Wait for output until the condition is true."""
        end = time.monotonic() + timeout_s
        with self._output:
            while not condition():
                ended = self.process.poll() is not None and not any(thread.is_alive() for thread in self._readers)
                if ended or time.monotonic() > end:
                    raise AssertionError(
                        f"not met ({self.process.poll()=})\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
                    )
                self._output.wait(0.2)

    def record_family(self) -> set[psutil.Process]:
        """Return the process and all its descendants, including descendants that earlier calls found."""
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.process.pid)
            self._family |= {leader, *leader.children(recursive=True)}
        return self._family

    def survivors(self) -> list[str]:
        """Return a description of the recorded processes that still run."""
        left = []
        for process in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(f"{process.pid} {process.name()} {process.cmdline()}")
        return left

    def interrupt(self) -> None:
        """Press Ctrl-C on the terminal. Without a terminal, send SIGINT to the process group."""
        if self.master is None:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            os.write(self.master, b"\x03")

    def hang_up(self) -> None:
        """Close the terminal, like a closed window or a lost connection."""
        assert self.master is not None
        os.close(self.master)
        self.master = None

    def type(self, text: str) -> None:
        """Type text on the terminal."""
        assert self.master is not None
        os.write(self.master, text.encode())

    def wait(self, timeout_s: float = PATIENCE_S) -> int:
        """Wait until the process has exited and its output is read. Return its exit code."""
        code = self.process.wait(timeout_s)
        for thread in self._readers:
            thread.join(timeout_s)
        return code

    def close(self) -> None:
        """Terminate the process and kill its remaining descendants."""
        self.record_family()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(PATIENCE_S)
        for process in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(PATIENCE_S)
        for thread in self._readers:
            thread.join(PATIENCE_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        if self.master is not None:
            os.close(self.master)


@pytest.fixture
def start_command() -> Iterator[Callable[..., Running]]:
    """Start a command, as in `start_command("start", cwd=tmp_path)`. `terminal=(80, 24)` runs it on a terminal.

    If `ignores_sigint` is set, the command starts with SIGINT ignored, like a background job of a script. `prefix` is a
    program that runs the command, such as `env`.
    """
    started: list[Running] = []

    def start(
        *arguments: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
        ignores_sigint: bool = False,
        prefix: Sequence[str] = (),
    ) -> Running:
        words = [*prefix, *(_IGNORE_SIGINT if ignores_sigint else ()), *_PROGRAM, *map(str, arguments)]
        running = _piped(words, cwd, environment(env)) if terminal is None else _on_terminal(
            words, cwd, environment(env), terminal
        )  # fmt: skip
        started.append(running)
        return running

    yield start
    for running in started:
        running.close()


def _piped(words: list[str], cwd: Path, env: dict[str, str]) -> Running:
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        bufsize=0,
        start_new_session=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    running = Running(process=process, master=None)
    running.listen("out", process.stdout.fileno())
    running.listen("err", process.stderr.fileno())
    return running


def _on_terminal(words: list[str], cwd: Path, env: dict[str, str], size: tuple[int, int]) -> Running:
    master, slave = os.openpty()
    columns, lines = size
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))
    process = subprocess.Popen(
        words,
        cwd=cwd,
        env=env,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        # Make this terminal the session's controlling terminal, so that Ctrl-C sends SIGINT to the foreground group.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call, no lock
    )
    os.close(slave)
    running = Running(process=process, master=master)
    running.listen("out", master)
    return running


@pytest.fixture
def broken_opencv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the environment of a machine without libGL, on which importing cv2 fails."""
    folder = tmp_path_factory.mktemp("no-libgl")
    sentence = "libGL.so.1: cannot open shared object file: No such file or directory"
    (folder / "cv2.py").write_text(f"raise ImportError({sentence!r})\n")
    return {"PYTHONPATH": str(folder)}
