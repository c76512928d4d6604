"""Pictures on their way: each is answered, given up or cleared, once."""

from __future__ import annotations

from nvision_hub.events import Sent
from workers.camera.in_flight import ANSWERED_WITHIN_S, MAX_PICTURES, InFlight


def sent(number: int, at: float = 0.0) -> Sent:
    return Sent(
        frame_id=f"f{number}",
        sequence=number,
        captured_at=None,
        sent_at=at,
        sent_mono=at,
        width=1,
        height=1,
        jpeg_bytes=1,
    )


def flying(*pictures: Sent) -> InFlight:
    in_flight = InFlight()
    for picture in pictures:
        in_flight.add(picture)
    return in_flight


def test_answers_in_any_order_find_their_picture_once() -> None:
    in_flight = flying(sent(1), sent(2), sent(3))
    assert [in_flight.answered(name) for name in ("f2", "f1", "f2")] == [sent(2), sent(1), None]
    assert len(in_flight) == 1


def test_an_answer_without_a_name_is_that_of_the_oldest() -> None:
    in_flight = flying(sent(1), sent(2))
    assert [in_flight.answered("") for _ in range(3)] == [sent(1), sent(2), None]


def test_a_strangers_answer_is_nobodys() -> None:
    in_flight = flying(sent(1))
    assert in_flight.answered("another") is None
    assert len(in_flight) == 1


def test_what_waits_too_long_is_given_up() -> None:
    in_flight = flying(sent(1, 0.0), sent(2, 10.0))
    assert in_flight.expire(ANSWERED_WITHIN_S) == 0
    assert in_flight.expire(ANSWERED_WITHIN_S + 0.1) == 1
    assert in_flight.answered("f1") is None
    assert in_flight.answered("f2") == sent(2, 10.0)


def test_there_is_a_bound() -> None:
    in_flight = flying(*(sent(number) for number in range(MAX_PICTURES + 5)))
    assert in_flight.expire(0.0) == 5
    assert in_flight.answered("f4") is None
    assert in_flight.answered("f5") is not None


def test_a_lost_connection_gives_up_all() -> None:
    in_flight = flying(sent(1), sent(2))
    assert in_flight.clear() == 2
    assert len(in_flight) == in_flight.clear() == 0
