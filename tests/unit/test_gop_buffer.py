"""The GOP buffer starts with a keyframe, is bounded, and keeps no more packets than necessary."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.media.decode.gop_buffer import MAX_BUFFERED_BYTES, GopBuffer
from nvision_hub.media.sources import Packet


def packet(number: int, *, keyframe: bool, size_bytes: int = 1000, lasting: bool = True) -> Packet:
    return Packet(
        payload=number, arrived=float(number), media_s=None, keyframe=keyframe, size_bytes=size_bytes, lasting=lasting
    )


def numbers_in(buffer: GopBuffer) -> list[int]:
    return [each.payload for each in buffer.pop_all()]


@given(
    packets=st.lists(st.tuples(st.booleans(), st.integers(0, MAX_BUFFERED_BYTES // 3)), max_size=60),
    trims=st.dictionaries(st.integers(0, 59), st.floats(0, 60), max_size=10),
)
def test_buffered_packets_can_be_decoded_and_are_bounded(
    packets: list[tuple[bool, int]], trims: dict[int, float]
) -> None:
    buffer = GopBuffer()
    for number, (keyframe, size_bytes) in enumerate(packets):
        buffer.push(packet(number, keyframe=keyframe, size_bytes=size_bytes), float(number))
        if number in trims:
            buffer.trim(trims[number])
        last = buffer.last_gop()
        assert not last or last[0].keyframe
        assert bool(last) == bool(buffer)
        assert not last or last[-1].payload == number
        assert buffer.is_full == (sum(each.size_bytes for each in last) > MAX_BUFFERED_BYTES)
        if buffer.is_full:
            assert [each.payload for each in buffer.pop_all()] == [each.payload for each in last]
    numbers = numbers_in(buffer)
    assert numbers == list(range(numbers[0], len(packets))) if numbers else True
    assert not numbers or packets[numbers[0]][0]
    assert numbers_in(buffer) == []


def test_trim_keeps_the_gop_that_contains_the_time() -> None:
    buffer = GopBuffer()
    for number in range(25):
        buffer.push(packet(number, keyframe=number % 10 == 0), float(number))
    buffer.trim(9.9)
    buffer.trim(12.0)
    assert numbers_in(buffer) == list(range(10, 25))


def test_packets_without_a_keyframe_and_short_lived_packets_are_ignored() -> None:
    buffer = GopBuffer()
    buffer.push(packet(0, keyframe=False), 0.0)
    buffer.push(packet(1, keyframe=True, lasting=False), 1.0)
    assert not buffer
    buffer.push(packet(2, keyframe=True), 2.0)
    assert numbers_in(buffer) == [2]
