"""Access to the planned gateway: its tokens and certificate, and warnings about unsafe settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.access.tokens import AccessToken, token_digest, weakness
from nvision_hub.errors import ConfigError, Diagnostic, InvalidValueError
from workers.gateway.auth.identity import SINGLE_TOKEN
from workers.gateway.tls import server_context

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.gateway_section import Gateway
    from nvision_hub.config.models import Config


def check_certificate(config: Config) -> None:
    """Raise `ConfigError` if the gateway cannot use its certificate."""
    tls = config.gateway.tls
    if tls is None or config.gateway.listen.off:
        return
    try:
        server_context(tls)
    except InvalidValueError as error:
        path, file = ("gateway", "tls"), config.path.name
        diagnostic = Diagnostic(code="certificate_invalid", message=error.message, fix=error.fix, path=path, file=file)
        raise ConfigError([diagnostic]) from error


def access_tokens(section: Gateway) -> Iterator[AccessToken]:
    """Yield the tokens in cameras.yaml. The gateway receives only their digests."""
    if section.token:
        yield AccessToken(name=SINGLE_TOKEN, role="admin", digest=token_digest(section.token.reveal()))
    for name, each in section.tokens.items():
        yield AccessToken(name=name, role=each.role, digest=token_digest(each.token.reveal()))


def access_warnings(config: Config) -> Iterator[str]:
    """Yield a message for each permitted setting that makes attacks on the gateway easier."""
    section, file = config.gateway, config.path.name
    if section.insecure and not section.listen.loopback:
        yield (
            f"{file}: gateway.insecure: other machines reach the gateway without TLS, so an attacker on the network "
            "can read tokens and video; set gateway.tls or declare gateway.proxy"
        )
    proxy = section.proxy
    if proxy is not None and proxy.user_header and any(each.network.is_loopback for each in proxy.addresses):
        yield (
            f"{file}: gateway.proxy.addresses contains an address of this machine, so each of its users can pose as "
            "any user of the proxy; run the proxy elsewhere, or write user_header: null if it authenticates no users"
        )
    if section.callback_token and weakness(section.callback_token.reveal()) is not None:
        yield (
            f"{file}: gateway.callback_token has fewer than 128 random bits, so an attacker may guess it and forge "
            "results; `openssl rand -hex 32` creates a random one"
        )
