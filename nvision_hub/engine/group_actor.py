"""What runs in an actor of Ray's: the keeper of one group's hub, and the way to its newest cameras.yaml.

Its constructor's arguments are small and never change, since Ray repeats them wherever it starts the actor anew: the
seat and the key, and no cameras. It must not fail either, for Ray gives up an actor whose constructor did.
"""

from __future__ import annotations

import hashlib
import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.engine.keeper import Keeper
from nvision_hub.engine.vault import Vault
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from nvision_hub.engine.vault import Seat

log = logging.getLogger("nvision_hub.engine")

PUT_AGAIN_EVERY_S: Final = 30.0  # a Redis that was emptied has it again


def digest(text: str) -> str:
    """What tells one cameras.yaml from another without telling anything of it."""
    return hashlib.sha256(text.encode()).hexdigest()


def folder_of(seat: Seat) -> Path:
    """Where a group lives on its machine: its spool is found again when it comes back to it."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "nvision-hub" / digest(f"{seat.site}\n{seat.prefix}")[:12] / seat.group


class GroupActor:
    """One group's. Ray calls its methods in threads, several at a time."""

    def __init__(self, seat: Seat, key: bytes) -> None:
        self._seat = seat
        self._vault = Vault(seat, key)
        self._keeper = Keeper(folder_of(seat), seat.group)
        self._text: str | None = None
        self._lock = threading.Lock()
        self._drained = threading.Event()
        threading.Thread(target=self._remember, name="vault", daemon=True).start()

    def apply(self, text: str) -> None:
        """Run this cameras.yaml from now on, wherever this actor is started again.

        Raises `RedisError` or `OSError` where it cannot be kept, `UnavailableError` after a drain: nothing is changed
        then.
        """
        with self._lock:
            if self._drained.is_set():
                raise UnavailableError(f"{self._seat.actor} has been drained; its actor is about to go")
            self._vault.put(text)
            self._take(text)

    def told(self) -> dict[str, Any]:
        """How it is, for drivers: no secrets."""
        import ray  # noqa: PLC0415 - all else here can be used without

        return {
            "digest": digest(self._text) if self._text is not None else "",
            "node": ray.get_runtime_context().get_node_id(),
            "actor_pid": os.getpid(),
            "pid": self._keeper.pid,
            "starts": self._keeper.starts,
            "last_words": self._keeper.last_words,
        }

    def drain(self) -> None:
        """End for good; returns when none of its cameras is streamed any more."""
        self._drained.set()
        self._keeper.drain()
        with self._lock:
            self._vault.empty()

    def _take(self, text: str) -> None:
        if text != self._text:
            self._keeper.give(text)
            self._text = text

    def _remember(self) -> None:
        """Find what ran here before this process; then see to it that it stays to be found."""
        backoff = Backoff(first_s=0.5, cap_s=5.0)
        delay_s = 0.0
        while not self._drained.wait(delay_s):
            delay_s = PUT_AGAIN_EVERY_S
            try:
                with self._lock:
                    if self._drained.is_set():
                        return
                    if self._text is not None:
                        self._vault.put(self._text)
                    elif (kept := self._vault.get()) is not None:
                        self._take(kept)
            except (RedisError, OSError) as error:
                delay_s = backoff.next_s()
                log.warning("%s: %s; tried again in %.1f s", self._seat.actor, type(error).__name__, delay_s)
