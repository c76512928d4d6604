"""The section `gateway` of cameras.yaml: the hub's own HTTP server, and the access to it."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import AfterValidator, BeforeValidator, Field

from nvision_hub.access.tokens import ROLES, RoleName, weakness
from nvision_hub.config.added_cameras import CameraHost  # noqa: TC001 - pydantic reads it at run time
from nvision_hub.config.field_types import EmptyIfNull, FilePath, HostName, Id, Line, NoneIfEmpty, Section
from nvision_hub.config.server_addresses import ListenAddress, NetworkAddress
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import InvalidValueError


class FrozenTable(dict[str, Any]):
    """A mapping of a frozen section that is hashable, unlike a `dict`."""

    def __hash__(self) -> int:  # type: ignore[override]
        return hash(frozenset(self.items()))


_NoneAsEmpty: Final = BeforeValidator(lambda value: {} if value is None else value)
_Frozen: Final = AfterValidator(FrozenTable)
HEADER_PATTERN: Final = "^[A-Za-z0-9][A-Za-z0-9-]{0,63}$"
_RANDOM: Final = "`openssl rand -hex 32` creates a random one"


def _safe_token(token: Secret) -> Secret:
    if token and (problem := weakness(token.reveal())) is not None:
        raise InvalidValueError(problem, _RANDOM)
    return token


def _given(token: Secret) -> Secret:
    if not token:
        raise InvalidValueError("is empty", "set the variable or the file that it refers to")
    return token


SafeToken = Annotated[Secret, AfterValidator(_safe_token), Field(examples=["${file:hub_token}"])]
HeaderName = Annotated[str, Field(pattern=HEADER_PATTERN, examples=["X-Forwarded-User"])]


class GatewayToken(Section):
    """A token with a role."""

    role: RoleName
    """`metrics` reads /metrics, `view` also the API; `control` also controls cameras; `admin` has all rights."""
    token: Annotated[SafeToken, AfterValidator(_given)]
    """The token, with at least 128 random bits."""


class GatewayTls(Section):
    """The certificate with which the gateway serves HTTPS."""

    cert: FilePath
    """PEM file with the certificate and its intermediate certificates; relative to this file."""
    key: FilePath
    """PEM file with the private key, without a passphrase; relative to this file."""


def _role_names() -> FrozenTable:
    return FrozenTable({role: role for role in ROLES})


class GatewayProxy(Section):
    """A reverse proxy that authenticates users, such as Authelia or oauth2-proxy."""

    addresses: Annotated[tuple[NetworkAddress, ...], Field(min_length=1)]
    """Addresses or networks of the proxy. The gateway trusts the headers of requests from these addresses only."""
    user_header: Annotated[HeaderName | None, NoneIfEmpty] = "X-Forwarded-User"
    """Header with the user's name; null for a proxy that authenticates no users."""
    role_header: HeaderName = "X-Forwarded-Role"
    """Header with the user's role or groups, separated by commas."""
    roles: Annotated[dict[Line, RoleName], _NoneAsEmpty, _Frozen] = Field(default_factory=_role_names)
    """Role of each group in the header; without this key, the header contains the names of roles."""


class Gateway(Section):
    """The hub's own HTTP server: ops page, API, metrics, callback."""

    listen: ListenAddress = ListenAddress("127.0.0.1", 8080)
    """host:port, or `none` for no gateway. By default, 127.0.0.1 with port 8080 or the next free port."""
    health_listen: ListenAddress = ListenAddress("", 0)
    """host:port of a listener for /healthz and /readyz alone, without a token or TLS; by default `none`. It responds
    even while clients exhaust the connections of `listen`."""
    token: Annotated[SafeToken | None, NoneIfEmpty] = None
    """A single token with the role `admin`. Unless only this machine can reach the gateway, it requires tokens."""
    tokens: Annotated[dict[Id, GatewayToken], _NoneAsEmpty, _Frozen] = Field(default_factory=FrozenTable)
    """Tokens by name, each with a role. `nvision-hub token create` adds more tokens while the hub runs."""
    tls: GatewayTls | None = None
    """Serve HTTPS. Unless only this machine can reach the gateway, it requires TLS or a declared proxy."""
    proxy: GatewayProxy | None = None
    """The reverse proxy in front of the gateway."""
    insecure: bool = False
    """Allow access from other machines without TLS, for a network that no attacker can read."""
    hosts: Annotated[tuple[HostName, ...], EmptyIfNull] = ()
    """Names under which a proxy on this machine serves the gateway, such as hub.example.com."""
    camera_hosts: Annotated[tuple[CameraHost, ...], EmptyIfNull] = ()
    """Hosts of cameras that may be added at run time and receive the user name and password of `defaults`: host names,
    IP addresses, and networks such as 10.0.0.0/24. An ONVIF camera may also refer to these hosts for its stream."""
    callback_token: Annotated[Secret | None, NoneIfEmpty] = None
    """Token that enables POST /callback/<token>, the callback URL for the Nvision portal."""
    callback_max_bytes: Annotated[int, Field(ge=1024, le=2**28)] = 8 * 2**20
    """Maximum size of a callback's body, in bytes."""

    @property
    def is_private(self) -> bool:
        """Whether only programs on this machine can use the gateway. It then requires a token only if one exists."""
        return self.listen.loopback and not self.hosts and self.proxy is None
