"""Gateway of a hub that commands can find only through cameras.yaml: its address in Redis, token and certificate."""

from __future__ import annotations

import atexit
import ssl
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.access.audit_log import user_name
from nvision_hub.access.token_store import TokenStore
from nvision_hub.access.tokens import ROLES
from nvision_hub.broker.client import connect_sync
from nvision_hub.cluster.fleet_key import read_fleet_key
from nvision_hub.cluster.fleet_registry import MAX_ADDRESS_BYTES, RegistryKeys, parse_address
from nvision_hub.cluster.sealed_messages import COMMANDS, MAX_HEADER_BYTES, FleetSeal, MessageKind, RejectedEntryError
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.state_dir import Endpoints
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from nvision_hub.config.models import Config

_REDIS_TIMEOUT_S: Final = 3.0
OWN_TOKEN_PREFIX: Final = "cli:"  # noqa: S105 - `token create` accepts no colon in a name
OWN_TOKEN_LIFETIME_S: Final = 86_400.0


def cluster_endpoints(config: Config) -> Endpoints | None:
    """Return the endpoints of a hub that runs on several machines. The gateway's address comes from Redis.

    Any program with access to Redis can write an address, and the command sends its token to the address. The function
    therefore accepts only an address that is sealed with the fleet key.

    Returns None if the broker is embedded, if Redis is unreachable, or if Redis has no gateway address. Raises
    `UnavailableError` if the address cannot be trusted.
    """
    if config.redis.url.embedded:
        return None
    with connect_sync(config.redis.dial(), timeout_s=_REDIS_TIMEOUT_S) as client:
        try:
            key = RegistryKeys(prefix=config.redis.prefix).gateway
            sealed = client.getrange(key, 0, MAX_HEADER_BYTES + MAX_ADDRESS_BYTES)
        except (RedisError, OSError):
            return None
    if not isinstance(sealed, bytes) or not sealed:
        return None
    gateway = _opened_address(config, sealed)
    return Endpoints(
        pid=0,  # the hub may run on another machine
        site=config.site,
        redis=config.redis.url.shown,
        prefix=config.redis.prefix,
        service=None,
        demo=None,
        gateway=gateway,
    )


def _opened_address(config: Config, sealed: bytes) -> str:
    """Return the gateway's address from a message sealed with the fleet key. Raises `UnavailableError`."""
    fleet_key = read_fleet_key(config)
    if fleet_key is None:
        raise UnavailableError(
            f"the gateway's address in Redis cannot be trusted without the fleet key: set redis.fleet_key in "
            f"{config.path.name} to the key of the running hubs, or run this command on the gateway's machine"
        )
    seal = FleetSeal(key=fleet_key, site=config.site, prefix=config.redis.prefix)
    try:
        opened = seal.open(
            MessageKind.ADDRESS, sealed, addressee=COMMANDS, now=time.time(), max_bytes=MAX_ADDRESS_BYTES
        )
        return parse_address(opened.payload)
    except RejectedEntryError as error:
        raise UnavailableError(f"the gateway's address in Redis is ignored: {error}") from error


def token_for(config: Config) -> str | None:
    """Return the token with the highest role in cameras.yaml; None if the gateway requires no token.

    If the gateway requires a token but the file has none, this function creates a token that expires after
    `OWN_TOKEN_LIFETIME_S`. This gives no user additional rights, because only the hub's user can write to the state
    directory.
    """
    gateway = config.gateway
    if gateway.token:
        return gateway.token.reveal()
    if gateway.tokens:
        return max(gateway.tokens.values(), key=lambda each: ROLES.index(each.role)).token.reveal()
    store = TokenStore(config.state_dir)
    if gateway.is_private and not store.has_permanent():
        return None
    token = store.create(f"{OWN_TOKEN_PREFIX}{user_name()}", "admin", expires_at=time.time() + OWN_TOKEN_LIFETIME_S)
    register_secrets([token])
    atexit.register(store.discard, token)
    return token


def tls_context(config: Config) -> ssl.SSLContext | bool:
    """Return a context that accepts only the gateway's own certificate; True if the gateway has none.

    The certificate need not contain the name by which this machine reaches the gateway.
    """
    tls = config.gateway.tls
    if tls is None:
        return True
    try:
        context = ssl.create_default_context(cafile=tls.cert)
    except (OSError, ssl.SSLError) as error:
        raise HubError(
            f"gateway.tls.cert ({tls.cert}) cannot be read ({error.strerror or error}); correct it"
        ) from error
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN  # the file need not contain the root certificate
    return context
