"""Pictures on their way: each is answered or given up, once, and the account of them balances at every moment."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.events import Sent
from nvision_hub.status import Meter
from workers.camera.in_flight import MAX_PICTURES, InFlight


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


def flying(*pictures: Sent) -> tuple[InFlight, Meter]:
    meter = Meter()
    in_flight = InFlight(meter)
    for picture in pictures:
        in_flight.add(picture)
    return in_flight, meter


def test_answers_in_any_order_find_their_picture_once() -> None:
    in_flight, _ = flying(sent(1), sent(2), sent(3))
    assert [in_flight.answered(name) for name in ("f2", "f1", "f2")] == [sent(2), sent(1), None]
    assert len(in_flight) == 1


def test_an_answer_without_a_name_is_that_of_the_oldest() -> None:
    in_flight, _ = flying(sent(1), sent(2))
    assert [in_flight.answered("") for _ in range(3)] == [sent(1), sent(2), None]


def test_a_strangers_answer_is_nobodys() -> None:
    in_flight, _ = flying(sent(1))
    assert in_flight.answered("another") is None
    assert in_flight.stranger("another") == "unknown_frame"
    assert len(in_flight) == 1


def test_an_answer_that_comes_twice_or_late_is_told_from_a_strangers() -> None:
    in_flight, _ = flying(sent(1), sent(2))
    in_flight.answered("f1")
    in_flight.clear("uplink")
    assert [in_flight.stranger(name) for name in ("f1", "f2", "f3")] == ["duplicate", "late", "unknown_frame"]


def test_those_passed_over_are_no_lag() -> None:
    in_flight, _ = flying(*(sent(number) for number in range(1, 7)))
    assert in_flight.lag == 6
    in_flight.answered("f4")
    assert (in_flight.lag, len(in_flight)) == (2, 5)
    in_flight.answered("f1")
    assert (in_flight.lag, len(in_flight)) == (2, 4)


def test_what_waits_too_long_is_given_up() -> None:
    in_flight, meter = flying(sent(1, 0.0), sent(2, 10.0))
    in_flight.expire(0.0, "timeout")
    assert len(in_flight) == 2
    in_flight.expire(0.1, "timeout")
    assert meter.value("frames_unanswered_total", reason="timeout") == 1
    assert in_flight.answered("f1") is None
    assert in_flight.answered("f2") == sent(2, 10.0)


def test_there_is_a_bound() -> None:
    in_flight, meter = flying(*(sent(number) for number in range(MAX_PICTURES + 5)))
    in_flight.expire(0.0, "timeout")
    assert meter.total("frames_unanswered_total") == 5
    assert in_flight.answered("f4") is None
    assert in_flight.answered("f5") is not None


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "answer", "expire", "clear", "nameless"]), st.integers(0, 30)), max_size=200
    )
)
def test_the_account_balances_at_every_moment(steps: list[tuple[str, int]]) -> None:
    in_flight, meter = flying()
    for now, (step, number) in enumerate(steps):
        match step:
            case "add":
                in_flight.add(sent(now, now))
            case "answer":
                in_flight.answered(f"f{number}")
            case "nameless":
                in_flight.answered("")
            case "expire":
                in_flight.expire(number, "timeout")
            case _:
                in_flight.clear("uplink")
        settled = meter.value("frames_answered_total") + meter.total("frames_unanswered_total")
        assert meter.value("frames_sent_total") == settled + len(in_flight)
        assert meter.gauge_value("frames_in_flight") == len(in_flight)
