"""Identification of a client by its token, its user id, the headers of a proxy, or as a program on this machine."""

from __future__ import annotations

import hmac
import ipaddress
import logging
import os
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Literal

from nvision_hub.access.audit_log import user_name
from nvision_hub.access.tokens import ROLES, AccessToken, RoleName, includes, token_digest
from nvision_hub.control_characters import printable
from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from starlette.datastructures import Headers

    from nvision_hub.access.token_store import Fingerprint, StoredToken, TokenStore
    from nvision_hub.config.gateway_section import GatewayProxy

log = logging.getLogger("nvision_hub.gateway")

# Name of the token without a name in cameras.yaml. No named token can have this name.
SINGLE_TOKEN: Final = "gateway.token"  # noqa: S105 - the name of a token
FORWARDED_FOR: Final = "x-forwarded-for"
MAX_NAME_CHARACTERS: Final = 100
UNKNOWN_ADDRESS: Final = "unknown"


@dataclass(frozen=True, kw_only=True)
class Principal:
    """An identified client. `role` is None if the proxy reports no known role."""

    name: str
    role: RoleName | None
    kind: Literal["token", "proxy", "user", "local"]
    # SHA-256 digest of the token; None for a client without a token
    digest: str | None = field(default=None, repr=False)

    def may(self, required: RoleName) -> bool:
        return self.role is not None and includes(self.role, required)


# A gateway without tokens serves only this machine, and every program on this machine has all rights.
LOCAL: Final = Principal(name="local", role="admin", kind="local")


def local_user(uid: int) -> Principal:
    """Return the client on the control socket with this user id.

    The hub's own user and root have all rights, because both can read the hub's secrets anyway. Other users have no
    role.
    """
    return Principal(name=user_name(uid), role="admin" if uid in {0, os.geteuid()} else None, kind="user")


class TokenTable:
    """All valid tokens: from cameras.yaml, and from the store, which operators may change while the hub runs."""

    def __init__(self, configured: Sequence[AccessToken] = (), store: TokenStore | None = None) -> None:
        self._configured = tuple(configured)
        self._store = store
        self._stored: tuple[StoredToken, ...] = ()
        self._fingerprint: Fingerprint = None
        self._is_unreadable = False

    def find(self, token: object) -> Principal | None:
        """Return the client with this token. The comparison with each known token takes constant time."""
        if not isinstance(token, str):
            return None
        digest = token_digest(token)
        found = None
        for known in self._valid():
            if hmac.compare_digest(known.digest, digest):
                found = Principal(name=known.name, role=known.role, kind="token", digest=digest)
        return found

    def has_permanent(self) -> bool:
        """Return whether any token has no expiry. Also True if the store is unreadable."""
        self._refresh()
        return bool(self._configured) or self._is_unreadable or any(token.expires_at is None for token in self._stored)

    def is_valid(self, principal: Principal) -> bool:
        """Return whether a client's token is still valid; True for a client without a token."""
        return principal.digest is None or any(token.digest == principal.digest for token in self._valid())

    def _valid(self) -> list[AccessToken]:
        self._refresh()
        now = time.time()
        return [*self._configured, *(token.access for token in self._stored if token.is_valid(now))]

    def _refresh(self) -> None:
        if self._store is None or (fingerprint := self._store.fingerprint()) == self._fingerprint:
            return
        self._fingerprint = fingerprint
        try:
            self._stored = self._store.read()
            self._is_unreadable = False
        except HubError as error:
            self._stored, self._is_unreadable = (), True
            text = "tokens not loaded: %s; only tokens of cameras.yaml are valid"
            log.warning(text, error, extra={"event": "tokens_unreadable"})


@dataclass(frozen=True, kw_only=True)
class TrustedProxy:
    """The declared proxy. Without `settings`, the gateway trusts no peer."""

    settings: GatewayProxy | None

    def client_address(self, peer: str | None, headers: Headers) -> str:
        """Return the client's address: the peer's or, behind the proxy, the last address that is no proxy's."""
        if peer is None:
            return UNKNOWN_ADDRESS
        if self._is_trusted(peer):
            given = [each.strip() for value in headers.getlist(FORWARDED_FOR) for each in value.split(",")]
            for address in reversed(given):
                try:
                    parsed = ipaddress.ip_address(address)
                except ValueError:
                    break
                if not self._is_trusted(address):
                    return str(parsed)
        return peer

    def user(self, peer: str | None, headers: Headers) -> Principal | None:
        """Return the user whom the proxy has authenticated; None if the request has no user or is not from the proxy.

        If a header occurs twice, it identifies no user, because one of the two may come from the client.
        """
        proxy = self.settings
        if proxy is None or proxy.user_header is None or peer is None or not self._is_trusted(peer):
            return None
        names, groups = headers.getlist(proxy.user_header), headers.getlist(proxy.role_header)
        if len(names) != 1 or len(groups) > 1 or not names[0].strip():
            return None
        roles = {
            proxy.roles[group] for each in groups for part in each.split(",") if (group := part.strip()) in proxy.roles
        }
        role = max(roles, key=ROLES.index, default=None)
        return Principal(name=printable(names[0].strip())[:MAX_NAME_CHARACTERS], role=role, kind="proxy")

    def _is_trusted(self, peer: str) -> bool:
        if self.settings is None:
            return False
        try:
            address = ipaddress.ip_address(peer.partition("%")[0])
        except ValueError:
            return False
        return any(address in network for network in self.settings.addresses)
