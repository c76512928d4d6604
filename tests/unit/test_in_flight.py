"""Frames in flight: each frame is answered or given up exactly once, and the account always balances."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import SentFrame
from workers.camera.in_flight import MAX_FRAMES, InFlightFrames


def sent(number: int, at: float = 0.0) -> SentFrame:
    return SentFrame(
        frame_id=f"f{number}",
        sequence=number,
        captured_at=None,
        sent_at=at,
        sent_mono=at,
        width=1,
        height=1,
        jpeg_bytes=1,
    )


def flying(*frames: SentFrame) -> tuple[InFlightFrames, Meter]:
    meter = Meter()
    in_flight = InFlightFrames(meter)
    for frame in frames:
        in_flight.add(frame)
    return in_flight, meter


def test_answers_in_any_order_find_their_frame_once() -> None:
    in_flight, _ = flying(sent(1), sent(2), sent(3))
    assert [in_flight.pop(name) for name in ("f2", "f1", "f2")] == [sent(2), sent(1), None]
    assert len(in_flight) == 1


def test_a_result_without_an_id_belongs_to_the_oldest_frame() -> None:
    in_flight, _ = flying(sent(1), sent(2))
    assert [in_flight.pop("") for _ in range(3)] == [sent(1), sent(2), None]


def test_a_result_with_an_unknown_id_matches_no_frame() -> None:
    in_flight, _ = flying(sent(1))
    assert in_flight.pop("another") is None
    assert in_flight.unmatched_reason("another") == "unknown_frame"
    assert len(in_flight) == 1


def test_duplicate_and_late_results_differ_from_unknown_ones() -> None:
    in_flight, _ = flying(sent(1), sent(2))
    in_flight.pop("f1")
    in_flight.clear("uplink")
    assert [in_flight.unmatched_reason(name) for name in ("f1", "f2", "f3")] == ["duplicate", "late", "unknown_frame"]


def test_skipped_frames_do_not_count_as_lag() -> None:
    in_flight, _ = flying(*(sent(number) for number in range(1, 7)))
    assert in_flight.lag == 6
    in_flight.pop("f4")
    assert (in_flight.lag, len(in_flight)) == (2, 5)
    in_flight.pop("f1")
    assert (in_flight.lag, len(in_flight)) == (2, 4)


def test_a_frame_that_the_service_reports_as_skipped_is_unanswered_once() -> None:
    in_flight, meter = flying(sent(1), sent(2))
    assert [in_flight.skip("f1"), in_flight.skip("f1"), in_flight.skip("another")] == [sent(1), None, None]
    assert meter.value(catalogue.FRAMES_UNANSWERED_TOTAL, reason="skipped") == 1
    assert in_flight.lag == len(in_flight) == 1
    assert in_flight.unmatched_reason("f1") == "late"


def test_frames_without_a_result_time_out() -> None:
    in_flight, meter = flying(sent(1, 0.0), sent(2, 10.0))
    in_flight.expire(0.0, "timeout")
    assert len(in_flight) == 2
    in_flight.expire(0.1, "timeout")
    assert meter.value(catalogue.FRAMES_UNANSWERED_TOTAL, reason="timeout") == 1
    assert in_flight.pop("f1") is None
    assert in_flight.pop("f2") == sent(2, 10.0)


def test_frames_in_flight_are_bounded() -> None:
    in_flight, meter = flying(*(sent(number) for number in range(MAX_FRAMES + 5)))
    in_flight.expire(0.0, "timeout")
    assert meter.total(catalogue.FRAMES_UNANSWERED_TOTAL) == 5
    assert in_flight.pop("f4") is None
    assert in_flight.pop("f5") is not None


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["add", "answer", "skip", "expire", "clear", "nameless"]), st.integers(0, 30)),
        max_size=200,
    )
)
def test_the_account_balances_at_every_moment(steps: list[tuple[str, int]]) -> None:
    in_flight, meter = flying()
    for now, (step, number) in enumerate(steps):
        match step:
            case "add":
                in_flight.add(sent(now, now))
            case "answer":
                in_flight.pop(f"f{number}")
            case "skip":
                in_flight.skip(f"f{number}")
            case "nameless":
                in_flight.pop("")
            case "expire":
                in_flight.expire(number, "timeout")
            case _:
                in_flight.clear("uplink")
        settled = meter.value(catalogue.FRAMES_ANSWERED_TOTAL) + meter.total(catalogue.FRAMES_UNANSWERED_TOTAL)
        assert meter.value(catalogue.FRAMES_SENT_TOTAL) == settled + len(in_flight)
        assert meter.gauge_value(catalogue.FRAMES_IN_FLIGHT) == len(in_flight)
