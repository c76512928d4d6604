"""Where the verbs that work on Redis find it: the server of cameras.yaml, or the running hub's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from redis.exceptions import AuthenticationError

from nvision_hub.cli.running import running
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from nvision_hub.config import Config


def broker_url(config: Config) -> str:
    """As redis-py takes it. Raises `UnavailableError` where it is the hub's own and no hub runs."""
    if not config.redis.url.embedded:
        return config.redis.url.dial()
    return running(config).redis


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
