"""Check, at the start of the hub and in `doctor`, that Redis answers and is of the configured kind."""

from __future__ import annotations

import contextlib
import ssl
import time
from typing import TYPE_CHECKING, Any

from redis.exceptions import AuthenticationError, RedisError

from nvision_hub.broker.client import connect_sync
from nvision_hub.broker.failures import CLUSTER_FIX, SENTINEL_FIX, known_cause
from nvision_hub.broker.tls_probe import tls_problem
from nvision_hub.errors import UnavailableError
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from nvision_hub.config.redis_section import Redis


def check_redis(redis: Redis) -> float | None:
    """Return how many seconds the clock of Redis is ahead of the local clock; None if Redis does not report the time.

    Raises `UnavailableError` if Redis does not answer, rejects the password, or needs another kind of address.
    """
    _check_files(redis)
    with contextlib.closing(connect_sync(redis.dial())) as client:
        try:
            client.ping()
        except (RedisError, OSError) as error:
            raise failure(redis, error) or UnavailableError(
                f"no Redis answers at {redis.url.shown}; start Redis, correct redis.url, or use redis.url: embedded"
            ) from error
        if (problem := _wrong_kind(redis, _mode(client))) is not None:
            raise UnavailableError(f"Redis at {redis.url.shown} cannot be used: {problem}")
        before = time.time()
        try:
            seconds, microseconds = client.time()
        except (RedisError, OSError):  # an ACL may forbid the TIME command
            return None
        return float(seconds) + float(microseconds) / 1e6 - (before + time.time()) / 2


def failover_warning(redis: Redis) -> str | None:
    """Return a warning if a failover of this Redis can lose results; None if it cannot, or if this is unknown.

    INFO contains `min_slaves_good_slaves` only if the master is configured to reject writes while replicas are missing.
    """
    if redis.url.topology == "server":
        return None
    with contextlib.closing(connect_sync(redis.dial())) as client:
        try:
            replication = client.info("replication")
        except (RedisError, OSError):  # an ACL may forbid INFO
            return None
    if "min_slaves_good_slaves" in replication:
        return None
    return (
        "the master also accepts results while no replica receives them, and these results are lost in a failover; "
        "set min-replicas-to-write 1 and min-replicas-max-lag 3 in redis.conf of each server"
    )


def failure(redis: Redis, error: Exception) -> UnavailableError | None:
    """Return the error to show after the configured Redis failed with `error`; None for an unknown cause."""
    where = redis.url.shown
    cause = known_cause(error)
    if cause is None and isinstance(error, AuthenticationError):
        return UnavailableError(f"Redis at {where} refused the password; correct redis.url")
    if cause is None:
        cause = tls_problem(redis)
    if cause is None and redis.url.topology != "server":
        cause = f"{redact(str(error))}; check the servers and redis.url"
    return None if cause is None else UnavailableError(f"Redis at {where} cannot be used: {cause}")


def _check_files(redis: Redis) -> None:
    """Raise `UnavailableError` if a TLS file cannot be used."""
    if (tls := redis.tls) is None:
        return
    try:
        if tls.ca_file is not None:
            ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert is not None and tls.key is not None:
            ssl.create_default_context().load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (OSError, ValueError) as error:  # SSLError is an OSError
        files = ", ".join(str(path) for path in (tls.ca_file, tls.cert, tls.key) if path is not None)
        why = error.strerror if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) else "not valid PEM"
        raise UnavailableError(f"a file of redis.tls cannot be used ({why}): {files}; correct redis.tls") from error


def _mode(client: Any) -> str | None:
    """Return `standalone`, `sentinel` or `cluster`; None if the server does not report its mode."""
    try:
        info = client.info("server")
    except (RedisError, OSError):  # an ACL may forbid INFO
        return None
    mode = info.get("redis_mode") or info.get("server_mode")
    return mode if isinstance(mode, str) else None


def _wrong_kind(redis: Redis, mode: str | None) -> str | None:
    """Return the problem if a plain address leads to a Sentinel or to a node of a Cluster; None otherwise."""
    if redis.url.topology != "server":
        return None
    if mode == "sentinel":
        return f"the server is a Sentinel; {SENTINEL_FIX}"
    if mode == "cluster":
        return f"the server is a node of a Redis Cluster; {CLUSTER_FIX}"
    return None
