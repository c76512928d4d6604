"""Strict models of events that come from Redis, where another program may have written anything.

A reader checks every message and entry with one of these models before it uses the content. If the check fails, the
reader discards the data and counts it (`redis_entries_rejected_total`).
"""

from __future__ import annotations

import json
from typing import Annotated, Any, Final, Literal, NoReturn

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic_core import from_json

from nvision_hub.timestamps import parse_iso

MAX_EVENT_BYTES: Final = 32 * 2**20  # a result of the service has at most 8 MiB; JSON and base64 add to it
_MAX_HUB_EVENT_BYTES: Final = 2**16  # the gateway keeps the last hundred of these events for each viewer
_MAX_DETECTIONS: Final = 100_000
_MAX_TRACK_EVENT_BYTES: Final = 2**20  # an event of a track takes 1 to 6 KB

Number = Annotated[float, Field(allow_inf_nan=False)]


class _Strict(BaseModel):
    """Model without conversions. Unknown keys are allowed, because later versions of the hub may add keys."""

    model_config = ConfigDict(strict=True, frozen=True)


class ReceivedBox(_Strict):
    left: Number
    top: Number
    right: Number
    bottom: Number


class ReceivedDetection(_Strict):
    name: str
    confidence: Number
    bounding_box: ReceivedBox | None = None


class ReceivedOrigin(_Strict):
    """The `hub` part of an event."""

    id: str
    site: str = ""
    camera: str = ""
    labels: dict[str, str] = {}
    service: str | None = None
    via: str = ""
    captured_at: str | None = None
    sent_at: str | None = None
    received_at: str | None = None


class ReceivedResult(_Strict):
    """A result in the form that the hub publishes."""

    hub: ReceivedOrigin
    service_id: str = ""
    source_id: str = ""
    frame_id: str = ""
    detected_objects: Annotated[list[ReceivedDetection], Field(max_length=_MAX_DETECTIONS)] = []
    detected_faces: Annotated[list[ReceivedDetection], Field(max_length=_MAX_DETECTIONS)] = []

    @classmethod
    def parse(cls, data: bytes) -> ReceivedResult:
        """Parse the JSON of a result. Raises `ValueError` for any other data."""
        _check_json(data, MAX_EVENT_BYTES)
        return cls.model_validate_json(data)

    @property
    def at(self) -> float | None:
        """The capture time or, if it is unknown, a later time of the frame; None if the result contains no time.

        In seconds since the epoch.
        """
        times = map(parse_iso, (self.hub.captured_at, self.hub.sent_at, self.hub.received_at))
        return next((time for time in times if time is not None), None)


class ReceivedTrack(_Strict):
    """The object of a track event, in its state at the time of the event."""

    id: str
    camera: str
    class_name: Annotated[str, Field(alias="class")]
    confidence: Number
    started_at: str
    last_seen_at: str
    ended_at: str | None = None
    end_reason: str | None = None
    stationary: bool = False
    zones: tuple[str, ...] = ()


class ReceivedVisit(_Strict):
    """The zone of a track event."""

    id: str
    dwell_s: Number | None = None


class ReceivedCrossing(_Strict):
    """The line of a track event."""

    id: str
    direction: str


class ReceivedTrackData(_Strict):
    track: ReceivedTrack
    zone: ReceivedVisit | None = None
    line: ReceivedCrossing | None = None


class ReceivedTrackEvent(_Strict):
    """An event of a track in the form that the hub publishes."""

    specversion: Literal["1.0"]
    id: str
    type: Annotated[str, Field(pattern=r"^nvision\.[a-z]+\.[a-z]+$")]
    subject: str
    time: str
    data: ReceivedTrackData

    @classmethod
    def parse(cls, data: bytes) -> ReceivedTrackEvent:
        """Parse the JSON of an event of a track. Raises `ValueError` for any other data."""
        _check_json(data, _MAX_TRACK_EVENT_BYTES)
        return cls.model_validate_json(data)

    @property
    def name(self) -> str:
        """The event type without its prefix, such as `zone.entered`."""
        return self.type.partition(".")[2]

    @property
    def at(self) -> float | None:
        """The time of the event in seconds since the epoch; None if it is not a time."""
        return parse_iso(self.time)


# Every value is a scalar, because the page shows values as text.
_HUB_EVENT: Final = TypeAdapter(
    dict[str, str | int | Number | bool | None],
    config=ConfigDict(strict=True),
)


def parse_hub_event(data: bytes) -> dict[str, Any]:
    """Parse the JSON of an event about the hub, its cameras or its webhooks. Raises `ValueError` for any other data."""
    _check_json(data, _MAX_HUB_EVENT_BYTES)
    event = _HUB_EVENT.validate_json(data)
    if not isinstance(event.get("kind"), str):
        raise ValueError("the event has no kind")  # noqa: TRY004 - the content of a message
    return event


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object that can be encoded as JSON again. Raises `ValueError` for any other data."""
    _check_json(data, MAX_EVENT_BYTES)
    value = from_json(data)  # unlike `json.loads`, rejects unpaired surrogates and deep nesting
    if not isinstance(value, dict):
        raise ValueError("not an object")  # noqa: TRY004 - the content of a message
    json.dumps(value, allow_nan=False)  # checks that no number is infinite, such as 1e999
    return value


def _check_json(data: bytes, max_bytes: int) -> None:
    """Raise `ValueError` for data that is too large or contains a constant that JSON does not have."""
    if len(data) > max_bytes:
        raise ValueError("the event is too large")
    if b"NaN" in data or b"Infinity" in data:  # pydantic accepts these constants; a match may also be part of a name
        try:
            json.loads(data, parse_constant=_reject)
        except RecursionError as error:
            raise ValueError("the event is nested too deeply") from error


def _reject(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")
