"""Account of frames and results from a worker's metrics, with a check that the account balances exactly.

    frames_sent_total = frames_answered_total + frames_unanswered_total{reason} + frames_in_flight
    results_received_total + results_recovered_total
                      = results_published_total + results_lost_total{reason} + results_waiting

Both equations hold in every status, because a worker builds each status between two steps of its event loop.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(kw_only=True)
class Ledger:
    """Account of one worker at one moment, or the sum of several accounts."""

    sent: int = 0
    answered: int = 0
    unanswered: Counter[str] = field(default_factory=Counter)  # by reason
    in_flight: int = 0
    received: int = 0
    recovered: int = 0  # received by an earlier process and recovered from its spool
    published: int = 0
    lost: Counter[str] = field(default_factory=Counter)  # by reason
    waiting: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # frames that were never sent, by reason

    @classmethod
    def of(cls, metrics: Mapping[str, Any]) -> Ledger:
        """Return the account in `Status.metrics`."""
        ledger = cls()
        totals = {
            "frames_sent_total": "sent",
            "frames_answered_total": "answered",
            "results_received_total": "received",
            "results_recovered_total": "recovered",
            "results_published_total": "published",
            "frames_in_flight": "in_flight",
            "results_waiting": "waiting",
        }
        by_reason = {
            "frames_unanswered_total": ledger.unanswered,
            "results_lost_total": ledger.lost,
            "frames_dropped_total": ledger.dropped,
        }
        for name, labels, value in (*metrics.get("counters", ()), *metrics.get("gauges", ())):
            if name in totals:
                setattr(ledger, totals[name], int(value))
            elif name in by_reason:
                by_reason[name][labels["reason"]] += int(value)
        return ledger

    def __add__(self, other: Ledger) -> Ledger:
        return Ledger(
            sent=self.sent + other.sent,
            answered=self.answered + other.answered,
            unanswered=self.unanswered + other.unanswered,
            in_flight=self.in_flight + other.in_flight,
            received=self.received + other.received,
            recovered=self.recovered + other.recovered,
            published=self.published + other.published,
            lost=self.lost + other.lost,
            waiting=self.waiting + other.waiting,
            dropped=self.dropped + other.dropped,
        )

    @property
    def frames_off(self) -> int:
        """Number of frames missing from the account. A negative number means that frames were counted twice."""
        return self.sent - self.answered - self.unanswered.total() - self.in_flight

    @property
    def results_off(self) -> int:
        """Number of results missing from the account. A negative number means that results were counted twice."""
        return self.received + self.recovered - self.published - self.lost.total() - self.waiting

    @property
    def balanced(self) -> bool:
        return self.frames_off == self.results_off == 0

    @property
    def settled(self) -> bool:
        """Return whether the account balances, no frame is in flight and no result is waiting."""
        return self.balanced and self.in_flight == self.waiting == 0
