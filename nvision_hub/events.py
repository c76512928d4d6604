"""What a consumer receives: the Nvision result as its documentation shows it, plus one key, `hub`."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from nvision_hub.wire import result_as_json, timestamp

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.wire import NvisionRequest, Service

_UUID_VERSION: Final = 7
_CLOCKS_APART_S: Final = 60.0


def new_id(at: float | None = None) -> str:
    """A UUIDv7 (RFC 9562): sorts by time, and tells it, so that a callback that carries only an id still says when.

    `at` is in seconds since the epoch, now where None.
    """
    milliseconds = int((time.time() if at is None else at) * 1000) & (2**48 - 1)
    random = int.from_bytes(os.urandom(10))
    value = milliseconds << 80 | 0x7 << 76 | (random >> 68 & 0xFFF) << 64 | 0b10 << 62 | random & (2**62 - 1)
    return str(UUID(int=value))


@dataclass(frozen=True, kw_only=True, slots=True)
class Sent:
    """One picture that was sent, as its result will be told of it. Times are seconds since the epoch."""

    frame_id: str
    sequence: int  # the camera's sent pictures since its worker started, from 1
    captured_at: float | None  # None where it cannot be known
    sent_at: float
    sent_mono: float  # monotonic seconds, for durations
    width: int
    height: int
    jpeg_bytes: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Origin:
    """The part of `hub` that is the same for every event of one camera."""

    site: str
    camera: str
    labels: dict[str, str]
    service: Service | None  # None where it cannot be known


def id_time(text: str) -> float | None:
    """When a UUIDv7 was made, in seconds since the epoch; None for a text that is none."""
    try:
        value = UUID(text)
    except ValueError:
        return None
    return (value.int >> 80) / 1000 if value.version == _UUID_VERSION and str(value) == text else None


def result_event(result: NvisionRequest, sent: Sent, origin: Origin, *, received_at: float) -> dict[str, Any]:
    """The event of one result that came back on the WebSocket."""
    event = result_as_json(result)
    if origin.service == "face-detection":
        event.setdefault("detected_faces", [])
    event["source_id"] = event["source_id"] or origin.camera
    event["frame_id"] = sent.frame_id
    event["hub"] = {
        "id": sent.frame_id,
        "site": origin.site,
        "camera": origin.camera,
        "labels": origin.labels,
        "service": origin.service,
        "via": "websocket",
        "captured_at": None if sent.captured_at is None else _instant(sent.captured_at),
        "sent_at": _instant(sent.sent_at),
        "received_at": _instant(received_at),
        "width": sent.width,
        "height": sent.height,
        "jpeg_bytes": sent.jpeg_bytes,
        "sequence": sent.sequence,
    }
    return event


def callback_event(result: Mapping[str, Any], origin: Origin, *, received_at: float) -> dict[str, Any]:
    """The event of one result that was posted to the callback endpoint: as it was posted, plus `hub`.

    A `frame_id` that the hub has made tells which picture it is of, and when that was captured. What only the worker
    that sent the picture knows is null.
    """
    frame_id = str(result.get("frame_id") or "")
    made_at = id_time(frame_id)
    event = {"service_id": "", "source_id": "", "frame_id": "", "detected_objects": [], **_given(result)}
    if origin.service == "face-detection":
        event.setdefault("detected_faces", [])
    event["hub"] = {
        "id": new_id(received_at) if made_at is None else frame_id,
        "site": origin.site,
        "camera": origin.camera,
        "labels": origin.labels,
        "service": origin.service,
        "via": "callback",
        # A clock that is ahead of ours by more than networks explain is not one of this hub's.
        "captured_at": None if made_at is None or made_at > received_at + _CLOCKS_APART_S else _instant(made_at),
        "sent_at": None,
        "received_at": _instant(received_at),
        "width": None,
        "height": None,
        "jpeg_bytes": None,
        "sequence": None,
    }
    return event


def _given(result: Mapping[str, Any]) -> dict[str, Any]:
    """What somebody else's JSON says, without what it leaves open and what is ours to say."""
    return {name: value for name, value in result.items() if value is not None and name != "hub"}


def encode(event: dict[str, Any]) -> bytes:
    """An event as consumers receive it: UTF-8 JSON."""
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def _instant(at: float) -> str:
    return timestamp(datetime.fromtimestamp(at, UTC))
