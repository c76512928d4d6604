"""One group's hub as a program: its cameras.yaml written, the program started, started again, and ended in order.

A program and no fork: a process of Ray's has threads and sockets that no child may inherit. Knows nothing of Ray.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from typing import IO, TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.errors import redact
from nvision_hub.part import VARIABLE

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("nvision_hub.engine")


LAST_WORDS: Final = 20  # lines
ENDS_WITHIN_S: Final = 15.0  # the hub itself needs 8.5 s at most
READ_WITHIN_S: Final = 2.0


class Keeper:
    """Keeps the hub of `group` alive in `folder`, once it has a cameras.yaml, until drained."""

    def __init__(self, folder: Path, group: str) -> None:
        self._folder = folder
        self._group = group
        self._text: str | None = None
        self._lock = threading.Lock()
        self._given = threading.Event()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._words: deque[str] = deque(maxlen=LAST_WORDS)
        self.starts = 0
        # The thread that starts the program lives as long as this process: the kernel ends the program with it.
        self._thread = threading.Thread(target=self._keep, name="keeper", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """The hub's supervisor; None while there is none."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    @property
    def last_words(self) -> list[str]:
        """The last lines that it logged."""
        return list(self._words)

    def give(self, text: str) -> None:
        """Another cameras.yaml: a hub that runs takes it up by itself. Raises `OSError` where it cannot be written."""
        with self._lock:
            self._text = text
            self._write(text)
        self._given.set()

    def drain(self) -> None:
        """End the hub for good; returns when no process of it is left."""
        with self._lock:
            self._stopping.set()
            process = self._process
        self._given.set()
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        self._thread.join(ENDS_WITHIN_S)
        if self._thread.is_alive() and process is not None:
            _kill_all(process.pid)
            self._thread.join()
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    @property
    def _file(self) -> Path:
        return self._folder / "cameras.yaml"

    def _write(self, text: str) -> None:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._folder.chmod(0o700)
        beside = self._folder / "cameras.new"
        beside.unlink(missing_ok=True)
        with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
        beside.replace(self._file)

    def _keep(self) -> None:
        backoff = Backoff(first_s=0.5, cap_s=30.0, healthy_s=60.0)
        self._given.wait()
        while not self._stopping.is_set():
            try:
                began, code = time.monotonic(), self._run()
                backoff.healthy(began)
                backoff.healthy(time.monotonic())
                told = f"ended (exit code {code})"
            except OSError as error:
                told = f"could not be started ({error.strerror})"
            if not self._stopping.is_set():
                delay = backoff.next_s()
                log.warning("the hub of group %s %s; started again in %.1f s", self._group, told, delay)
                self._stopping.wait(delay)

    def _run(self) -> int | None:
        """From its start to the end of its last process; its exit code, None where it is not to be started."""
        with self._lock:
            if self._stopping.is_set():
                return None
            environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
            process = self._process = subprocess.Popen(  # noqa: S603 - this very program
                [sys.executable, "-m", "nvision_hub.engine.mortal", str(os.getpid()),
                 sys.executable, "-m", "nvision_hub", "start", str(self._file)],
                env={**environ, VARIABLE: self._group},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )  # fmt: skip
            self.starts += 1
        assert process.stderr is not None  # noqa: S101 - a pipe was asked for
        reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        reader.start()
        # Not reaped yet, so that its group's id cannot be another's when what is left of the group is killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill_all(process.pid)
        reader.join(READ_WITHIN_S)  # until the last of its processes has let go of the pipe
        return process.wait()

    def _read(self, stderr: IO[str]) -> None:
        with stderr:
            self._words.extend(redact(line.rstrip("\n")) for line in stderr)


def _kill_all(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
