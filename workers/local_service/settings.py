"""Settings of the local service."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from nvision_hub.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True, slots=True)
class LocalServiceSettings:
    """Settings of the local service. The last two are useful for testing clients."""

    host: str = "127.0.0.1"
    port: int = 8090  # if 0, the system chooses the port; status reports contain the chosen port
    streaming_keys: tuple[str, ...] = field(default=(), repr=False)  # if empty, the service accepts any non-empty key
    model: Path | Literal["moving"] | None = None  # ONNX file of the YOLO family; if None, the packaged model, if any
    labels: Path | None = None  # class names of `model`; if None, the names in the model's file, or else COCO's names
    face_model: Path | None = None  # YuNet file; if None, the packaged model, if any
    callback_url: str | None = field(default=None, repr=False)  # receives the results of all streams
    latency_s: float = 0.0  # minimum latency of a result
    rate_limit_per_s: float | None = None  # maximum number of requests per second with one key; None for no limit


def check(settings: LocalServiceSettings) -> None:
    """Raise `ConfigError` if any value is invalid."""
    messages = []
    if settings.labels is not None and settings.model in {None, "moving"}:
        messages.append("The labels file applies to a model of your own; name the model, too.")
    if settings.latency_s < 0:
        messages.append(f"The service's latency must be 0 seconds or more, not {settings.latency_s:g}.")
    if settings.rate_limit_per_s is not None and not settings.rate_limit_per_s > 0:
        messages.append(
            f"The service's rate limit must be more than 0 requests a second, not {settings.rate_limit_per_s:g}."
        )
    if settings.callback_url is not None:
        try:
            parts = urlsplit(settings.callback_url)
            usable = parts.scheme in {"http", "https"} and bool(parts.hostname) and parts.port != 0
        except ValueError:
            usable = False
        if not usable:
            # The message does not repeat the address, which may contain a token.
            messages.append("The service's callback address must begin with http:// or https:// and name a host.")
    if messages:
        raise ConfigError([Diagnostic(code="invalid_value", message=message) for message in messages])
