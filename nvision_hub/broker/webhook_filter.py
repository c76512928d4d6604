"""Filter that selects the events and detections of one webhook by camera, class and confidence."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

from nvision_hub.broker.webhook_queue import PLAIN_ID, Delivery
from nvision_hub.nvision import result_events
from nvision_hub.nvision.received_events import ReceivedResult

if TYPE_CHECKING:
    from collections.abc import Mapping

_DETECTIONS: Final = ("detected_objects", "detected_faces")


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookFilter:
    """Cameras, classes and minimum confidence that a webhook accepts. None accepts everything."""

    cameras: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    min_confidence: float = 0.0

    @classmethod
    def of(cls, webhook: Mapping[str, Any]) -> WebhookFilter:
        """Return the filter of `webhook`, an entry of cameras.yaml as JSON."""
        names = {key: frozenset(webhook[key]) for key in ("cameras", "classes") if webhook.get(key) is not None}
        return cls(**names, min_confidence=webhook.get("min_confidence", 0.0))

    def apply(self, camera: str, payload: bytes) -> Delivery | None:
        """Return a delivery whose body is the event with only the matching detections; None if nothing matches.

        If every detection matches, the body is `payload` unchanged. Raises `ValueError` if `payload` is not an event.
        """
        if self.cameras is not None and camera not in self.cameras:
            return None
        # Results without detections pass only if the webhook has no condition on detections.
        selective = self.classes is not None or self.min_confidence > 0
        try:
            event_id = ReceivedResult.parse(payload).hub.id
            event = json.loads(payload) if selective else {}
            # The filter replaces an id that is not plain with a UUID that depends only on that id.
            delivery_id = event_id if PLAIN_ID.fullmatch(event_id) else str(uuid5(NAMESPACE_OID, event_id))
            kept = {name: self._matching(event[name]) for name in _DETECTIONS if name in event} if selective else {}
        except (ValueError, RecursionError) as error:
            raise ValueError("not an event of the hub") from error
        if selective and not any(kept.values()):
            return None
        if all(len(found) == len(event[name]) for name, found in kept.items()):
            return Delivery(id=delivery_id, body=payload)
        return Delivery(id=delivery_id, body=result_events.encode({**event, **kept}))

    def _matching(self, detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            each
            for each in detections
            if each["confidence"] >= self.min_confidence and (self.classes is None or each["name"] in self.classes)
        ]
