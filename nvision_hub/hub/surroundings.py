"""What a start needs of the machine, checked before anything starts.

Said here, at once and by the process that the user called, instead of by a child that fails again and again.
"""

from __future__ import annotations

import contextlib
import importlib
import socket
import time
from typing import TYPE_CHECKING, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from nvision_hub import opencv
from nvision_hub.broker import embedded as embedded_broker
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from nvision_hub.config import Config, Gateway
    from nvision_hub.hub.composition import Plan

REDIS_WITHIN_S: Final = 5.0


def check_surroundings(config: Config, chosen: Plan) -> None:
    """Raise `UnavailableError` for what a start needs and this machine lacks."""
    check_libraries(chosen)
    if config.redis.url.embedded:
        embedded_broker.program()
    else:
        ask_redis(config)
    _try_port(config.gateway)


def _try_port(gateway: Gateway) -> None:
    """Whether the port that was chosen for the gateway is free. Raises `UnavailableError`."""
    listen = gateway.listen
    if listen.off or listen.port == 0 or "listen" not in gateway.model_fields_set:
        return
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        socket.create_server((listen.host, listen.port), family=family).close()
    except OSError as error:
        raise UnavailableError(
            f"the gateway cannot listen on {listen.shown} ({error.strerror or error}); end what uses it, choose "
            "another gateway.listen, or leave that line out and a free port is taken"
        ) from error


def check_libraries(chosen: Plan) -> None:
    """Load what the planned processes will want of the machine. Raises `UnavailableError`; waits for nothing."""
    names = {child.name for child in chosen.children}
    if names & {"service", "demo"} or chosen.has_usb:
        opencv.load()
    else:
        # Every camera's pictures take less time with it. Before the fork, so that its memory is shared.
        with contextlib.suppress(UnavailableError):
            opencv.load()
    if "demo" in names:
        try:
            importlib.import_module("aio_rtsp_toolkit.server")
        except ImportError as error:
            raise UnavailableError(
                "the demo cameras need aio-rtsp-toolkit; `pip install 'nvision-hub[demo]'` brings it"
            ) from error

    if "mqtt" in names:
        try:
            importlib.import_module("aiomqtt")
        except ImportError as error:
            raise UnavailableError(
                "the MQTT bridge needs aiomqtt; `pip install 'nvision-hub[mqtt]'` brings it, or leave mqtt.url out"
            ) from error


def ask_redis(config: Config) -> float | None:
    """How far its wall clock is ahead of ours, in seconds; None where it does not tell.

    Raises `UnavailableError` where it does not answer, or does not let us in.
    """
    where = config.redis.url.shown
    client = redis.Redis.from_url(
        config.redis.url.dial(),
        socket_timeout=REDIS_WITHIN_S,
        socket_connect_timeout=REDIS_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
    )
    with contextlib.closing(client):
        try:
            client.ping()
        except AuthenticationError as error:
            raise UnavailableError(f"Redis at {where} refused the password; correct redis.url") from error
        except (RedisError, OSError) as error:
            raise UnavailableError(
                f"no Redis answers at {where}; start it, correct redis.url, or use redis.url: embedded"
            ) from error
        before = time.time()
        try:
            seconds, microseconds = client.time()
        except (RedisError, OSError):  # an ACL may forbid it
            return None
        return float(seconds) + float(microseconds) / 1e6 - (before + time.time()) / 2
