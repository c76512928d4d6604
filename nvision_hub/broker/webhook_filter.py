"""What of an event one webhook wants: by camera, by class, by confidence. Knows nothing of how it gets there."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import NAMESPACE_OID, uuid5

from nvision_hub import events

if TYPE_CHECKING:
    from collections.abc import Mapping

_DETECTIONS: Final = ("detected_objects", "detected_faces")
# hub.id is the webhook-id. One that came from elsewhere may hold what a header must not, or a full stop, which Standard
# Webhooks forbids, because it parts what is signed ("Signature scheme"): that becomes another, always the same.
_PLAIN_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


@dataclass(frozen=True, kw_only=True, slots=True)
class Wanted:
    """One event as a webhook gets it."""

    id: str  # the webhook-id
    body: bytes


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookFilter:
    """The keys of a webhook that choose. None: all of them."""

    cameras: frozenset[str] | None = None
    classes: frozenset[str] | None = None
    min_confidence: float = 0.0

    @classmethod
    def of(cls, webhook: Mapping[str, Any]) -> WebhookFilter:
        """From a webhook of cameras.yaml as JSON, which is also how overseers are shown it."""
        cameras, classes = webhook.get("cameras"), webhook.get("classes")
        return cls(
            cameras=None if cameras is None else frozenset(cameras),
            classes=None if classes is None else frozenset(classes),
            min_confidence=webhook.get("min_confidence", 0.0),
        )

    @property
    def chooses(self) -> bool:
        """Whether detections are looked at; where they are not, a result without any is wanted, too."""
        return self.classes is not None or self.min_confidence > 0

    def apply(self, camera: str, payload: bytes) -> Wanted | None:
        """`payload` with the detections that match; the same bytes where all do, None where nothing is wanted.

        Raises `ValueError` for what is no event.
        """
        if self.cameras is not None and camera not in self.cameras:
            return None
        try:
            event = json.loads(payload)
            event_id = event["hub"]["id"]
            delivery_id = event_id if _PLAIN_ID.fullmatch(event_id) else str(uuid5(NAMESPACE_OID, event_id))
            kept = {name: self._matching(event[name]) for name in _DETECTIONS if name in event} if self.chooses else {}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError("this is no event of the hub") from error
        if self.chooses and not any(kept.values()):
            return None
        if all(len(found) == len(event[name]) for name, found in kept.items()):
            return Wanted(id=delivery_id, body=payload)
        return Wanted(id=delivery_id, body=events.encode({**event, **kept}))

    def _matching(self, detections: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return [
            each
            for each in detections
            if each["confidence"] >= self.min_confidence and (self.classes is None or each["name"] in self.classes)
        ]
