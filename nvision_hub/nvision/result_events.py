"""Events that consumers receive: the documented Nvision result plus one key, `hub`."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from nvision_hub.nvision.protocol import result_json
from nvision_hub.timestamps import iso_utc

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.config.value_types import ServiceName
    from nvision_hub.nvision.nvision_pb2 import NvisionRequest

_UUID_VERSION: Final = 7
_CLOCKS_APART_S: Final = 60.0


def new_id(at: float | None = None) -> str:
    """Return a UUIDv7 (RFC 9562) for the time `at`, in seconds since the epoch; None means now.

    The id contains this time. A callback that contains only a frame's id therefore still supplies the capture time.
    """
    milliseconds = int((time.time() if at is None else at) * 1000) & (2**48 - 1)
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (2**62 - 1)
    return str(UUID(int=value))


@dataclass(frozen=True, kw_only=True, slots=True)
class SentFrame:
    """Metadata of a sent frame. Times are seconds since the epoch."""

    frame_id: str
    sequence: int  # number of the frame among the camera's sent frames since the worker started, from 1
    captured_at: float | None  # None if unknown
    sent_at: float
    sent_mono: float  # monotonic seconds, for durations
    width: int
    height: int
    jpeg_bytes: int
    captured_mono: float | None = None  # `captured_at` on the monotonic clock; None if unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class EventOrigin:
    """Part of the `hub` object that is the same for all events of one camera."""

    site: str
    camera: str
    labels: dict[str, str]
    service: ServiceName | None  # None if unknown


def id_time(text: str) -> float | None:
    """Return the creation time of a UUIDv7, in seconds since the epoch; None for any other string."""
    try:
        value = UUID(text)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == _UUID_VERSION and str(value) == text else None


def result_event(result: NvisionRequest, sent: SentFrame, origin: EventOrigin, *, received_at: float) -> dict[str, Any]:
    """Return the event for one result that arrived over the WebSocket."""
    event = result_json(result)
    event["source_id"] = event["source_id"] or origin.camera
    event["frame_id"] = sent.frame_id
    times = {"captured_at": sent.captured_at, "sent_at": sent.sent_at, "received_at": received_at}
    _add_hub(event, sent.frame_id, origin, sent, **times)
    return event


def callback_event(result: Mapping[str, Any], origin: EventOrigin, *, received_at: float) -> dict[str, Any]:
    """Return the event for one result that the service posted to the callback endpoint.

    The event omits nulls in the result, and replaces any `hub` in it. If the hub created the `frame_id`, it identifies
    the frame and contains the capture time. Fields that only the sending worker knows are null.
    """
    posted = {name: value for name, value in result.items() if value is not None and name != "hub"}
    event = {"service_id": "", "source_id": "", "frame_id": "", "detected_objects": [], **posted}
    frame_id = str(event["frame_id"] or "")
    captured_at = id_time(frame_id)
    event_id = new_id(received_at) if captured_at is None else frame_id
    # Clock differences do not explain a time so far in the future. The hub therefore did not create this id.
    if captured_at is not None and captured_at > received_at + _CLOCKS_APART_S:
        captured_at = None
    _add_hub(event, event_id, origin, None, captured_at=captured_at, sent_at=None, received_at=received_at)
    return event


def _add_hub(
    event: dict[str, Any], event_id: str, origin: EventOrigin, sent: SentFrame | None, **times: float | None
) -> None:
    if origin.service == "face-detection":
        event.setdefault("detected_faces", [])
    event["hub"] = {
        "id": event_id,
        "site": origin.site,
        "camera": origin.camera,
        "labels": origin.labels,
        "service": origin.service,
        "via": "callback" if sent is None else "websocket",
        **{name: None if at is None else iso_utc(at) for name, at in times.items()},
        **{name: getattr(sent, name, None) for name in ("width", "height", "jpeg_bytes", "sequence")},
    }


def encode(event: dict[str, Any]) -> bytes:
    """Encode an event as UTF-8 JSON. Raises `ValueError` if a number is infinite or a string is not encodable."""
    return json.dumps(event, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
