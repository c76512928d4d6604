"""Encrypted cameras.yaml of each group in Redis, which lets Ray restart an actor on another node without a driver.

The configuration contains passwords, and other clients can read this Redis. Redis therefore does not store the
encryption key: the actor receives the key as an argument.

    <prefix>:groups:<group>   string   the encrypted cameras.yaml
    <prefix>:groups           string   the assignment of cameras to groups, in plain text
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken

from nvision_hub.broker.client import connect_sync
from nvision_hub.cluster.placement import format_assignment, parse_assignment
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import redis

    from nvision_hub.cluster.placement import CameraGroup


@dataclass(frozen=True, kw_only=True)
class GroupKey:
    """Camera group that an actor runs, with the address of Redis and the prefix of the Redis keys."""

    site: str
    group: str
    redis_url: str = field(repr=False)
    prefix: str

    @property
    def actor(self) -> str:
        return f"{self.site}/{self.group}"


class ConfigStore:
    """Stored cameras.yaml of one group. Methods raise `RedisError` or `OSError` if Redis is unavailable."""

    def __init__(self, group: GroupKey, encryption_key: bytes) -> None:
        self._fernet = Fernet(encryption_key)
        self._name = f"{group.prefix}:groups:{group.group}"
        self._client = connect_sync(group.redis_url)

    @staticmethod
    def new_key() -> bytes:
        return Fernet.generate_key()

    def put(self, text: str) -> None:
        """Encrypt and store `text`, a cameras.yaml."""
        self._client.set(self._name, self._fernet.encrypt(text.encode()))

    def get(self) -> str | None:
        """Return the stored cameras.yaml; None if there is none, or if it was encrypted with another key."""
        encrypted = self._client.get(self._name)
        if not isinstance(encrypted, bytes):
            return None
        try:
            return self._fernet.decrypt(encrypted).decode()
        except InvalidToken:
            return None

    def clear(self) -> None:
        self._client.delete(self._name)


def get_assignment(client: redis.Redis, prefix: str) -> Mapping[str, str]:
    """Return the stored group of each camera; empty if there is no valid assignment."""
    text = client.get(f"{prefix}:groups")
    try:
        return parse_assignment(text.decode()) if isinstance(text, bytes) else {}
    except (HubError, UnicodeDecodeError):
        return {}


def put_assignment(client: redis.Redis, prefix: str, groups: Iterable[CameraGroup]) -> None:
    client.set(f"{prefix}:groups", format_assignment(groups))
