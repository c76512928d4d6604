"""Client for a running hub: finds the hub's endpoints and Redis, and calls the hub's HTTP API."""

from __future__ import annotations

import atexit
import contextlib
import ssl
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
import httpx2
from redis.exceptions import AuthenticationError, RedisError

from nvision_hub.access.audit_log import user_name
from nvision_hub.access.token_store import TokenStore
from nvision_hub.access.tokens import ROLES
from nvision_hub.broker.client import connect_sync
from nvision_hub.broker.embedded_config import PASSWORDS_NAME, socket_url, user_url
from nvision_hub.broker.embedded_users import BrokerPasswords, BrokerUser, load_passwords
from nvision_hub.broker.redis_check import failure
from nvision_hub.cli.options import unknown_name
from nvision_hub.cluster.fleet_key import read_fleet_key
from nvision_hub.cluster.fleet_registry import MAX_ADDRESS_BYTES, RegistryKeys, parse_address
from nvision_hub.cluster.sealed_messages import COMMANDS, MAX_HEADER_BYTES, FleetSeal, MessageKind, RejectedEntryError
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.state_dir import Endpoints, read_endpoints
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from nvision_hub.config.models import Config

REQUEST_TIMEOUT_S: Final = 10.0
_REDIS_TIMEOUT_S: Final = 3.0
OWN_TOKEN_PREFIX: Final = "cli:"  # noqa: S105 - `token create` accepts no colon in a name
OWN_TOKEN_LIFETIME_S: Final = 86_400.0
_SEE_LOG: Final = "see the gateway's log: nvision-hub logs gateway"


def find_hub(config: Config) -> Endpoints:
    """Return the endpoints of the running hub that uses the configured state_dir or, in a cluster, the same Redis.

    Raises `UnavailableError` if no hub is running.
    """
    endpoints = read_endpoints(config.state_dir) or _cluster_endpoints(config)
    if endpoints is None:
        raise UnavailableError(
            f"no hub is running with the state_dir of {config.path.name} ({config.state_dir}); run nvision-hub start"
        )
    return endpoints


