"""Packets that are held: from a keyframe on, bounded, and as far back as they are wanted."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from workers.camera.hold import Hold
from workers.camera.planner import HELD_MAX_BYTES
from workers.camera.source import Packet


def packet(number: int, *, keyframe: bool, size_bytes: int = 1000, lasting: bool = True) -> Packet:
    return Packet(
        payload=number, arrived=float(number), media_s=None, keyframe=keyframe, size_bytes=size_bytes, lasting=lasting
    )


def held(hold: Hold) -> list[int]:
    return [each.payload for each in hold.release()]


@given(
    packets=st.lists(st.tuples(st.booleans(), st.integers(0, HELD_MAX_BYTES // 3)), max_size=60),
    trims=st.dictionaries(st.integers(0, 59), st.floats(0, 60), max_size=10),
)
def test_whatever_is_held_can_be_decoded_and_has_its_bounds(
    packets: list[tuple[bool, int]], trims: dict[int, float]
) -> None:
    hold = Hold()
    for number, (keyframe, size_bytes) in enumerate(packets):
        hold.add(packet(number, keyframe=keyframe, size_bytes=size_bytes), float(number))
        if number in trims:
            hold.trim(trims[number])
        last = hold.since_keyframe()
        assert not last or last[0].keyframe
        assert bool(last) == bool(hold)
        assert not last or last[-1].payload == number
        assert hold.full == (sum(each.size_bytes for each in last) > HELD_MAX_BYTES)
        if hold.full:
            assert [each.payload for each in hold.release()] == [each.payload for each in last]
    numbers = held(hold)
    assert numbers == list(range(numbers[0], len(packets))) if numbers else True
    assert not numbers or packets[numbers[0]][0]
    assert held(hold) == []


def test_it_is_trimmed_to_the_keyframe_before_the_moment_that_is_wanted() -> None:
    hold = Hold()
    for number in range(25):
        hold.add(packet(number, keyframe=number % 10 == 0), float(number))
    hold.trim(9.9)
    hold.trim(12.0)
    assert held(hold) == list(range(10, 25))


def test_nothing_is_held_before_a_keyframe_or_of_what_does_not_last() -> None:
    hold = Hold()
    hold.add(packet(0, keyframe=False), 0.0)
    hold.add(packet(1, keyframe=True, lasting=False), 1.0)
    assert not hold
    hold.add(packet(2, keyframe=True), 2.0)
    assert held(hold) == [2]
