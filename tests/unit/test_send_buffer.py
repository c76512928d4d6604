"""The publisher's in-memory buffers are bounded, preserve the order and report every loss."""

from __future__ import annotations

from nvision_hub.broker.send_buffer import OutgoingEvent, RecentEvents, SendBuffer


def event(number: int, size: int = 1) -> OutgoingEvent:
    return OutgoingEvent(id=str(number), camera="lobby", payload=b"x" * size, received_at=0.0)


def names(events: list[OutgoingEvent]) -> list[int]:
    return [int(each.id) for each in events]


def test_reserved_events_stay_until_removed() -> None:
    buffer = SendBuffer(max_events=10, max_bytes=100)
    for number in range(5):
        assert buffer.add(event(number)) == 0
    assert names(buffer.reserve(3, 100)) == [0, 1, 2]
    assert len(buffer) == 5
    buffer.release_reserved()
    assert names(buffer.reserve(2, 100)) == [0, 1]
    buffer.add(event(5))
    buffer.remove_reserved()
    assert names(buffer.reserve()) == [2, 3, 4, 5]
    buffer.remove_reserved()
    assert len(buffer) == 0
    assert buffer.reserve() == []
    buffer.remove_reserved()


def test_a_batch_is_bounded_by_bytes_but_never_empty() -> None:
    buffer = SendBuffer(max_events=10, max_bytes=1000)
    for size in (60, 30, 20):
        buffer.add(event(size, size))
    assert names(buffer.reserve(10, 100)) == [60, 30]
    assert names(buffer.reserve(10, 10)) == [60]


def test_the_oldest_events_above_a_bound_are_dropped_except_reserved_ones() -> None:
    buffer = SendBuffer(max_events=3, max_bytes=100)
    for number in range(3):
        buffer.add(event(number))
    buffer.reserve(2, 100)
    assert buffer.add(event(3)) == 1
    buffer.remove_reserved()
    assert names(buffer.reserve()) == [3]
    buffer.release_reserved()
    buffer.add(event(4, 60))
    assert buffer.add(event(5, 60)) == 2
    assert buffer.add(event(6, 1000)) == 1, "the buffer keeps the newest event of any size"
    assert names(buffer.reserve()) == [6]
    assert buffer.clear() == 1


def test_a_buffer_is_half_full_by_events_or_by_bytes() -> None:
    by_events, by_bytes = SendBuffer(max_events=4, max_bytes=1000), SendBuffer(max_events=1000, max_bytes=10)
    for number in range(2):
        by_events.add(event(number))
        by_bytes.add(event(number, 2))
    assert (by_events.is_half_full, by_bytes.is_half_full) == (False, False)
    by_events.add(event(2))
    by_bytes.add(event(2, 2))
    assert (by_events.is_half_full, by_bytes.is_half_full) == (True, True)


def test_recent_events_are_those_of_the_last_seconds_before_the_newest() -> None:
    recent = RecentEvents(timeout_s=3.0, max_events=3, max_bytes=100)
    recent.add([event(0)], 10.0)
    recent.add([event(1)], 12.9)
    assert names(recent.events()) == [0, 1]
    recent.add([event(2)], 13.5)
    assert names(recent.events()) == [1, 2]
    recent.add([event(3), event(4)], 13.6)
    assert names(recent.events()) == [2, 3, 4], "the buffer keeps three events at most"
    recent.add([event(5, 99)], 13.7)
    assert names(recent.events()) == [4, 5], "the buffer keeps a hundred bytes at most"
    recent.add([event(6, 1000)], 13.8)
    assert recent.events() == []
