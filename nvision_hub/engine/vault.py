"""A group's newest cameras.yaml, sealed, in Redis: so that a group that Ray starts anew elsewhere needs no driver.

It holds passwords, and Redis has other readers; the key is in the hands of the group's actor alone.

    <prefix>:groups:<group>   string   the sealed text
    <prefix>:groups           string   which camera is in which group, in the clear
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import redis
from cryptography.fernet import Fernet, InvalidToken
from redis.backoff import NoBackoff
from redis.retry import Retry

from nvision_hub import grouping
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from nvision_hub.grouping import Group

WITHIN_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Seat:
    """Which group of which installation an actor runs, and the Redis that all of them share."""

    site: str
    group: str
    redis_url: str = field(repr=False)
    prefix: str

    @property
    def actor(self) -> str:
        """The actor's name."""
        return f"{self.site}/{self.group}"


def client_of(url: str) -> redis.Redis:
    """A client whose commands fail in time, and are not repeated."""
    return redis.Redis.from_url(
        url, socket_timeout=WITHIN_S, socket_connect_timeout=WITHIN_S, retry=Retry(NoBackoff(), 0)
    )


class Vault:
    """One group's. Its methods raise `RedisError` or `OSError` while Redis is away."""

    def __init__(self, seat: Seat, key: bytes) -> None:
        self._fernet = Fernet(key)
        self._name = f"{seat.prefix}:groups:{seat.group}"
        self._client = client_of(seat.redis_url)

    @staticmethod
    def new_key() -> bytes:
        """A key that nobody else has."""
        return Fernet.generate_key()

    def put(self, text: str) -> None:
        """Keep it."""
        self._client.set(self._name, self._fernet.encrypt(text.encode()))

    def get(self) -> str | None:
        """What was kept; None where nothing was, or by another key."""
        sealed = self._client.get(self._name)
        if not isinstance(sealed, bytes):
            return None
        try:
            return self._fernet.decrypt(sealed).decode()
        except InvalidToken:
            return None

    def empty(self) -> None:
        """Keep nothing any more."""
        self._client.delete(self._name)


def former(client: redis.Redis, prefix: str) -> Mapping[str, str]:
    """Which camera was in which group; empty where nobody knows."""
    kept = client.get(f"{prefix}:groups")
    try:
        return grouping.read(kept.decode()) if isinstance(kept, bytes) else {}
    except (HubError, UnicodeDecodeError):
        return {}


def keep(client: redis.Redis, prefix: str, groups: Iterable[Group]) -> None:
    """Let the next driver know."""
    client.set(f"{prefix}:groups", grouping.written(groups))
