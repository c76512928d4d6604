"""The circuit breaker, tested with histories of outcomes."""

from __future__ import annotations

import pytest

from workers.webhooks.breaker import MAX_FAILURES, REST_CAP_S, REST_FIRST_S, Breaker, Capacity, EndpointState, capacity

ACTIVE, OPEN, HALF_OPEN, DISABLED = EndpointState


def failed(breaker: Breaker, times: int, now: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = breaker.sent().failed(now)
    return breaker


def test_the_breaker_opens_only_after_consecutive_failures() -> None:
    nearly = failed(Breaker(), MAX_FAILURES - 1)
    assert nearly.state(0) is ACTIVE
    assert failed(nearly.succeeded(), MAX_FAILURES - 1).state(0) is ACTIVE
    opened = nearly.failed(100)
    assert opened.state(100) is OPEN
    assert opened.wait_s(100 + REST_FIRST_S - 0.01) > 0


def test_a_closed_breaker_holds_back_no_delivery() -> None:
    assert Breaker().wait_s(10) == 0
    assert Breaker().sent().wait_s(10) == 0, "several deliveries may be in flight"


def test_one_probe_closes_the_breaker_or_opens_it_again() -> None:
    opened = failed(Breaker(), MAX_FAILURES)
    now = REST_FIRST_S
    assert opened.state(now) is HALF_OPEN
    assert opened.wait_s(now) == 0
    probing = opened.sent()
    assert probing.state(now) is HALF_OPEN
    assert probing.wait_s(now) > 0, "the breaker allows one probe at a time"
    assert probing.succeeded() == Breaker()
    again = probing.failed(now)
    assert again.state(now) is OPEN
    assert again.wait_s(now + 2 * REST_FIRST_S - 0.01) > 0
    assert again.wait_s(now + 2 * REST_FIRST_S) == 0


def test_open_periods_grow_up_to_a_minute() -> None:
    breaker, now, rests = failed(Breaker(), MAX_FAILURES), 0.0, []
    for _ in range(30):
        assert breaker.rests_until is not None
        rests.append(breaker.rests_until - now)
        now = breaker.rests_until
        breaker = breaker.sent().failed(now)
    assert rests[:5] == [5, 10, 20, 40, REST_CAP_S]
    assert set(rests[4:]) == {REST_CAP_S}


def test_late_failures_change_nothing_and_a_late_success_closes_the_breaker() -> None:
    opened = failed(Breaker(), MAX_FAILURES)
    assert opened.failed(1) == opened
    assert opened.succeeded() == Breaker()


def test_a_retry_after_opens_the_breaker_immediately() -> None:
    asked = Breaker().sent().failed(10, rest_s=120)
    assert asked.state(129) is OPEN
    assert asked.wait_s(130) == 0
    assert asked.failed(20, rest_s=300).wait_s(319) > 0, "the Retry-After of a request in flight also counts"
    assert Breaker().sent().failed(0, rest_s=0.001).wait_s(REST_FIRST_S - 1) > 0, (
        "no open period is shorter than the first"
    )


@pytest.mark.parametrize(
    ("state", "in_hand", "due_in_hand", "expected"),
    [
        (ACTIVE, 0, 0, Capacity(due=32, new=64)),
        (ACTIVE, 40, 30, Capacity(due=2, new=24)),
        (ACTIVE, 40, 35, Capacity(due=0, new=24)),
        (ACTIVE, 64, 0, Capacity(due=0, new=0)),
        (ACTIVE, 70, 0, Capacity(due=0, new=0)),
        (OPEN, 0, 0, Capacity(due=0, new=0)),
        (DISABLED, 0, 0, Capacity(due=0, new=0)),
        (HALF_OPEN, 0, 0, Capacity(due=32, new=64)),
        (HALF_OPEN, 64, 0, Capacity(due=0, new=0)),
    ],
)
def test_the_capacity_depends_on_the_state_and_the_deliveries_in_hand(
    state: EndpointState, in_hand: int, due_in_hand: int, expected: Capacity
) -> None:
    assert capacity(state, in_hand=in_hand, in_hand_max=64, due_in_hand=due_in_hand) == expected
