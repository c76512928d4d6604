"""The command line as its users start it: a process of its own, with pipes or on a terminal."""

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_ROOT: Final = Path(__file__).parents[2]
_STOP_S: Final = 15.0
_ANSI: Final = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
_PROGRAM: Final = (sys.executable, "-m", "nvision_hub")


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """The process's, without what would change how the command line behaves, and where the project is."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("NVISION")}
    for name in ("NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"):
        kept.pop(name, None)
    kept["TERM"] = "xterm-256color"
    kept["NVISION_HUB_LOG_FORMAT"] = "text"  # what most tests read; on pipes it would be JSON
    path = os.pathsep.join(filter(None, [(extra or {}).get("PYTHONPATH"), str(_ROOT)]))
    return {**kept, **(extra or {}), "PYTHONPATH": path}


def run(
    *arguments: object, cwd: Path, env: Mapping[str, str] | None = None, stdin: str = "", within_s: float = 40.0
) -> subprocess.CompletedProcess[str]:
    """One call from beginning to end."""
    return subprocess.run(
        [*_PROGRAM, *map(str, arguments)],
        cwd=cwd,
        env=environment(env),
        input=stdin,
        capture_output=True,
        text=True,
        timeout=within_s,
        check=False,
    )


@dataclass(kw_only=True)
class Running:
    """A call that goes on. It leads a process group of its own, as a shell's foreground job does."""

    process: subprocess.Popen[bytes]
    master: int | None  # of its terminal
    _text: dict[str, str] = field(default_factory=lambda: {"out": "", "err": ""})
    _news: threading.Condition = field(default_factory=threading.Condition)
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
            except OSError:  # a terminal whose other end is closed
                data = b""
            with self._news:
                self._text[name] += data.decode(errors="replace")
                self._news.notify_all()
            if not data:
                return

    @property
    def out(self) -> str:
        """What came on stdout so far; on a terminal, everything, as it would be typed."""
        return self._text["out"]

    @property
    def err(self) -> str:
        """What came on stderr so far."""
        return self._text["err"]

    @property
    def screen(self) -> str:
        """The terminal's text without its colours and movements: every picture it has shown, one after another."""
        # A carriage return alone goes back to where the next picture begins.
        return _ANSI.sub("", self.out).replace("\r\n", "\n").replace("\r", "\n")

    def wait_for(self, condition: Callable[[], object], within_s: float = 30.0) -> None:
        """Wait for output until the condition holds."""
        end = time.monotonic() + within_s
        with self._news:
            while not condition():
                ended = self.process.poll() is not None and not any(thread.is_alive() for thread in self._readers)
                if ended or time.monotonic() > end:
                    raise AssertionError(
                        f"not met ({self.process.poll()=})\n--- stdout\n{self.out}\n--- stderr\n{self.err}"
                    )
                self._news.wait(0.2)

    def note_family(self) -> set[psutil.Process]:
        """All processes that have come of it by now, itself too; those of earlier calls are remembered."""
        with contextlib.suppress(psutil.NoSuchProcess):
            leader = psutil.Process(self.process.pid)
            self._family |= {leader, *leader.children(recursive=True)}
        return self._family

    def survivors(self) -> list[str]:
        """What still runs of the family that was noted."""
        left = []
        for process in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                    left.append(f"{process.pid} {process.name()} {process.cmdline()}")
        return left

    def interrupt(self) -> None:
        """Ctrl-C: on a terminal the key itself, otherwise SIGINT to the whole group."""
        if self.master is None:
            os.killpg(self.process.pid, signal.SIGINT)
        else:
            os.write(self.master, b"\x03")

    def hang_up(self) -> None:
        """Close its terminal, as a window or a lost connection does."""
        assert self.master is not None
        os.close(self.master)
        self.master = None

    def type(self, text: str) -> None:
        """Type on its terminal."""
        assert self.master is not None
        os.write(self.master, text.encode())

    def wait(self, within_s: float = _STOP_S) -> int:
        """Its exit code, once it has ended and all it said is read."""
        code = self.process.wait(within_s)
        for thread in self._readers:
            thread.join(within_s)
        return code

    def close(self) -> None:
        """End whatever is left of it."""
        self.note_family()
        if self.process.poll() is None:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(_STOP_S)
        for process in self._family:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        self.process.wait(_STOP_S)
        for thread in self._readers:
            thread.join(_STOP_S)
        for pipe in (self.process.stdout, self.process.stderr):
            if pipe is not None:
                pipe.close()
        if self.master is not None:
            os.close(self.master)


@pytest.fixture
def start_command() -> Iterator[Callable[..., Running]]:
    """Start a call: `start_command("start", cwd=tmp_path)`; `terminal=(80, 24)` gives it one of that size."""
    started: list[Running] = []

    def start(
        *arguments: object,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        terminal: tuple[int, int] | None = None,
    ) -> Running:
        words = [*_PROGRAM, *map(str, arguments)]
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
        # The session's controlling terminal, so that Ctrl-C becomes a signal to the foreground group.
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - one call, no lock
    )
    os.close(slave)
    running = Running(process=process, master=master)
    running.listen("out", master)
    return running


@pytest.fixture
def broken_opencv(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a machine without libGL: importing cv2 fails as it does there."""
    folder = tmp_path_factory.mktemp("no-libgl")
    sentence = "libGL.so.1: cannot open shared object file: No such file or directory"
    (folder / "cv2.py").write_text(f"raise ImportError({sentence!r})\n")
    return {"PYTHONPATH": str(folder)}