def _cluster_endpoints(config: Config) -> Endpoints | None:
    """Return the endpoints of a hub that runs on several machines, with the gateway's address from Redis.

    Any program with access to Redis can write an address. Only an address with the seal of the fleet key is used,
    because the command sends its token there.

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
    """Return the address of a gateway that has the fleet key. Raises `UnavailableError`."""
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


def redis_url(config: Config) -> str:
    """Return the URL of the configured Redis or of the running hub's embedded broker, including the password.

    Raises `UnavailableError` if the broker is embedded and no hub is running, or if its passwords cannot be read.
    """
    if not config.redis.url.embedded:
        return config.redis.dial()
    socket = find_hub(config).redis_socket
    if socket is None:
        raise UnavailableError("the running hub uses another broker than cameras.yaml; restart the hub")
    return socket_url(Path(socket), _broker_passwords(config))


def subscriber_url(config: Config, endpoints: Endpoints, user: BrokerUser) -> str:
    """Return the address at which other programs read results: as `user` if the broker is embedded.

    Contains no password if the broker is not embedded, or if it needs none.
    """
    if endpoints.redis_socket is None or config.redis.embedded_open:
        return endpoints.redis
    return user_url(endpoints.redis, user, _broker_passwords(config))


def _broker_passwords(config: Config) -> BrokerPasswords:
    file = config.state_dir / "broker" / PASSWORDS_NAME
    passwords = load_passwords(file)
    if passwords is None:
        raise UnavailableError(
            f"the broker's passwords in {file} cannot be read; run this command as the user who runs the hub"
        )
    return passwords


def redis_unavailable(config: Config, error: Exception) -> UnavailableError:
    """Return an `UnavailableError` that explains why a Redis command failed, and how to fix the problem."""
    if isinstance(error, UnavailableError):
        return error
    url = config.redis.url
    if url.embedded:
        if isinstance(error, AuthenticationError):
            return UnavailableError(f"Redis at {url.shown} refused the password; correct redis.url")
        return UnavailableError("the embedded broker does not respond; see the log: nvision-hub logs hub")
    return failure(config.redis, error) or UnavailableError(
        f"no Redis answers at {url.shown}; start Redis, or correct redis.url"
    )


class ApiClient(httpx2.Client):
    """HTTP client for the API of the running hub.

    Methods raise `UnavailableError` if the gateway does not respond or cannot perform the request, `UsageError` for an
    unknown camera or an invalid value, and `HubError` if the gateway refuses the token or the request.
    """

    def __init__(self, config: Config) -> None:
        self.endpoints = find_hub(config)
        if self.endpoints.gateway is None:
            raise UnavailableError(
                f"the running hub (pid {self.endpoints.pid}) has no API because gateway.listen is none; "
                f"set an address in {config.path.name} and restart the hub"
            )
        token = _token(config)
        super().__init__(
            base_url=f"{self.endpoints.gateway}/api/v1",
            headers={} if token is None else {"authorization": f"Bearer {token}"},
            timeout=REQUEST_TIMEOUT_S,
            verify=_tls_context(config),
            trust_env=False,  # requests to the hub must not go through HTTP_PROXY
        )

    def cameras(self) -> list[dict[str, Any]]:
        """Return all cameras in the order of the configuration."""
        cameras: list[dict[str, Any]] = self.call("GET", "/cameras")["cameras"]
        return cameras

    def select(self, ids: Sequence[str]) -> list[dict[str, Any]]:
        """Return the cameras with these ids, without duplicates. Raises `UsageError` if any id is unknown."""
        cameras = {camera["id"]: camera for camera in self.cameras()}
        for camera_id in ids:
            if camera_id not in cameras:
                raise unknown_name(f"the hub has no camera {camera_id!r}", camera_id, [*cameras])
        return [cameras[camera_id] for camera_id in dict.fromkeys(ids)]

    def call(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        """Send a request with the given httpx options, and return the JSON body of the response."""
        gateway = self.endpoints.gateway
        try:
            response = self.request(method, path, **options)
        except httpx2.TimeoutException as error:
            raise UnavailableError(
                f"the hub's gateway at {gateway} did not respond within {REQUEST_TIMEOUT_S:g} s; {_SEE_LOG}"
            ) from error
        except httpx2.TransportError as error:
            raise UnavailableError(f"cannot connect to the hub's gateway at {gateway}; {_SEE_LOG}") from error
        if not response.is_success:
            raise _error(response)
        body: dict[str, Any] = response.json()
        return body


def _token(config: Config) -> str | None:
    """Return the token of cameras.yaml with the highest role. None if there is none.

    If the file has no token, but the gateway requires one, the command creates one for itself. It may do so, because
    only the hub's user can write to the state directory. The token expires soon.
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


def _tls_context(config: Config) -> ssl.SSLContext | bool:
    """Return the context that accepts the gateway's own certificate only; True if the gateway has none.

    The certificate need not contain the name under which this machine reaches the gateway.
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


def _error(response: httpx2.Response) -> Exception:
    """Translate an error response, normally a problem document (RFC 9457), into an exception."""
    detail = f"the gateway returned status {response.status_code}"
    invalid: list[str] = []
    with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
        problem = response.json()
        detail = str(problem["detail"])
        invalid = [f"{each['pointer'].removeprefix('/body/')}: {each['detail']}" for each in problem.get("errors", ())]
    match response.status_code:
        case 401:
            return HubError(
                "the hub refused the token; set gateway.token in cameras.yaml to the token that the hub started with"
            )
        case 404 | 422:
            return click.UsageError("; ".join(invalid) or detail)
        case 503:
            return UnavailableError(f"the hub could not perform the request: {detail}")
        case _:
            return HubError(f"the hub refused the request: {detail}")
