"""Filter that selects the results, detections and track events of one webhook."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Literal, get_args
from uuid import NAMESPACE_OID, uuid5

from nvision_hub.broker.webhook_queue import PLAIN_ID, Delivery
from nvision_hub.nvision import result_events
from nvision_hub.nvision.received_events import ReceivedResult, ReceivedTrackEvent

if TYPE_CHECKING:
    from collections.abc import Collection, Container, Mapping

Stream = Literal["results", "tracks"]

STREAMS: Final[tuple[Stream, ...]] = get_args(Stream)
RESULT: Final = "result"  # in `events`; all other values are types of track events
_ENDED: Final = "track.ended"
_LEFT: Final = "zone.left"
_DETECTIONS: Final = ("detected_objects", "detected_faces")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookFilter:
    """Events, cameras, classes, zones and minimum confidence that a webhook accepts. None accepts everything.

    `zones` apply only to events of a zone. A track may change its class and its mean confidence. The end of a track,
    or of its stay in a zone, therefore also matches if an earlier event of this track or stay has matched.
    """

    events: frozenset[str] = frozenset({RESULT})
    cameras: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    zones: frozenset[str] | None = None
    min_confidence: float = 0.0

    @classmethod
    def of(cls, webhook: Mapping[str, Any]) -> WebhookFilter:
        """Return the filter of `webhook`, an entry of cameras.yaml as JSON."""
        keys = ("events", "cameras", "classes", "zones")
        names = {key: frozenset(webhook[key]) for key in keys if webhook.get(key) is not None}
        return cls(**names, min_confidence=webhook.get("min_confidence", 0.0))

    @property
    def streams(self) -> tuple[Stream, ...]:
        """The streams that contain the events, the shorter one first."""
        streams: dict[Stream, bool] = {"tracks": bool(self.events - {RESULT}), "results": RESULT in self.events}
        return tuple(stream for stream, is_read in streams.items() if is_read)

    def only(self, streams: Collection[Stream]) -> WebhookFilter:
        """Return a filter that accepts only events of these streams."""
        kept = {name for name in self.events if ("results" if name == RESULT else "tracks") in streams}
        return replace(self, events=frozenset(kept))

    def apply(
        self, stream: Stream, camera: str, payload: bytes, begun: Container[str] = frozenset()
    ) -> Delivery | None:
        """Return the delivery of an entry of a stream; None if nothing matches.

        `begun` contains what earlier deliveries have begun (`Delivery.begins`) and no delivery has ended. The delivery
        that ends one of these has `any_age`. The body of a result has only the matching detections. If every detection
        matches, the body is `payload` unchanged, as for events of tracks. Raises `ValueError` if `payload` is not an
        event.
        """
        if self.cameras is not None and camera not in self.cameras:
            return None
        return self._apply_to_result(payload) if stream == "results" else self._apply_to_track_event(payload, begun)

    def _apply_to_track_event(self, payload: bytes, begun: Container[str]) -> Delivery | None:
        try:
            event = ReceivedTrackEvent.parse(payload)
        except ValueError as error:
            raise ValueError("not an event of the hub") from error
        track, zone = event.data.track, event.data.zone
        if event.name not in self.events or (self.zones is not None and zone is not None and zone.id not in self.zones):
            return None
        # The track and its stay in the zone, by the type of the event that ends them.
        open_ends = {_ENDED: _plain(track.id)}
        if zone is not None:
            open_ends[_LEFT] = f"{_plain(track.id)} {_plain(zone.id)}"
        ended = open_ends.pop(event.name, None)
        is_of_class = self.classes is None or track.class_name in self.classes
        is_known = ended is not None and ended in begun
        if (not is_of_class or track.confidence < self.min_confidence) and not is_known:
            return None
        return Delivery(
            id=_plain(event.id),
            body=payload,
            is_cloud_event=True,
            at=event.at,
            any_age=is_known,
            begins=tuple(key for end, key in open_ends.items() if end in self.events),
            ends=ended,
        )

    @property
    def _is_selective(self) -> bool:
        """Whether the filter has a condition on detections, so that it may accept only some events of a track."""
        return self.classes is not None or self.min_confidence > 0

    def _apply_to_result(self, payload: bytes) -> Delivery | None:
        selective = self._is_selective  # results without detections then never match
        try:
            received = ReceivedResult.parse(payload)
            event = json.loads(payload) if selective else {}
            kept = {name: self._matching(event[name]) for name in _DETECTIONS if name in event} if selective else {}
        except ValueError as error:
            raise ValueError("not an event of the hub") from error
        if selective and not any(kept.values()):
            return None
        is_whole = all(len(found) == len(event[name]) for name, found in kept.items())
        body = payload if is_whole else result_events.encode({**event, **kept})
        return Delivery(id=_plain(received.hub.id), body=body, at=received.at)

    def _matching(self, detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            each
            for each in detections
            if each["confidence"] >= self.min_confidence and (self.classes is None or each["name"] in self.classes)
        ]


def _plain(event_id: str) -> str:
    """Return an id that is a valid webhook-id. An invalid id is replaced by a UUID that depends only on that id."""
    return event_id if PLAIN_ID.fullmatch(event_id) else str(uuid5(NAMESPACE_OID, event_id))
