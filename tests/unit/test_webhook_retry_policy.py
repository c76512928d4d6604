"""The retry schedule for failed deliveries."""

from __future__ import annotations

import itertools

import pytest

from workers.webhooks.settings import JITTER, SCHEDULE_S, DeliveryLimits


def test_the_schedule_is_that_of_the_contract() -> None:
    hour = 3600
    after = [0, 5, 5 * 60, 30 * 60, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    assert list(SCHEDULE_S) == after
    assert DeliveryLimits().schedule_s == SCHEDULE_S
    assert DeliveryLimits().timeout_s == 15.0
    delays = [DeliveryLimits().delay_s(tried, retry_after_s=0, jitter=0) for tried in range(1, 11)]
    assert delays == [*after[1:], None], "a delivery becomes a dead letter after ten attempts"


def test_jitter_adds_at_most_a_tenth() -> None:
    for tried, jitter in itertools.product(range(1, 10), (0.0, 0.3, 1.0)):
        delay = DeliveryLimits().delay_s(tried, retry_after_s=0, jitter=jitter)
        assert delay == pytest.approx(SCHEDULE_S[tried] * (1 + JITTER * jitter))


def test_a_retry_after_may_lengthen_a_delay_but_not_shorten_it() -> None:
    assert DeliveryLimits().delay_s(1, retry_after_s=60, jitter=1) == 60
    assert DeliveryLimits().delay_s(3, retry_after_s=60, jitter=0) == 1800
    assert DeliveryLimits().delay_s(10, retry_after_s=60, jitter=0) is None
