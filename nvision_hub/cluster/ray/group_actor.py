"""Ray actor of one group: runs the group's hub and keeps the hub's configuration in Redis.

When Ray restarts the actor, Ray passes the original arguments to the constructor. The arguments are therefore values
that never change: the group and the encryption key. The constructor must not fail, because Ray would then abandon the
actor.
"""

from __future__ import annotations

import logging
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.backoff import Backoff
from nvision_hub.cluster.ray.config_store import ConfigStore
from nvision_hub.cluster.ray.hub_process import HubProcess
from nvision_hub.cluster.ray.split_config import config_digest
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from nvision_hub.cluster.ray.config_store import GroupKey

log = logging.getLogger("nvision_hub.engine")

# The actor stores the configuration again at this interval, in case Redis has lost its data.
STORE_INTERVAL_S: Final = 30.0


@dataclass(frozen=True, kw_only=True, slots=True)
class ActorStatus:
    """Status that an actor reports to drivers. It contains no secrets."""

    digest: str  # digest of the configuration; empty if the actor has none
    node: str
    actor_pid: int
    pid: int | None  # process id of the hub; None while the hub does not run


def folder_of(group: GroupKey) -> Path:
    """Return the group's folder on this machine. An actor that restarts here finds its spool in this folder."""
    base = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state")
    return base / "nvision-hub" / config_digest(f"{group.site}\n{group.prefix}")[:12] / group.group


class GroupActor:
    """Actor of one group. Ray may call several methods at once, in different threads."""

    def __init__(self, group: GroupKey, encryption_key: bytes) -> None:
        self._group = group
        self._store = ConfigStore(group, encryption_key)
        self._hub = HubProcess(folder_of(group), group.group)
        self._text: str | None = None
        self._lock = threading.Lock()
        self._drained = threading.Event()
        threading.Thread(target=self._sync_store, name="config-store", daemon=True).start()

    def apply(self, text: str) -> None:
        """Store this cameras.yaml. Run it now and after each restart of the actor.

        Raises `RedisError` or `OSError` if Redis or the disk fails, and `UnavailableError` after a drain.
        """
        with self._lock:
            if self._drained.is_set():
                raise UnavailableError(f"{self._group.actor} is drained and about to end; retry to create a new actor")
            self._store.put(text)
            self._run(text)

    def status(self) -> ActorStatus:
        import ray  # noqa: PLC0415 - the rest of this module works without Ray

        return ActorStatus(
            digest=config_digest(self._text) if self._text is not None else "",
            node=ray.get_runtime_context().get_node_id(),
            actor_pid=os.getpid(),
            pid=self._hub.pid,
        )

    def drain(self) -> None:
        """Stop the hub permanently, and return when the hub streams no camera."""
        self._drained.set()
        self._hub.drain()
        with self._lock:
            self._store.clear()

    def _run(self, text: str) -> None:
        if text != self._text:
            self._hub.configure(text)
            self._text = text

    def _sync_store(self) -> None:
        """Load the stored configuration, then store the current configuration periodically."""
        backoff = Backoff(first_s=0.5, cap_s=5.0)
        delay_s = 0.0
        while not self._drained.wait(delay_s):
            delay_s = STORE_INTERVAL_S
            try:
                with self._lock:
                    if self._drained.is_set():
                        return
                    if self._text is not None:
                        self._store.put(self._text)
                    elif (text := self._store.get()) is not None:
                        self._run(text)
            except (RedisError, OSError) as error:
                delay_s = backoff.next_s()
                log.warning(
                    "%s: configuration not synchronized with Redis: %s; retrying in %.1f s",
                    self._group.actor, type(error).__name__, delay_s,
                    extra={"event": "group_config_sync_failed"},
                )  # fmt: skip
