"""Reports of a running hub to the service manager through the protocol of sd_notify(3).

The supervisor's loop calls this module twice a second. If the loop hangs, the reports stop, and the service manager's
watchdog restarts the hub. A separate thread would hide the problem: it would report even while the loop hangs.
"""

from __future__ import annotations

import logging
import os
import socket
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping, Sequence

    from nvision_hub.supervisor.process_state import ProcessState

log = logging.getLogger("nvision_hub.notify")

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"
READY_TIMEOUT_S: Final = 30.0  # the hub counts as ready after this time, even if a process has not started
STATUS_INTERVAL_S: Final = 5.0


def status(text: str) -> str:
    """Return the line that makes `systemctl status` show `text`."""
    return f"STATUS={' '.join(text.split())}"


@dataclass(frozen=True, kw_only=True)
class SdNotifier:
    """Sender of messages to the service manager's socket."""

    address: str | None = None  # if None, there is no service manager, and the hub sends nothing
    # The service manager restarts this process after this time without a message; None if never.
    watchdog_s: float | None = None

    @classmethod
    def from_environ(cls, environ: MutableMapping[str, str]) -> SdNotifier:
        """Read and remove NOTIFY_SOCKET and WATCHDOG_*. Child processes must not use the socket.

        The function ignores an address that is neither a path nor an abstract socket (`@...`), and another process's
        watchdog.
        """
        address, period, pid = (environ.pop(it, "") for it in ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"))
        if not address:
            return cls()
        if not address.startswith(("/", "@")):
            log.warning(
                "NOTIFY_SOCKET is neither a path nor an abstract socket; the service manager gets no reports",
                extra={"event": "sd_notify_unsupported"},
            )
            return cls()
        watched = period.isdecimal() and int(period) > 0 and pid in {"", str(os.getpid())}
        return cls(address=address, watchdog_s=int(period) / 1_000_000 if watched else None)

    def send(self, *lines: str) -> bool:
        """Send lines as one datagram without blocking. Return False if nothing was sent."""
        if self.address is None or not lines:
            return False
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:  # use a new socket, because forked children would inherit an open one
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(0)
                to.sendto("\n".join(lines).encode(), address)
        except OSError as error:  # no descriptor is free, or the socket's queue is full
            log.debug("report to the service manager not sent: %s", error.strerror)
            return False
        return True


@dataclass(kw_only=True)
class SdNotifyReporter:
    """Reporter for one run of the hub. The next tick repeats a report that failed."""

    notify: SdNotifier
    began: float = field(default_factory=time.monotonic)
    _ready: bool = False
    _stopping: bool = False
    _shown: str = ""
    _shown_at: float = float("-inf")

    def on_tick(self, processes: Sequence[ProcessState], *, stopping: bool) -> None:
        """Report that the supervisor's loop is running, and report changes in the hub's state."""
        now = time.monotonic()
        all_attempted = all(process.start_attempted_at is not None for process in processes)
        lines = [] if self.notify.watchdog_s is None else [WATCHDOG]
        if not (self._ready or stopping) and (all_attempted or now - self.began > READY_TIMEOUT_S):
            lines.append(READY)
        if stopping and not self._stopping:
            lines.append(STOPPING)
        shown = status("stopping" if stopping else summary(processes))
        if shown != self._shown and (lines[-1:] in ([READY], [STOPPING]) or now - self._shown_at >= STATUS_INTERVAL_S):
            lines.append(shown)
        if self.notify.send(*lines):
            self._ready = self._ready or READY in lines
            self._stopping = self._stopping or STOPPING in lines
            if shown in lines:
                self._shown, self._shown_at = shown, now


def summary(processes: Sequence[ProcessState]) -> str:
    """Return a one-line summary for people, such as `7 of 8 cameras stream; not running: broker`."""
    cameras = [process for process in processes if process.spec.name.startswith("camera:")]
    line = f"{sum(process.ready for process in cameras)} of {len(cameras)} cameras stream"
    missing = [process.spec.name for process in processes if not process.alive]
    if not missing:
        return line
    more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004 - a line has room for three
    return f"{line}; not running: {', '.join(missing[:3])}{more}"
