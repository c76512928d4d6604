"""Redis of the chosen hub: its address with the password, and the reasons why Redis cannot be used."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import click
from redis.exceptions import AuthenticationError

from nvision_hub.broker.embedded_config import PASSWORDS_NAME, socket_url, user_url
from nvision_hub.broker.embedded_users import BrokerPasswords, BrokerUser, load_passwords
from nvision_hub.broker.failures import known_cause
from nvision_hub.broker.redis_check import failure
from nvision_hub.cli.api_client import ApiClient
from nvision_hub.cli.hub_choice import find_hub
from nvision_hub.config.load import load
from nvision_hub.errors import UnavailableError
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from nvision_hub.cli.hub_choice import HubOptions, RunningHub
    from nvision_hub.config.models import Config
    from nvision_hub.config.redis_section import Redis
    from nvision_hub.hub.state_dir import Endpoints


@dataclass(frozen=True, kw_only=True)
class HubBroker:
    """Redis of a hub. `section` is the section of cameras.yaml; None if a running hub reported the address."""

    url: str = field(repr=False)  # complete, including the password
    shown: str
    prefix: str
    is_embedded: bool = False
    section: Redis | None = None

    def unavailable(self, error: Exception) -> UnavailableError:
        """Return an `UnavailableError` that explains why a Redis command failed and how to fix the problem."""
        if isinstance(error, UnavailableError):
            return error
        if isinstance(error, AuthenticationError):
            return UnavailableError(f"Redis at {self.shown} refused the password; correct redis.url")
        if self.is_embedded:
            return UnavailableError("the embedded broker does not respond; see the log: nvision-hub logs hub")
        if self.section is not None and (found := failure(self.section, error)) is not None:
            return found
        cause = known_cause(error)
        if cause is not None:
            return UnavailableError(f"Redis at {self.shown} cannot be used: {cause}")
        return UnavailableError(f"no Redis answers at {self.shown}; start Redis, or correct redis.url")


def find_broker(chosen: HubOptions) -> HubBroker:
    """Return the Redis of the chosen hub. An embedded broker is available only while its hub runs.

    If no hub is running, cameras.yaml supplies the address of a separate Redis. Raises `HubError` if no Redis is found.
    """
    try:
        hub = find_hub(chosen)
    except UnavailableError:
        if chosen.site is not None or chosen.state_dir is not None or chosen.file is None:
            raise
        section = load(chosen.file).redis
        if section.url.embedded:
            raise
        return _configured_broker(section)
    endpoints = hub.endpoints
    if endpoints.redis_socket is not None:
        url = socket_url(Path(endpoints.redis_socket), _passwords(endpoints, hub.config))
        return HubBroker(url=url, shown=endpoints.redis, prefix=endpoints.prefix, is_embedded=True)
    if hub.config is not None:
        return _configured_broker(hub.config.redis)
    if hub.is_remote:
        raise click.UsageError("a hub reports its Redis on its own machine only; run the command on that machine")
    with ApiClient(chosen) as api:
        found = api.call("GET", "/broker")
    register_secrets([found["url"]])
    return HubBroker(url=found["url"], shown=endpoints.redis, prefix=found["prefix"])


def subscriber_url(hub: RunningHub, user: BrokerUser) -> str:
    """Return the address at which other programs read results.

    For an embedded broker that requires a password, the address contains the name and the password of `user`. Any
    other address contains no password.
    """
    endpoints = hub.endpoints
    is_open = endpoints.redis_open or (hub.config is not None and hub.config.redis.embedded_open)
    if endpoints.redis_socket is None or is_open:
        return endpoints.redis
    return user_url(endpoints.redis, user, _passwords(endpoints, hub.config))


def _configured_broker(section: Redis) -> HubBroker:
    return HubBroker(url=section.dial(), shown=section.url.shown, prefix=section.prefix, section=section)


def _passwords(endpoints: Endpoints, config: Config | None) -> BrokerPasswords:
    folder = config.state_dir if config is not None else Path(str(endpoints.state_dir))
    file = folder / "broker" / PASSWORDS_NAME
    passwords = None
    with contextlib.suppress(OSError):
        passwords = load_passwords(file, owner=folder.stat().st_uid)  # root may run the command
    if passwords is None:
        raise UnavailableError(
            f"the broker's passwords in {file} cannot be read; run this command as the user who runs the hub"
        )
    return passwords
