"""Probe that finds out why Redis closed a connection without an error message.

For example, only one side may use TLS.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import TYPE_CHECKING, Final

from nvision_hub.broker.failures import known_cause

if TYPE_CHECKING:
    from nvision_hub.config.redis_section import Redis

_TIMEOUT_S: Final = 2.0


def tls_problem(redis: Redis) -> str | None:
    """Return the problem with TLS and its fix; None if probing the first server in the address finds no problem."""
    if not redis.url.nodes:
        return None
    host, port = redis.url.nodes[0]
    scheme = redis.url.scheme
    if not redis.url.is_encrypted:
        if isinstance(_handshake(host, port, _unchecked()), ssl.SSLError | None):
            other = scheme.replace("redis", "rediss", 1)
            return f"the server uses TLS on this port; write {other}:// in place of {scheme}:// in redis.url"
        return None
    if _answers_plain(host, port):
        other = scheme.replace("rediss", "redis", 1)
        return f"Redis does not use TLS on this port; write {other}:// in place of {scheme}:// in redis.url"
    context = _unchecked()
    if redis.tls is not None and redis.tls.cert is not None:
        context.load_cert_chain(redis.tls.cert, redis.tls.key)
    error = _handshake(host, port, context)
    return None if error is None else known_cause(error)


def _unchecked() -> ssl.SSLContext:
    """Return a TLS context that accepts every certificate. The probe sends no data over this connection."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def _handshake(host: str, port: int, context: ssl.SSLContext) -> Exception | None:
    """Return the error of a TLS handshake; None if the server accepts it.

    In TLS 1.3, the server rejects a missing client certificate only after the handshake. A client that immediately
    sends a command may miss the alert, so this connection only reads.
    """
    try:
        with (
            socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection,
            context.wrap_socket(connection, server_hostname=host) as encrypted,
            contextlib.suppress(TimeoutError),
        ):
            encrypted.recv(1)
    except (OSError, ValueError) as error:
        return error
    return None


def _answers_plain(host: str, port: int) -> bool:
    """Return whether the server answers a command without TLS."""
    try:
        with socket.create_connection((host, port), timeout=_TIMEOUT_S) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(1) in (b"+", b"-")
    except OSError:
        return False
