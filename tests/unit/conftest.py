"""Fixtures of the unit tests. They are defined in tests/support, one file per server that tests talk to."""

from __future__ import annotations

from tests.support.command import broken_opencv
from tests.support.redis_server import debian_redis, kept_valkey, redis_client

__all__ = [
    "broken_opencv",
    "debian_redis",
    "kept_valkey",
    "redis_client",
]
