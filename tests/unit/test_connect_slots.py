"""Connect slots for cameras and turns for reconnects, tested with replayed histories."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.runtime.messages import MAX_RECONNECT_DELAY_S, ReleaseConnectSlot, RequestConnectSlot
from nvision_hub.supervisor.connection_turns import (
    MAX_HELD_S,
    MAX_SLOTS,
    MAX_WAIT_S,
    RECONNECT_SPACING_S,
    ConnectionTurns,
    ReconnectTurns,
)

FLEET = [f"camera:{number}" for number in range(3 * MAX_SLOTS)]


def requested(names: list[str], now: float = 0.0) -> ConnectionTurns:
    slots = ConnectionTurns()
    for name in names:
        slots.add(name, RequestConnectSlot(), now)
    return slots


def test_connect_slots_are_limited_and_granted_in_request_order() -> None:
    slots = requested(FLEET)
    assert slots.grant(0.0) == FLEET[:MAX_SLOTS]
    assert slots.grant(0.1) == []
    slots.add(FLEET[1], ReleaseConnectSlot(), 0.1)
    assert slots.grant(0.2) == [FLEET[MAX_SLOTS]]


def test_a_slot_that_is_held_too_long_is_taken_back() -> None:
    slots = requested(FLEET)
    slots.grant(0.0)
    assert slots.grant(MAX_HELD_S) == []
    assert slots.grant(MAX_HELD_S + 0.1) == FLEET[MAX_SLOTS : 2 * MAX_SLOTS]


def test_a_process_that_ends_gives_back_its_slot_or_its_place() -> None:
    slots = requested(FLEET)
    slots.grant(0.0)
    slots.remove(FLEET[MAX_SLOTS])
    slots.remove(FLEET[0])
    slots.remove("camera:unknown")
    assert slots.grant(0.1) == [FLEET[MAX_SLOTS + 1]]


def test_a_camera_that_waits_too_long_connects_without_a_slot() -> None:
    slots = requested(FLEET[:MAX_SLOTS])
    slots.grant(0.0)
    slots.add("camera:late", RequestConnectSlot(), 0.0)
    for tenth in range(1, int(10 * MAX_WAIT_S)):
        now = tenth / 10
        for name in FLEET[:MAX_SLOTS]:  # the other cameras connect repeatedly
            slots.add(name, ReleaseConnectSlot(), now)
            slots._held[name] = now
        assert slots.grant(now) == []
    assert slots.grant(MAX_WAIT_S) == ["camera:late"]


def test_a_holder_that_requests_again_waits_again() -> None:
    slots = requested(FLEET)
    slots.grant(0.0)
    slots.add(FLEET[0], RequestConnectSlot(), 0.1)
    assert slots.grant(0.1) == [FLEET[MAX_SLOTS]], "the slot goes to a camera that waited longer"


@given(st.lists(st.tuples(st.sampled_from(["request", "release"]), st.sampled_from(FLEET), st.floats(0.0, 1.0))))
def test_slots_are_bounded_and_every_request_is_served(history: list[tuple[str, str, float]]) -> None:
    slots, now, waiting = ConnectionTurns(), 0.0, set()
    for act, name, later in history:
        now += later
        if act == "request":
            slots.add(name, RequestConnectSlot(), now)
            waiting.add(name)
        else:
            slots.add(name, ReleaseConnectSlot(), now)
            waiting.discard(name)
        waiting -= set(slots.grant(now))
        assert len(slots._held) <= MAX_SLOTS
    for _ in range(len(FLEET)):
        now += MAX_HELD_S + 0.1
        waiting -= set(slots.grant(now))
    assert not waiting


def test_reconnects_to_a_service_are_spaced_and_others_do_not_wait() -> None:
    turns = ReconnectTurns()
    delays = [turns.delay_s("a", 100.0) for _ in range(10)]
    assert delays[0] == 0.0
    assert [later - earlier for earlier, later in pairwise(delays)] == pytest.approx([RECONNECT_SPACING_S] * 9)
    assert turns.delay_s("b", 100.0) == 0.0
    assert turns.delay_s("a", 200.0) == 0.0


def test_reconnects_of_a_large_fleet_are_spread_over_a_bounded_time() -> None:
    turns = ReconnectTurns(rng=random.Random(1))  # noqa: S311 - reproducible
    delays = [turns.delay_s("a", 0.0) for _ in range(500)]
    assert max(delays) <= MAX_RECONNECT_DELAY_S
    spread = sum(delay < MAX_RECONNECT_DELAY_S / 2 for delay in delays)
    assert 200 < spread < 300
