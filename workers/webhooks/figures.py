"""One webhook's figures: counters for whoever scrapes, and a row for people that outlives the process in Redis."""

from __future__ import annotations

import json
from collections import deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from workers.webhooks.poster import Outcome

if TYPE_CHECKING:
    from nvision_hub.config import Webhook
    from nvision_hub.status import Meter
    from workers.webhooks.breaker import EndpointState
    from workers.webhooks.poster import Try

_LATENCIES_KEPT: Final = 500
_ERROR_CHARACTERS: Final = 300


@dataclass(kw_only=True)
class Figures:
    """Counts since the webhook first ran, its process' predecessors included."""

    webhook: Webhook
    meter: Meter
    delivered: int = 0
    failed: int = 0  # tries, not deliveries
    dead: int = 0
    last_error: str | None = None  # of the last try; None where that was delivered
    last_delivery_at: str | None = None
    pending: int = 0  # new results that are not yet delivered, and not yet known to be unwanted
    retrying: int = 0  # deliveries that wait for another try, or for their replay
    _latencies_s: deque[float] = field(default_factory=lambda: deque(maxlen=_LATENCIES_KEPT))

    def __post_init__(self) -> None:
        # A rate over a counter that appears with its first count misses that count.
        for outcome in Outcome:
            self.meter.count("webhook_deliveries_total", 0, webhook=self.webhook.id, outcome=outcome)
        for name in ("webhook_dead_total", "webhook_missed_total"):
            self.meter.count(name, 0, webhook=self.webhook.id)

    def tried(self, result: Try) -> None:
        """Count one try."""
        self.meter.count("webhook_deliveries_total", webhook=self.webhook.id, outcome=result.outcome)
        self.last_error = result.error and result.error[:_ERROR_CHARACTERS]
        if result.outcome is Outcome.DELIVERED:
            self.delivered += 1
            self.last_delivery_at = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
            self.meter.observe("webhook_delivery_seconds", result.took_s)
            self._latencies_s.append(result.took_s)
        else:
            self.failed += 1

    def buried(self) -> None:
        """Count one delivery that was given up on."""
        self.dead += 1
        self.meter.count("webhook_dead_total", webhook=self.webhook.id)

    def missed(self, count: int) -> None:
        """Count results that left Redis before they could be delivered."""
        self.meter.count("webhook_missed_total", count, webhook=self.webhook.id)

    def backlog(self, *, pending: int, retrying: int) -> None:
        """Note what waits in Redis."""
        self.pending, self.retrying = pending, retrying
        self.meter.gauge("webhook_pending", pending + retrying, webhook=self.webhook.id)

    def row(self, state: EndpointState) -> dict[str, Any]:
        """For people: everything that the API tells of a webhook."""
        ordered = sorted(self._latencies_s)
        return {
            "id": self.webhook.id,
            "url": self.webhook.url.shown,
            "state": state,
            "pending": self.pending,
            "retrying": self.retrying,
            "dead": self.dead,
            "delivered": self.delivered,
            "failed": self.failed,
            "last_error": self.last_error,
            "last_delivery_at": self.last_delivery_at,
            "p50_s": _percentile(ordered, 0.5),
            "p99_s": _percentile(ordered, 0.99),
        }

    def recall(self, row: bytes) -> None:
        """Go on from where a predecessor's row stood."""
        known = json.loads(row)
        self.delivered += known["delivered"]
        self.failed += known["failed"]
        self.dead += known["dead"]
        self.last_error = self.last_error or known["last_error"]
        self.last_delivery_at = self.last_delivery_at or known["last_delivery_at"]


def _percentile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else None
