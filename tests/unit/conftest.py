"""Fixtures of the unit tests. They are defined in tests/support, one file per server that tests talk to."""

from __future__ import annotations

import pytest

from nvision_hub import redaction
from tests.support.command import broken_opencv
from tests.support.redis_server import debian_redis, kept_valkey, redis_client

__all__ = [
    "broken_opencv",
    "debian_redis",
    "kept_valkey",
    "redis_client",
]


@pytest.fixture(autouse=True)
def _known_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the secrets that earlier tests have registered. They would be hidden in the texts of other tests."""
    monkeypatch.setattr(redaction, "_KNOWN", redaction.KnownSecrets())
