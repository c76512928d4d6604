"""A word to the service manager that started this process: the protocol of sd_notify(3), without systemd's library.

Owns the socket's address and what a datagram looks like; what is worth telling, and when, is not decided here.
"""

from __future__ import annotations

import logging
import os
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import MutableMapping

log = logging.getLogger("nvision_hub.notify")

READY: Final = "READY=1"
STOPPING: Final = "STOPPING=1"
WATCHDOG: Final = "WATCHDOG=1"
_VARIABLES: Final = ("NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID")


def status(text: str) -> str:
    """What `systemctl status` shows: one line."""
    return f"STATUS={' '.join(text.split())}"


@dataclass(frozen=True, kw_only=True)
class Notify:
    """Where to tell it. `address` is None where no service manager listens: then nothing is told.

    `watchdog_s` is how long this process may be silent before it is taken for stuck; None where that is not watched.
    """

    address: str | None = None
    watchdog_s: float | None = None

    @classmethod
    def taken_from(cls, environ: MutableMapping[str, str]) -> Notify:
        """As the environment says, which no longer says it afterwards: it was meant for this process, not its children.

        A socket that is neither a path nor abstract (`@...`) is passed over, as is a watchdog for another process.
        """
        address, period, pid = (environ.pop(name, "") for name in _VARIABLES)
        if not address:
            return cls()
        if not address.startswith(("/", "@")):
            log.warning("the service manager's socket is of a kind that is not known here; it is told nothing")
            return cls()
        watched = period.isdecimal() and int(period) > 0 and pid in {"", str(os.getpid())}
        return cls(address=address, watchdog_s=int(period) / 1_000_000 if watched else None)

    def tell(self, *lines: str) -> bool:
        """Send them as one datagram; False where that could not be done. Waits for nothing.

        A socket for each: one that is kept would be inherited by every child that is forked in between.
        """
        if self.address is None or not lines:
            return False
        address = f"\0{self.address[1:]}" if self.address.startswith("@") else self.address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as to:
                to.settimeout(0)
                to.sendto("\n".join(lines).encode(), address)
        except OSError as error:  # no descriptor left, its queue is full: the next turn tells it again
            log.debug("the service manager could not be told: %s", error.strerror)
            return False
        return True
