"""Delays between attempts."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.backoff import Backoff


@given(tries=st.integers(0, 10_000), seed=st.integers())
def test_every_delay_lies_between_the_first_and_the_cap(tries: int, seed: int) -> None:
    backoff = Backoff(first_s=0.5, cap_s=30.0, tries=tries, rng=random.Random(seed))  # noqa: S311 - repeatable
    assert 0.5 <= backoff.next_s() <= 30.0
    assert backoff.tries == tries + 1


def test_the_ceiling_doubles_with_each_attempt() -> None:
    columns = zip(*([Backoff(first_s=1.0, cap_s=20.0)] for _ in range(200)), strict=True)
    (backoffs,) = columns
    for ceiling in (2.0, 4.0, 8.0, 16.0, 20.0, 20.0):
        delays = [backoff.next_s() for backoff in backoffs]
        assert max(delays) <= ceiling
        assert max(delays) > 0.85 * ceiling
        assert min(delays) < 1.0 + 0.15 * ceiling, "cameras that fail together reconnect at different times"


def test_a_short_success_does_not_reset_the_backoff() -> None:
    backoff = Backoff(healthy_s=30.0)
    for at in (0.0, 100.0, 200.0, 300.0):
        backoff.next_s()
        backoff.healthy(at)
        backoff.healthy(at + 29.9)
    assert backoff.tries == 4


def test_sustained_health_resets_the_backoff() -> None:
    backoff = Backoff(healthy_s=30.0)
    backoff.next_s()
    for at in range(31):
        backoff.healthy(float(at))
    assert backoff.tries == 0


def test_a_failure_restarts_the_health_period() -> None:
    backoff = Backoff(healthy_s=30.0)
    backoff.next_s()
    backoff.healthy(0.0)
    backoff.failed()
    backoff.healthy(31.0)
    assert backoff.tries == 1
    backoff.healthy(61.0)
    assert backoff.tries == 0
