"""Where the verbs that work on Redis find it: the server of cameras.yaml, or the running hub's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import AuthenticationError

from nvision_hub.errors import UnavailableError
from nvision_hub.hub import addresses_of

if TYPE_CHECKING:
    from nvision_hub.config import Config


def broker_url(config: Config) -> str:
    """As redis-py takes it. Raises `UnavailableError` where it is the hub's own and no hub runs."""
    if not config.redis.url.embedded:
        return config.redis.url.dial()
    addresses = addresses_of(config.state_dir)
    if addresses is None:
        raise UnavailableError(
            f"no hub runs with the state_dir of {config.path.name} ({config.state_dir}); start it: nvision-hub start"
        )
    return addresses.redis


def broker_refusal(config: Config, error: Exception) -> UnavailableError:
    """What a person should know of `error`, that came of using it."""
    if isinstance(error, UnavailableError):
        return error
    where = config.redis.url.shown
    if isinstance(error, AuthenticationError):
        return UnavailableError(f"Redis at {where} refused the password; correct redis.url")
    if config.redis.url.embedded:
        return UnavailableError("the hub's broker does not answer; see what the hub's log says of it")
    return UnavailableError(f"no Redis answers at {where}; start it, or correct redis.url")
