"""The circuit breaker, by the histories it is given."""

from __future__ import annotations

import pytest

from workers.webhooks.breaker import FAILURES_MAX, REST_CAP_S, REST_FIRST_S, Breaker, EndpointState, Room, room

ACTIVE, OPEN, HALF_OPEN, DISABLED = EndpointState


def failed(breaker: Breaker, times: int, now: float = 0.0) -> Breaker:
    for _ in range(times):
        breaker = breaker.sent().failed(now)
    return breaker


def test_it_opens_after_failures_in_a_row_only() -> None:
    nearly = failed(Breaker(), FAILURES_MAX - 1)
    assert nearly.state(0) is ACTIVE
    assert failed(nearly.succeeded(), FAILURES_MAX - 1).state(0) is ACTIVE
    opened = nearly.failed(100)
    assert opened.state(100) is OPEN
    assert opened.wait_s(100 + REST_FIRST_S - 0.01) > 0


def test_one_probe_decides() -> None:
    opened = failed(Breaker(), FAILURES_MAX)
    now = REST_FIRST_S
    assert opened.state(now) is HALF_OPEN
    assert opened.wait_s(now) == 0
    probing = opened.sent()
    assert probing.state(now) is HALF_OPEN
    assert probing.wait_s(now) > 0, "only one at a time"
    assert probing.succeeded() == Breaker()
    again = probing.failed(now)
    assert again.state(now) is OPEN
    assert again.wait_s(now + 2 * REST_FIRST_S - 0.01) > 0
    assert again.wait_s(now + 2 * REST_FIRST_S) == 0


def test_rests_grow_up_to_a_minute() -> None:
    breaker, now, rests = failed(Breaker(), FAILURES_MAX), 0.0, []
    for _ in range(30):
        assert breaker.rests_until is not None
        rests.append(breaker.rests_until - now)
        now = breaker.rests_until
        breaker = breaker.sent().failed(now)
    assert rests[:5] == [5, 10, 20, 40, REST_CAP_S]
    assert set(rests[4:]) == {REST_CAP_S}


def test_what_was_on_its_way_when_it_opened_changes_nothing_but_a_success_does() -> None:
    opened = failed(Breaker(), FAILURES_MAX)
    assert opened.failed(1) == opened
    assert opened.succeeded() == Breaker()


def test_an_endpoint_that_asks_for_time_is_given_it_at_once() -> None:
    asked = Breaker().sent().failed(10, rest_s=120)
    assert asked.state(129) is OPEN
    assert asked.wait_s(130) == 0
    assert asked.failed(20, rest_s=300).wait_s(319) > 0, "also by one that was on its way"
    assert Breaker().sent().failed(0, rest_s=0.001).wait_s(REST_FIRST_S - 1) > 0, "not less than the first rest"


@pytest.mark.parametrize(
    ("state", "in_hand", "due_in_hand", "expected"),
    [
        (ACTIVE, 0, 0, Room(due=32, new=64)),
        (ACTIVE, 40, 30, Room(due=2, new=24)),
        (ACTIVE, 40, 35, Room(due=0, new=24)),
        (ACTIVE, 64, 0, Room(due=0, new=0)),
        (ACTIVE, 70, 0, Room(due=0, new=0)),
        (OPEN, 0, 0, Room(due=0, new=0)),
        (DISABLED, 0, 0, Room(due=0, new=0)),
        (HALF_OPEN, 0, 0, Room(due=1, new=1)),
        (HALF_OPEN, 1, 0, Room(due=0, new=0)),
    ],
)
def test_room(state: EndpointState, in_hand: int, due_in_hand: int, expected: Room) -> None:
    assert room(state, in_hand=in_hand, in_hand_max=64, due_in_hand=due_in_hand) == expected
