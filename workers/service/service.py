"""The local service's settings and its entry point; what it is made of is loaded when it starts."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from nvision_hub import opencv
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.link import Link

DEFAULT_PORT = 8090


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceSettings:
    """How the local service runs.

    `port` 0 takes a free one, which the status tells. `streaming_keys` open both doors; none at all: any key that is
    not empty does. `model` is a YOLO-family ONNX file for objects and `face_model` a YuNet one for faces; None finds
    moving objects and skin-coloured ovals. With `callback_url` the stream's results are posted there instead of going
    back. `latency_s` is how late a result leaves at the earliest, and `rate_limit_per_s` how many requests a second
    one key may make: for trials of clients; None is no limit.
    """

    host: str = "127.0.0.1"
    port: int = DEFAULT_PORT
    streaming_keys: tuple[str, ...] = field(default=(), repr=False)
    model: Path | None = None
    face_model: Path | None = None
    callback_url: str | None = field(default=None, repr=False)
    latency_s: float = 0.0
    rate_limit_per_s: float | None = None


def run(settings: ServiceSettings, link: Link) -> None:
    """Serve until the link says to end.

    Raises `UnavailableError` (a port in use, OpenCV or a model that cannot be loaded) and `ConfigError`.
    """
    problems = _problems(settings)
    if problems:
        raise ConfigError(problems)
    opencv.load()
    # Only now: what stands on OpenCV must not be imported before it was seen to load, nor into the supervisor.
    from workers.service.server import serve  # noqa: PLC0415

    asyncio.run(serve(settings, link))


def _problems(settings: ServiceSettings) -> list[str]:
    problems = []
    if settings.latency_s < 0:
        problems.append(f"The service's latency must be 0 seconds or more, not {settings.latency_s:g}.")
    if settings.rate_limit_per_s is not None and not settings.rate_limit_per_s > 0:
        problems.append(
            f"The service's rate limit must be more than 0 requests a second, not {settings.rate_limit_per_s:g}."
        )
    if settings.callback_url is not None:
        try:
            parts = urlsplit(settings.callback_url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            # Not repeated here: it may hold a token.
            problems.append("The service's callback address must begin with http:// or https:// and name a host.")
    return problems
