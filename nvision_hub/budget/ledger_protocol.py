"""Messages between camera workers and the ledger on a Unix socket, and their codec.

    camera -> ledger   WantImages (first, and whenever a value changes), RequestImage, ImageSent, ImageReturned
    ledger -> camera   ImageGranted, ImageDelayed

A message is one line: the class name, a space, and the fields as JSON.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Final, get_args

from pydantic import Field, TypeAdapter, ValidationError

from nvision_hub.budget.fair_queue import Priority  # noqa: TC001 - pydantic reads the annotation
from nvision_hub.budget.periods import Period  # noqa: TC001 - pydantic reads the annotation
from nvision_hub.metrics.snapshot import StrictData

SOCKET_NAME: Final = "socket"
MAX_LINE_BYTES: Final = 4096


@dataclass(frozen=True, kw_only=True, slots=True)
class WantImages(StrictData):
    """A camera's rate, limits and share of the site's limits."""

    camera: str
    service: str
    fps: Annotated[float, Field(ge=0, le=60, allow_inf_nan=False)]  # images per second; 0 while the camera is paused
    priority: Priority
    per_period: dict[Period, int] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestImage(StrictData):
    """Ask for permission to send one image."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageGranted(StrictData):
    """Send one image now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageDelayed(StrictData):
    limited_by: str  # such as `the site's images_per_day`


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSent(StrictData):
    """The granted image has been sent, or may have been sent.

    The image arrived at the service at least `age_s` seconds ago.
    """

    age_s: Annotated[float, Field(allow_inf_nan=False)]


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageReturned(StrictData):
    """The granted image was not sent."""


LedgerMessage = WantImages | RequestImage | ImageGranted | ImageDelayed | ImageSent | ImageReturned

_ADAPTERS: Final[dict[bytes, TypeAdapter[LedgerMessage]]] = {
    kind.__name__.encode(): TypeAdapter(kind) for kind in get_args(LedgerMessage)
}


def encode_line(message: LedgerMessage) -> bytes:
    name = type(message).__name__.encode()
    return name + b" " + _ADAPTERS[name].dump_json(message) + b"\n"


def decode_line(line: bytes) -> LedgerMessage:
    """Return the message in a line. Raises `ValueError`, and no other error, for an invalid line."""
    name, _, fields = line.partition(b" ")
    adapter = _ADAPTERS.get(name)
    if adapter is None:
        raise ValueError("not a message of the ledger: unknown type")
    try:
        return adapter.validate_json(fields)
    except ValidationError:
        raise ValueError(f"not a message of the ledger: malformed {name.decode()}") from None
