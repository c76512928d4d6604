"""Statistics of one webhook: metrics, and the display row that Redis keeps across restarts."""

from __future__ import annotations

import contextlib
import logging
import time
from collections import deque
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any, Final

from pydantic import BaseModel, ConfigDict, Field

from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.metrics import catalogue
from nvision_hub.runtime.status import WebhookSummary
from nvision_hub.timestamps import iso_utc
from workers.webhooks.breaker import EndpointState
from workers.webhooks.webhook_client import Outcome

if TYPE_CHECKING:
    from nvision_hub.config.models import Webhook
    from nvision_hub.metrics.meter import Meter
    from workers.webhooks.webhook_client import Attempt

log = logging.getLogger("nvision_hub.webhooks")

MAX_AGE: Final = "max_age"  # a reason why an event is not sent
_LATENCIES_KEPT: Final = 500
_ERROR_CHARACTERS: Final = 300

Count = Annotated[int, Field(ge=0, le=2**53)]


class _SavedRow(BaseModel):
    """The part of a saved row from which a later process continues."""

    model_config = ConfigDict(strict=True)

    delivered: Count
    failed: Count
    dead: Count
    last_error: Annotated[str, Field(max_length=_ERROR_CHARACTERS)] | None
    last_delivery_at: Annotated[str, Field(max_length=64)] | None


class WebhookStats:
    """Statistics of one webhook. The counts in `row` include those of earlier processes."""

    def __init__(self, webhook: Webhook, meter: Meter) -> None:
        self.webhook = webhook
        self._meter = meter
        self._latencies_s: deque[float] = deque(maxlen=_LATENCIES_KEPT)
        self.row = WebhookSummary(id=webhook.id, url=webhook.url.shown, state=EndpointState.ACTIVE)
        # Each counter exists from the start, with the value 0. Otherwise a rate over time would miss its first count.
        for outcome in Outcome:
            meter.count(catalogue.WEBHOOK_DELIVERIES_TOTAL, 0, webhook=webhook.id, outcome=outcome)
        meter.count(catalogue.WEBHOOK_SKIPPED_TOTAL, 0, webhook=webhook.id, reason=MAX_AGE)
        for source in (*WebhookFilter.of(webhook.model_dump(mode="json")).streams, "webhook_queue"):
            meter.count(catalogue.REDIS_ENTRIES_REJECTED_TOTAL, 0, source=source)
        for metric in (catalogue.WEBHOOK_DEAD_TOTAL, catalogue.WEBHOOK_MISSED_TOTAL):
            meter.count(metric, 0, webhook=webhook.id)

    def _update(self, **fields: Any) -> None:
        self.row = replace(self.row, **fields)

    def on_attempt(self, result: Attempt) -> None:
        self._meter.count(catalogue.WEBHOOK_DELIVERIES_TOTAL, webhook=self.webhook.id, outcome=result.outcome)
        if result.outcome is Outcome.DELIVERED:
            self._update(delivered=self.row.delivered + 1, last_error=None, last_delivery_at=iso_utc(time.time()))
            self._meter.observe(catalogue.WEBHOOK_DELIVERY_SECONDS, result.took_s)
            self._latencies_s.append(result.took_s)
        else:
            self._update(failed=self.row.failed + 1, last_error=result.error and result.error[:_ERROR_CHARACTERS])

    def on_dead_letter(self) -> None:
        self._update(dead=self.row.dead + 1)
        self._meter.count(catalogue.WEBHOOK_DEAD_TOTAL, webhook=self.webhook.id)

    def on_expired(self) -> None:
        """Count a delivery whose event is older than `max_age`, or would be at the next attempt."""
        self._meter.count(catalogue.WEBHOOK_SKIPPED_TOTAL, webhook=self.webhook.id, reason=MAX_AGE)
        log.warning(
            "webhook %s: event dropped: it is older than max_age (%g s), or would be at the next attempt",
            self.webhook.id,
            self.webhook.max_age,
            extra={"event": "webhook_event_expired"},
        )

    def on_missed(self, count: int) -> None:
        """Count events that Redis trimmed or lost before their delivery."""
        self._meter.count(catalogue.WEBHOOK_MISSED_TOTAL, count, webhook=self.webhook.id)

    def on_rejected(self, source: str, count: int) -> None:
        """Count entries in Redis that are not from a hub."""
        self._meter.count(catalogue.REDIS_ENTRIES_REJECTED_TOTAL, count, source=source)

    def set_waiting(self, *, pending: int, retrying: int) -> None:
        """Set the numbers of waiting deliveries: `pending` in the stream and `retrying` in the queue."""
        self._update(pending=pending, retrying=retrying)
        self._meter.set_gauge(catalogue.WEBHOOK_PENDING, pending + retrying, webhook=self.webhook.id)

    def current_row(self, state: EndpointState) -> WebhookSummary:
        """Return the row, as the API shows it, with the current state and latencies."""
        ordered = sorted(self._latencies_s)
        self._update(state=state, p50_s=_percentile(ordered, 0.5), p99_s=_percentile(ordered, 0.99))
        return self.row

    def restore(self, row: bytes | str | None) -> None:
        """Add the saved row of an earlier process. Ignore a missing row and a row of another version."""
        with contextlib.suppress(ValueError):
            saved = _SavedRow.model_validate_json(row or b"")
            self._update(
                delivered=self.row.delivered + saved.delivered,
                failed=self.row.failed + saved.failed,
                dead=self.row.dead + saved.dead,
                last_error=self.row.last_error or saved.last_error,
                last_delivery_at=self.row.last_delivery_at or saved.last_delivery_at,
            )


def _percentile(ordered: list[float], share: float) -> float | None:
    return round(ordered[min(len(ordered) - 1, int(share * len(ordered)))], 4) if ordered else None
