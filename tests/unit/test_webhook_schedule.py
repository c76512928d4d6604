"""When a delivery that failed is tried again."""

from __future__ import annotations

import itertools
from email.utils import formatdate

import pytest

from workers.webhooks.schedule import JITTER, RETRY_AFTER_MAX_S, SCHEDULE_S, Pace, delay_s, retry_after_s

NOW = 1_800_000_000.0


def test_the_schedule_is_that_of_the_contract() -> None:
    hour = 3600
    after = [0, 5, 5 * 60, 30 * 60, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    assert list(SCHEDULE_S) == after
    assert Pace().schedule_s == SCHEDULE_S
    assert Pace().timeout_s == 15.0
    delays = [delay_s(tried, retry_after_s=0, jitter=0, schedule_s=SCHEDULE_S) for tried in range(1, 11)]
    assert delays == [*after[1:], None], "ten tries, then the dead letters"


def test_jitter_only_ever_adds_and_never_more_than_a_tenth() -> None:
    for tried, jitter in itertools.product(range(1, 10), (0.0, 0.3, 1.0)):
        delay = delay_s(tried, retry_after_s=0, jitter=jitter, schedule_s=SCHEDULE_S)
        assert delay == pytest.approx(SCHEDULE_S[tried] * (1 + JITTER * jitter))


def test_an_endpoint_may_ask_for_more_time_and_not_for_less() -> None:
    assert delay_s(1, retry_after_s=60, jitter=1, schedule_s=SCHEDULE_S) == 60
    assert delay_s(3, retry_after_s=60, jitter=0, schedule_s=SCHEDULE_S) == 1800
    assert delay_s(10, retry_after_s=60, jitter=0, schedule_s=SCHEDULE_S) is None


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (None, 0),
        ("", 0),
        ("0", 0),
        ("120", 120),
        (" 7 ", 7),
        ("999999999", RETRY_AFTER_MAX_S),
        ("9" * 10_000, RETRY_AFTER_MAX_S),
        ("-5", 0),
        ("1.5", 0),
        ("soon", 0),
        ("²", 0),
        (formatdate(NOW + 90, usegmt=True), 90),
        (formatdate(NOW - 90, usegmt=True), 0),
        (formatdate(NOW + 10 * 86400, usegmt=True), RETRY_AFTER_MAX_S),
        ("Wed, 99 Foo 2026 99:00:00 GMT", 0),
        ("Fri, 15 Jan 2027 08:01:30 -0000", 90),
    ],
)
def test_retry_after(value: str | None, seconds: float) -> None:
    assert retry_after_s(value, NOW) == seconds
