"""What waits in memory for Redis, and what Redis has confirmed lately: bounded, in order, counted."""

from __future__ import annotations

from nvision_hub.broker.outgoing import Outgoing, Recent, Waiting


def event(number: int, size: int = 1) -> Outgoing:
    return Outgoing(id=str(number), camera="lobby", payload=b"x" * size, received_at=0.0)


def names(events: list[Outgoing]) -> list[int]:
    return [int(each.id) for each in events]


def test_what_is_taken_stays_until_it_is_done() -> None:
    waiting = Waiting(max_events=10, max_bytes=100)
    for number in range(5):
        assert waiting.add(event(number)) == 0
    assert names(waiting.take(3, 100)) == [0, 1, 2]
    assert len(waiting) == 5
    waiting.put_back()
    assert names(waiting.take(2, 100)) == [0, 1]
    waiting.add(event(5))
    waiting.done()
    assert names(waiting.take_all()) == [2, 3, 4, 5]
    waiting.done()
    assert len(waiting) == 0
    assert waiting.take_all() == []
    waiting.done()


def test_a_batch_is_bounded_by_bytes_but_never_empty() -> None:
    waiting = Waiting(max_events=10, max_bytes=1000)
    for size in (60, 30, 20):
        waiting.add(event(size, size))
    assert names(waiting.take(10, 100)) == [60, 30]
    assert names(waiting.take(10, 10)) == [60]


def test_beyond_a_bound_the_oldest_are_given_up_but_for_those_on_their_way() -> None:
    waiting = Waiting(max_events=3, max_bytes=100)
    for number in range(3):
        waiting.add(event(number))
    waiting.take(2, 100)
    assert waiting.add(event(3)) == 1
    waiting.done()
    assert names(waiting.take_all()) == [3]
    waiting.put_back()
    waiting.add(event(4, 60))
    assert waiting.add(event(5, 60)) == 2
    assert waiting.add(event(6, 1000)) == 1, "the newest is kept, whatever its size"
    assert names(waiting.take_all()) == [6]
    assert waiting.clear() == 1


def test_half_full_is_told_by_events_and_by_bytes() -> None:
    by_events, by_bytes = Waiting(max_events=4, max_bytes=1000), Waiting(max_events=1000, max_bytes=10)
    for number in range(2):
        by_events.add(event(number))
        by_bytes.add(event(number, 2))
    assert (by_events.half_full, by_bytes.half_full) == (False, False)
    by_events.add(event(2))
    by_bytes.add(event(2, 2))
    assert (by_events.half_full, by_bytes.half_full) == (True, True)


def test_recent_are_those_of_the_last_seconds_before_the_newest() -> None:
    recent = Recent(within_s=3.0, max_events=3, max_bytes=100)
    recent.add([event(0)], 10.0)
    recent.add([event(1)], 12.9)
    assert names(recent.events()) == [0, 1]
    recent.add([event(2)], 13.5)
    assert names(recent.events()) == [1, 2]
    recent.add([event(3), event(4)], 13.6)
    assert names(recent.events()) == [2, 3, 4], "three at most"
    recent.add([event(5, 99)], 13.7)
    assert names(recent.events()) == [4, 5], "a hundred bytes at most"
    recent.add([event(6, 1000)], 13.8)
    assert len(recent) == 0
