"""Messages for known failures of Redis: the cause, and the setting that fixes it. This module opens no connection."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Final

from redis.exceptions import AskError, AuthenticationError, ClusterCrossSlotError

from nvision_hub.broker.discovery import NodeNotFoundError
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator

CLUSTER_FIX: Final = (
    "set redis.url to redis+cluster://host:port with one or more of its nodes, "
    'and redis.prefix to a hash tag such as "{nvision}"'
)
SENTINEL_FIX: Final = "set redis.url to redis+sentinel://host:port/NAME; NAME is the master's name in sentinel.conf"
_HOST_MISMATCH: Final = frozenset({62, 64})  # X509_V_ERR_HOSTNAME_MISMATCH and X509_V_ERR_IP_ADDRESS_MISMATCH


def failure_reason(error: BaseException) -> str:
    """Return why Redis cannot be used: a known cause with its fix, or else the error's text with secrets redacted."""
    return known_cause(error) or redact(str(error)) or type(error).__name__


def known_cause(error: BaseException) -> str | None:
    """Return the cause and its fix; None for an unknown cause."""
    return next((cause for each in _chain(error) if (cause := _cause(each)) is not None), None)


def _chain(error: BaseException) -> Iterator[BaseException]:
    """Yield an error and its causes. redis-py keeps the original error as the context of its own error."""
    seen = set[int]()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        yield current
        current = current.__cause__ or current.__context__


def _cause(error: BaseException) -> str | None:
    text = str(error)
    match error:
        case ssl.SSLCertVerificationError():
            return _certificate_cause(error)
        case ssl.SSLError() if "CERTIFICATE_REQUIRED" in text or "HANDSHAKE_FAILURE" in text:
            return "Redis requires a client certificate; set redis.tls.cert and redis.tls.key"
        case ssl.SSLError() if "ALERT_UNKNOWN_CA" in text or "ALERT_BAD_CERTIFICATE" in text:
            return "Redis does not accept the hub's certificate; correct redis.tls.cert and redis.tls.key"
        case ssl.SSLError() if "WRONG_VERSION_NUMBER" in text or "RECORD_LAYER_FAILURE" in text:
            return "Redis does not use TLS on this port; write redis in place of rediss in redis.url"
        case AskError() | ClusterCrossSlotError():
            return f"the server is a node of a Redis Cluster; {CLUSTER_FIX}"
        case NodeNotFoundError() if isinstance(error.__cause__, AuthenticationError) and "Sentinel" in text:
            return (
                "the Sentinels refused the password; correct redis.sentinel_username and redis.sentinel_password "
                "(the address contains the password of Redis itself)"
            )
    if "unknown command" in text.lower() and "sentinel" in text.lower():
        return "the server is not a Sentinel; write the addresses of the Sentinels, or redis:// for one Redis server"
    if "cluster support disabled" in text:
        return "the server is not a node of a Redis Cluster; write redis:// in place of redis+cluster:// in redis.url"
    return None


def _certificate_cause(error: ssl.SSLCertVerificationError) -> str:
    message = error.verify_message.rstrip(".")
    if error.verify_code in _HOST_MISMATCH:
        return f"the certificate of Redis is for another host ({message}); use a name from the certificate in redis.url"
    return (
        f"the certificate of Redis is not trusted ({message}); set redis.tls.ca_file to the certificate of the "
        "authority that signed it"
    )
