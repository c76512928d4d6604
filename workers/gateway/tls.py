"""TLS of the gateway: the check of the certificate before the start, and the renewal while the gateway runs."""

from __future__ import annotations

import asyncio
import logging
import ssl
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.config.gateway_section import GatewayTls

log = logging.getLogger("nvision_hub.gateway")

CHECK_INTERVAL_S: Final = 30.0


def server_context(tls: GatewayTls) -> ssl.SSLContext:
    """Return a context with the certificate and its key. Raises `InvalidValueError`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    for name, file in (("cert", tls.cert), ("key", tls.key)):
        try:
            file.open("rb").close()
        except OSError as error:
            raise InvalidValueError(f"the file of `{name}` cannot be read ({error.strerror})", "correct it") from error
    try:
        # Without this password function, OpenSSL would prompt for a password.
        context.load_cert_chain(tls.cert, tls.key, password=lambda: "")
    except (ssl.SSLError, ValueError) as error:
        raise InvalidValueError(
            "the files hold no certificate with its key in PEM format", "`openssl x509 -in CERT` shows the certificate"
        ) from error
    return context


async def renew_certificate(tls: GatewayTls, use_context: Callable[[ssl.SSLContext], None]) -> None:
    """Load the certificate into a new context when its files change, until canceled.

    The current context stays unchanged, because a context keeps no certificate if OpenSSL rejects a new one.
    """
    loaded = _changed_at(tls)
    while True:
        await asyncio.sleep(CHECK_INTERVAL_S)
        if (found := _changed_at(tls)) == loaded:
            continue
        try:
            context = server_context(tls)
        except InvalidValueError as error:
            # A program that renews the certificate may replace the two files one after the other.
            log.warning("certificate not renewed: %s; the previous one stays in use", error.message,
                        extra={"event": "certificate_rejected"})  # fmt: skip
        else:
            loaded = found
            use_context(context)
            log.info("certificate renewed", extra={"event": "certificate_renewed"})


def _changed_at(tls: GatewayTls) -> tuple[int, ...]:
    try:
        return tls.cert.stat().st_mtime_ns, tls.key.stat().st_mtime_ns
    except OSError:
        return ()
