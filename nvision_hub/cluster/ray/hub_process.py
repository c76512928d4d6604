"""Hub of one group, run as a child process.

The child runs a new program, because a forked process would inherit the threads and sockets of a Ray worker.
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
from typing import IO, TYPE_CHECKING, Final

from nvision_hub.backoff import Backoff
from nvision_hub.cluster.identity import VARIABLE
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

log = logging.getLogger("nvision_hub.engine")

STOP_TIMEOUT_S: Final = 15.0  # the hub needs less than 10 s to stop
STDERR_TIMEOUT_S: Final = 2.0


class HubProcess:
    """Hub of `group`, with its files in `folder`. The hub runs from the first `configure` until `drain`."""

    def __init__(self, folder: Path, group: str) -> None:
        self._folder = folder
        self._file = folder / "cameras.yaml"
        self._group = group
        self._lock = threading.Lock()
        self._configured = threading.Event()
        self._stopping = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._last_line = ""  # last line of the hub's stderr
        # The kernel kills the hub when the thread that started the hub ends. This thread must therefore outlive the
        # hub.
        self._thread = threading.Thread(target=self._keep_running, name="hub-process", daemon=True)
        self._thread.start()

    @property
    def pid(self) -> int | None:
        """Process id of the hub's supervisor; None while the supervisor is not running."""
        process = self._process
        return process.pid if process is not None and process.returncode is None else None

    def configure(self, text: str) -> None:
        """Write a cameras.yaml. A running hub reloads it. Raises `OSError` if writing fails."""
        with self._lock:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._folder.chmod(0o700)
            draft = self._folder / "cameras.new"
            draft.unlink(missing_ok=True)
            with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(text)
            draft.replace(self._file)
        self._configured.set()

    def drain(self) -> None:
        """Stop the hub permanently, and return when no process of the hub is left."""
        with self._lock:
            self._stopping.set()
            process = self._process
        self._configured.set()
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGTERM)
        self._thread.join(STOP_TIMEOUT_S)
        if self._thread.is_alive() and process is not None:
            _kill_process_group(process.pid)
            self._thread.join()
        with contextlib.suppress(OSError):
            self._file.unlink(missing_ok=True)

    def _keep_running(self) -> None:
        backoff = Backoff(first_s=0.5, cap_s=30.0, healthy_s=60.0)
        self._configured.wait()
        while not self._stopping.is_set():
            try:
                started_at, code = time.monotonic(), self._run()
                backoff.healthy(started_at)
                backoff.healthy(time.monotonic())
                reason = f"exited with code {code}: {self._last_line}"
            except OSError as error:
                reason = f"did not start: {error.strerror}"
            if not self._stopping.is_set():
                delay_s = backoff.next_s()
                log.warning("hub of group %s %s; restarting in %.1f s", self._group, reason, delay_s,
                            extra={"event": "group_hub_exited"})  # fmt: skip
                self._stopping.wait(delay_s)

    def _run(self) -> int | None:
        """Run the hub until its last process has ended, and return the exit code.

        The result is None if `drain` was called before the hub could start.
        """
        with self._lock:
            if self._stopping.is_set():
                return None
            environ = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
            process = self._process = subprocess.Popen(  # noqa: S603 - nvision-hub itself
                [sys.executable, "-m", "nvision_hub.cluster.ray.exec_parent_death", str(os.getpid()),
                 sys.executable, "-m", "nvision_hub", "start", str(self._file)],
                env={**environ, VARIABLE: self._group},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                start_new_session=True,
            )  # fmt: skip
        assert process.stderr is not None  # noqa: S101 - stderr is a pipe
        reader = threading.Thread(target=self._read, args=(process.stderr,), daemon=True)
        reader.start()
        # Do not reap the hub yet. The kernel must not reuse its process group id before the whole process group is
        # killed.
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        _kill_process_group(process.pid)
        reader.join(STDERR_TIMEOUT_S)  # the reader ends when the last process has closed the pipe
        return process.wait()

    def _read(self, stderr: IO[str]) -> None:
        with stderr:
            for line in stderr:
                self._last_line = redact(line.rstrip("\n"))


def _kill_process_group(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)
