"""The planner for any camera and any rate: sent frames, cost of decoding, and no corrupt frame."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nvision_hub.media.decode.decode_planner import (
    BUDGET_EXCESS,
    BUDGET_WINDOW_S,
    IN_TIME_S,
    LATE_S,
    FrameBudget,
    Planner,
)
from nvision_hub.media.decode.gop_buffer import MAX_BUFFERED_BYTES
from nvision_hub.media.sources import Packet

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

MAX_JITTER_S = 0.3 / 5  # largest jitter in these tests: 0.3 of a frame interval at 5 fps
PACKET_BYTES = 20_000


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One packet of a camera. `at` is its capture time."""

    number: int
    at: float
    keyframe: bool
    late_s: float = 0.0
    size_bytes: int = PACKET_BYTES

    def packet(self) -> Packet:
        return Packet(
            payload=self,
            arrived=self.at + self.late_s,
            media_s=None,
            keyframe=self.keyframe,
            size_bytes=self.size_bytes,
        )


@dataclass
class Outcome:
    sent: list[float] = field(default_factory=list)
    decoded: int = 0
    decoded_keyframes: int = 0
    packets: int = 0
    lost: int = 0  # due frames that arrived too late
    max_buffered_bytes: int = 0
    max_wait_s: float = 0.0  # from the capture of a frame until it is sent


def play(packets: Iterable[Seen], fps: float, *, later_rates: Mapping[int, float] | None = None) -> Outcome:
    """Push packets to the planner, and decode the returned packets like a strict decoder.

    `later_rates` maps the number of a packet to the rate that applies from this packet on.
    """
    planner, outcome = Planner(fps), Outcome()
    decoded = None  # the number of the last decoded packet
    waiting = 0  # packets since the last batch
    for seen in packets:
        outcome.packets += 1
        waiting += 1
        if later_rates and seen.number in later_rates:
            planner.set_rate(later_rates[seen.number])
        planned = planner.push(seen.packet(), seen.at, late_s=seen.late_s)
        batch = planned.packets
        outcome.lost += planned.is_frame_lost
        if batch:
            assert planned.after_gap == (waiting != len(batch)), "dropped packets are reported, and only once"
            assert not planned.is_alone, "the decoder holds no frame back"
            waiting = 0
        buffered_bytes = sum(each.size_bytes for each in batch or planner._buffer)
        outcome.max_buffered_bytes = max(outcome.max_buffered_bytes, buffered_bytes)
        for each in (packet.payload for packet in batch):
            assert each.keyframe or decoded == each.number - 1, "the decoder must get the preceding packet first"
            decoded = each.number
            outcome.decoded += 1
            outcome.decoded_keyframes += each.keyframe
            if planner.accept(each.at):
                outcome.sent.append(each.at)
                outcome.max_wait_s = max(outcome.max_wait_s, seen.at - each.at)
    return outcome


def max_in_a_window(sent: list[float]) -> int:
    """Return the maximum number of frames sent in any window of `BUDGET_WINDOW_S`, both ends included."""
    ends = (bisect_right(sent, begin + BUDGET_WINDOW_S) for begin in sent)
    return max((end - number for number, end in enumerate(ends)), default=0)


def sent_in_window(sent: list[float], *, until: float) -> int:
    """Return how many frames were sent in the budget window before `until`, with a margin for keyframe jitter."""
    return sum(until - BUDGET_WINDOW_S - MAX_JITTER_S <= at < until for at in sent)


def assert_within_budget(sent: list[float], *, rate: float, span: float) -> None:
    """Assert that the frames sent stay within the budget: 1 % more than the rate, plus one frame."""
    rounding = 1e-6
    assert len(sent) <= rate * span * BUDGET_EXCESS + 1 + rounding
    assert max_in_a_window(sent) <= rate * BUDGET_WINDOW_S * BUDGET_EXCESS + 1 + rounding


def camera(*, fps: float, gop: int, seconds: float, jitter: Iterable[float] = (0.0,), start: int = 0) -> list[Seen]:
    """Return the packets of a steady camera. The first packet is frame `start` of its GOP."""
    shifts = list(jitter)
    return [
        Seen(
            number=number,
            at=1000 + number / fps + shifts[number % len(shifts)],
            keyframe=(number + start) % gop == 0,
        )
        for number in range(round(seconds * fps))
    ]


@settings(deadline=None)  # the machine is shared
@given(
    rate=st.floats(0.2, 30),
    camera_fps=st.floats(5, 60),
    gop_s=st.floats(0.1, 4),
    jitter=st.lists(st.floats(0, 0.3), min_size=1, max_size=17),
    start=st.integers(0, 50),
)
@example(rate=7.4375, camera_fps=24.0, gop_s=0.125, jitter=[0.0] * 6 + [0.25], start=0)
@example(rate=0.23046875, camera_fps=5.0, gop_s=3.0, jitter=[0.0, 0.0, 0.0, 0.25], start=0)
@example(rate=9.625, camera_fps=20.5, gop_s=0.1875, jitter=[0.0, 0.0, 0.25], start=0)
def test_any_camera_sends_at_any_rate(
    rate: float, camera_fps: float, gop_s: float, jitter: list[float], start: int
) -> None:
    gop = max(1, round(gop_s * camera_fps))
    shifts = [
        share / camera_fps for share in jitter
    ]  # jitter is a share of the frame interval, too small to change the order
    # From the first keyframe on, play at least one budget window, because the budget does not bound shorter spans.
    seconds = max(BUDGET_WINDOW_S, 40 / rate) + (gop + 1) / camera_fps
    packets = camera(fps=camera_fps, gop=gop, seconds=seconds, jitter=shifts, start=start)
    outcome = play(packets, rate)
    first = next(packet.at for packet in packets if packet.keyframe)
    span = packets[-1].at - first
    wanted = min(rate, camera_fps)
    period, apart = 1 / wanted, 1 / camera_fps
    # The tolerance is 3 %, or 5 % near the camera's own rate, because jitter has more effect there. The number may also
    # differ by one frame at the start (alignment to a keyframe) and by one at the end (a frame still due).
    share = 0.03 if rate < camera_fps / 2 else 0.05
    assert abs(len(outcome.sent) - span * wanted) <= 2 + share * span * wanted
    # Alignment moves a frame by at most half a period. The spacing of the camera's frames adds at most 1.5 intervals.
    for earlier, later in pairwise(outcome.sent):
        assert later - earlier >= period / 2 - 1.5 * apart
        if later - earlier > 2 * period + apart:
            # The budget did not allow the previous keyframe, so this keyframe was sent instead.
            skipped = later - gop * apart
            assert earlier < skipped
            assert sent_in_window(outcome.sent, until=skipped) > rate * BUDGET_WINDOW_S * BUDGET_EXCESS
    assert outcome.max_buffered_bytes <= MAX_BUFFERED_BYTES
    assert_within_budget(outcome.sent, rate=rate, span=span)


@given(
    steps=st.lists(st.floats(0.001, 20), min_size=1, max_size=300),
    rates=st.lists(st.floats(0.2, 30), min_size=1, max_size=3),
)
def test_no_history_can_exceed_the_frame_budget(steps: list[float], rates: list[float]) -> None:
    """The bound holds for frames at any times. If the rate changes, the highest rate determines the bound."""
    budget, at, sent = FrameBudget(), 1000.0, list[float]()
    for number, step in enumerate(steps):
        at += step
        if budget.allows(at):
            budget.spend(at, 1 / rates[number * len(rates) // len(steps)])
            sent.append(at)
    assert_within_budget(sent, rate=max(rates), span=max(BUDGET_WINDOW_S, sent[-1] - sent[0]))


def test_bursts_do_not_exceed_the_budget_of_the_whole_time() -> None:
    """With only a limit per window, the frames of the whole time could exceed the budget."""
    budget, sent = FrameBudget(), list[float]()
    for at in (1000 + number / 10 for number in range(6000)):
        if budget.allows(at):
            budget.spend(at, 1.0)
            sent.append(at)
    assert_within_budget(sent, rate=1.0, span=600)
    assert len(sent) == pytest.approx(600 * BUDGET_EXCESS, abs=1)


def test_a_lower_rate_starts_immediately() -> None:
    """Frames sent earlier at a high rate do not use up the budget of a lower rate."""
    budget = FrameBudget()
    for number in range(900):
        budget.spend(1000 + number / 30, 1 / 30)
    assert budget.allows(1000 + 900 / 30 + 5)


def test_alignment_does_not_raise_the_rate() -> None:
    """If keyframes are nearly a whole number of periods apart, jitter moves the due time back as well as forward."""
    jitter = [share / 20.5 for share in (0, 0, 0.25)]
    outcome = play(camera(fps=20.5, gop=4, seconds=300, jitter=jitter), 9.625)
    assert len(outcome.sent) == pytest.approx(300 * 9.625, rel=0.005)


def test_frames_that_a_decoder_still_keeps_back_are_not_skipped_at_a_keyframe() -> None:
    """B-frames delay decoding, so a keyframe must not move the due time of a frame that is still in the decoder."""
    planner, delay, sent = Planner(5), 5, 0
    packets = camera(fps=25, gop=25, seconds=60)
    for number, packet in enumerate(packets):
        planner.push(packet.packet(), packet.at, late_s=0.0)
        sent += number >= delay and planner.accept(packets[number - delay].at)
    assert sent == pytest.approx(60 * 5, abs=2)


@given(fps=st.sampled_from([0.2, 0.25, 0.5]), jitter=st.lists(st.floats(0, 0.015), min_size=1, max_size=7))
def test_only_keyframes_are_decoded_if_they_suffice(fps: float, jitter: list[float]) -> None:
    outcome = play(camera(fps=25, gop=50, seconds=60, jitter=jitter), fps)
    assert outcome.decoded == outcome.decoded_keyframes == len(outcome.sent)
    assert len(outcome.sent) == pytest.approx(60 * fps, abs=1)


@pytest.mark.parametrize("late_s", [0.3, 0.9, 1.1, 1.25, 1.4, 1.7])
def test_a_first_frame_that_comes_late_costs_no_other(late_s: float) -> None:
    """If the first frame arrives late, later keyframes may fall midway between the due times."""
    packets = camera(fps=25, gop=50, seconds=60)
    late = [Seen(number=p.number, at=p.at + late_s if p.number == 0 else p.at, keyframe=p.keyframe) for p in packets]
    outcome = play(late, 0.5)
    assert outcome.decoded <= len(outcome.sent) + 50, "only the first GOP may be decoded before its length is known"
    assert len(outcome.sent) == pytest.approx(30, abs=2)


def test_slightly_sparse_keyframes_need_no_other_frames() -> None:
    """If keyframes are 1 % farther apart than due frames, only the keyframes are sent."""
    outcome = play(camera(fps=7, gop=27, seconds=400), 0.26171875)
    assert outcome.decoded == outcome.decoded_keyframes == len(outcome.sent)
    assert all(gap == pytest.approx(27 / 7) for gap in (later - earlier for earlier, later in pairwise(outcome.sent)))


def test_keyframes_up_to_two_percent_too_sparse_set_the_rate() -> None:
    outcome = play(camera(fps=25, gop=51, seconds=600), 0.5)
    assert outcome.decoded - outcome.decoded_keyframes <= 50, "one GOP, until its length is known"
    assert len(outcome.sent) == pytest.approx(600 / 2.04, abs=2)


@pytest.mark.parametrize("seconds", [40, 60, 80])
def test_a_rate_that_keyframes_set_is_not_made_up_later(seconds: int) -> None:
    """After slightly sparse keyframes, a higher keyframe rate does not make several frames due at once."""
    before, after = camera(fps=25, gop=51, seconds=seconds), camera(fps=25, gop=25, seconds=30)
    packets = before + [
        Seen(number=len(before) + p.number, at=p.at + seconds, keyframe=p.keyframe, size_bytes=2000) for p in after
    ]
    times = play(packets, 0.5).sent
    assert min(later - earlier for earlier, later in pairwise(times)) >= 0.5 / 0.5


def test_keyframes_five_percent_too_sparse_do_not_lower_the_rate() -> None:
    assert len(play(camera(fps=20, gop=21, seconds=300), 1).sent) == pytest.approx(300, abs=1)


def test_a_keyframe_that_comes_late_is_awaited_for_a_quarter_of_a_period() -> None:
    """The GOP grows once, from 2 s to 2.8 s, at the moment when a frame is due."""
    keyframes = {*range(0, 500, 50), *range(520, 1500, 50)}
    outcome = play([Seen(number=it, at=1000 + it / 25, keyframe=it in keyframes) for it in range(1500)], 0.25)
    assert outcome.decoded == outcome.decoded_keyframes == len(outcome.sent)
    assert len(outcome.sent) == pytest.approx(15, abs=1)


def test_a_gop_close_to_a_whole_number_of_periods_costs_half_of_it() -> None:
    outcome = play(camera(fps=24.8, gop=50, seconds=600, start=7), 1)  # 2.016 s
    assert outcome.decoded / outcome.packets == pytest.approx(0.52, abs=0.01)
    assert len(outcome.sent) == pytest.approx(600 / 1.008, abs=3)


@pytest.mark.parametrize(
    ("rate", "gop", "share"),
    [
        (1, 50, 26 / 50),  # one second after the keyframe, nothing more is due
        (2, 25, 14 / 25),
        (5, 10, 6 / 10),
        (0.5, 100, 51 / 100),
        (1, 100, 76 / 100),
    ],
)
def test_a_gop_of_whole_periods_is_decoded_up_to_its_last_due_frame(rate: float, gop: int, share: float) -> None:
    for start in (0, 1, gop // 3, gop // 2, gop - 1):
        seconds = 30 * gop / 25
        outcome = play(camera(fps=25, gop=gop, seconds=seconds, start=start), rate)
        assert outcome.decoded / outcome.packets == pytest.approx(share, abs=0.05)
        until_keyframe_s = -start % gop / 25
        assert len(outcome.sent) == pytest.approx((seconds - until_keyframe_s) * rate, abs=1)


@pytest.mark.parametrize(("rate", "gop", "share"), [(1, 50, 26 / 50), (0.5, 100, 51 / 100), (2, 25, 14 / 25)])
@pytest.mark.parametrize("periods_late", [0.1, 0.3, 0.35, 0.45, 0.55, 0.7, 0.9])
def test_a_first_frame_between_keyframes_does_not_cost_the_rest(
    rate: float, gop: int, share: float, periods_late: float
) -> None:
    """At first, capture times are too late, because they equal the arrival times. Keyframes correct this."""
    packets = camera(fps=25, gop=gop, seconds=30 * gop / 25)
    late_s = periods_late / rate
    late = [Seen(number=p.number, at=p.at + late_s if p.number == 0 else p.at, keyframe=p.keyframe) for p in packets]
    outcome = play(late, rate)
    assert outcome.decoded <= (share + 0.02) * outcome.packets + 2 * gop, "two GOPs at most, to learn their length"
    gaps = [(later - earlier) * rate for earlier, later in pairwise(outcome.sent)]
    one_packet = rate / 25
    assert 0.5 - one_packet <= min(gaps)
    assert max(gaps) <= 1.5 + one_packet


def test_missed_due_times_are_not_made_up() -> None:
    packets = camera(fps=25, gop=25, seconds=20)
    gap = [packet for packet in packets if not 1005 < packet.at < 1012]
    times = play(gap, 1).sent
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))


def test_a_gop_that_becomes_longer_or_shorter_costs_no_frame() -> None:
    for before, after in ((25, 100), (100, 25), (50, 1), (1, 50), (25, 2500)):
        first = camera(fps=25, gop=before, seconds=20)
        second = camera(fps=25, gop=after, seconds=60)
        packets = first + [
            Seen(number=len(first) + p.number, at=p.at + 20, keyframe=p.keyframe, size_bytes=2000) for p in second
        ]
        for rate in (0.1, 0.2, 0.25, 0.5, 1.0, 5.0):
            outcome = play(packets, rate)
            times = outcome.sent
            assert len(times) == pytest.approx(80 * rate, rel=0.03, abs=2)
            assert outcome.max_wait_s < LATE_S, "later frames are not sent"
            # The planner waits a quarter of a period for a missing keyframe, so that no frame is half a period late. If
            # keyframes supply every due frame, the keyframe nearest to the due time is sent.
            gop_s = max(before, after) / 25
            most = 1 / rate + (gop_s if gop_s <= 1 / rate else 0.25 / rate + 1 / 25)
            assert max(later - earlier for earlier, later in pairwise(times)) <= most


def test_late_packets_are_dropped_until_a_keyframe_on_time() -> None:
    packets = camera(fps=25, gop=25, seconds=10)
    behind = [
        Seen(number=p.number, at=p.at, keyframe=p.keyframe, late_s=LATE_S + 0.1 if 60 <= p.number < 80 else 0.0)
        for p in packets
    ]
    outcome = play(behind, 5)
    times = outcome.sent
    assert outcome.lost == 8, "the frames due from packet 60 up to the keyframe at 100"
    assert len(times) == 50 - 8
    assert not [at for at in times if 1000 + 60 / 25 <= at < 1000 + 100 / 25]
    assert next(at for at in times if at >= 1000 + 100 / 25) == 1000 + 100 / 25


def test_a_gop_too_large_to_buffer_is_dropped() -> None:
    packets = [
        Seen(number=p.number, at=p.at, keyframe=p.keyframe, size_bytes=500_000)
        for p in camera(fps=25, gop=250, seconds=60)
    ]
    outcome = play(packets, 0.05)
    assert outcome.max_buffered_bytes <= MAX_BUFFERED_BYTES
    assert len(outcome.sent) >= 3


@pytest.mark.parametrize("excess", [0, 1])
def test_the_buffer_holds_exactly_its_limit(excess: int) -> None:
    planner = Planner(0.2)
    packets = camera(fps=1, gop=100, seconds=16)
    large = {1, 8}
    decoded = []
    for seen in packets:
        size = MAX_BUFFERED_BYTES + excess if seen.number in large else 0
        decoded.append(push(planner, replace(seen, size_bytes=size))[0])
        if decoded[-1]:
            planner.accept(seen.at)
        if seen.number == 6:
            planner.bypass(seen.packet(), seen.at)
            planner.resume()
    assert decoded[0] == [0]
    assert decoded[5] == ([] if excess else [1, 2, 3, 4, 5])
    assert decoded[10] == ([] if excess else [7, 8, 9, 10])


def test_packets_before_the_first_keyframe_are_dropped() -> None:
    assert play(camera(fps=25, gop=10_000, seconds=20, start=1), 5).decoded == 0


def test_every_mjpeg_frame_is_a_keyframe() -> None:
    outcome = play(camera(fps=25, gop=1, seconds=20), 5)
    assert outcome.decoded == len(outcome.sent) == pytest.approx(100, abs=1)


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (1.0, 5.0, [0, 25, 50, 55, 60, 65, 70, 75]),
        (5.0, 1.0, [0, 5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 75]),
        (5.0, 5.0, list(range(0, 80, 5))),
    ],
)
def test_a_changed_rate_counts_from_the_last_frame(before: float, after: float, expected: list[int]) -> None:
    packets = camera(fps=25, gop=1, seconds=3.2)
    outcome = play(packets, before, later_rates={53: after})
    assert outcome.sent == [packets[number].at for number in expected]


def test_a_lower_rate_immediately_decodes_only_keyframes() -> None:
    outcome = play(camera(fps=25, gop=50, seconds=60), 5, later_rates={250: 0.5})
    assert outcome.decoded - outcome.decoded_keyframes <= 250 * 49 / 50
    assert len(outcome.sent) == pytest.approx(10 * 5 + 50 * 0.5, abs=2)


def push(planner: Planner, seen: Seen, *, late_s: float = 0.0, reorders: bool = False) -> tuple[list[int], bool, bool]:
    """Push one packet. Return the numbers of the packets to decode, `is_alone` and `after_gap`."""
    batch = planner.push(seen.packet(), seen.at, late_s=late_s, reorders=reorders)
    return [each.payload.number for each in batch.packets], batch.is_alone, batch.after_gap


def test_a_decoder_that_reorders_gets_keyframes_alone_and_the_rest_of_a_gop_only_if_it_is_needed() -> None:
    planner, batches = Planner(0.5), []
    for seen in camera(fps=25, gop=50, seconds=8)[:151] + camera(fps=25, gop=1000, seconds=12)[151:]:
        numbers, is_alone, after_gap = push(planner, seen, reorders=True)
        if numbers:
            batches.append((numbers, is_alone, after_gap))
        for number in numbers:
            planner.accept(1000 + number / 25)
    assert ([100], True, True) in batches
    assert ([150], True, True) in batches
    numbers, is_alone, after_gap = batches[batches.index(([150], True, True)) + 1]
    assert numbers == list(range(150, numbers[-1] + 1)), "the keyframe is decoded again, with all that follow"
    assert (is_alone, after_gap) == (False, False)


def test_the_planner_learns_the_gop_while_the_motion_gate_keeps_the_packets() -> None:
    planner = Planner(0.5)
    for seen in camera(fps=25, gop=50, seconds=4.2):
        assert planner.gop_s is None or planner.gop_s == pytest.approx(2)
        planner.bypass(seen.packet(), seen.at)
    assert planner.gop_s == pytest.approx(2)
    assert planner.keyframes_only


def test_packets_that_the_motion_gate_decodes_are_not_decoded_again() -> None:
    planner, packets = Planner(0.2), camera(fps=25, gop=10_000, seconds=20)
    assert push(planner, packets[0])[0] == [0]
    assert planner.accept(packets[0].at)
    for seen in packets[1:10]:
        assert push(planner, seen)[0] == []
    for seen in packets[10:20]:
        planner.bypass(seen.packet(), seen.at)
    planner.resume()
    numbers = next(numbers for seen in packets[20:] if (numbers := push(planner, seen)[0]))
    assert numbers == list(range(20, 126))


def test_a_gap_that_the_motion_gate_knows_is_not_reported_again() -> None:
    packets = camera(fps=25, gop=25, seconds=4, start=10)
    planner = Planner(5)
    assert [push(planner, seen)[0] for seen in packets[:10]] == [[]] * 10
    planner.bypass(packets[10].packet(), packets[10].at)
    planner.resume()
    assert push(planner, packets[11]) == ([11], False, False)


def test_after_falling_behind_only_a_keyframe_without_a_backlog_resumes() -> None:
    planner, late_s = Planner(5), (IN_TIME_S + LATE_S) / 2
    sent = []
    for seen in camera(fps=25, gop=25, seconds=12):
        numbers, _, _ = push(planner, seen, late_s=LATE_S + 0.1 if seen.number == 30 else late_s)
        sent += numbers
    assert sent[:30] == list(range(30)), "a constant delay is no backlog"
    assert sent[30] == 175, "the first keyframe that comes 5 s after the late packet"


def test_a_keyframe_on_time_resumes_immediately() -> None:
    planner, sent = Planner(5), []
    for seen in camera(fps=25, gop=25, seconds=4):
        late_s = LATE_S + 0.1 if seen.number == 30 else (IN_TIME_S + LATE_S) / 2 if seen.number > 75 else IN_TIME_S
        sent += push(planner, seen, late_s=late_s)[0]
    assert sent == [*range(30), *range(50, 100)]


def test_a_backlog_before_the_motion_gate_opens_does_not_count() -> None:
    planner, packets, late_s = Planner(5), camera(fps=25, gop=250, seconds=4), (IN_TIME_S + LATE_S) / 2
    push(planner, packets[0])
    assert push(planner, packets[1], late_s=LATE_S + 0.1)[0] == []
    assert push(planner, packets[2], late_s=late_s)[0] == []
    planner.resume()
    assert push(planner, packets[3], late_s=late_s)[0] == [3]


def test_a_frame_can_become_due_up_to_two_packets_before_its_time() -> None:
    planner = Planner(5)
    for seen in camera(fps=25, gop=250, seconds=0.1):
        push(planner, seen)
    assert planner.accept(1000.0)  # the next frame is due at 1000.2
    assert [planner.can_become_due(at) for at in (1000.15, 1000.17, 1000.2, 1000.5)] == [False, True, True, True]


def test_a_missed_frame_makes_no_other_due_early() -> None:
    planner = Planner(1)
    assert planner.accept(1000.0)
    assert planner.accept(1002.0), "due at 1001"
    assert not planner.accept(1002.5)
    assert planner.accept(1003.0)


@pytest.mark.parametrize(
    ("fps", "expected"), [(2.0, [[0], [1], [2], [3], [4]]), (1.0, [[0], [], [], [], [1, 2, 3, 4]])]
)
def test_packets_wait_for_the_due_frame_at_low_rates_until_the_gop_is_known(
    fps: float, expected: list[list[int]]
) -> None:
    """At high rates each packet is decoded immediately, because waiting would only make the frames late."""
    planner, decoded = Planner(fps), []
    for seen in camera(fps=4, gop=100, seconds=1.25):
        decoded.append(push(planner, seen)[0])
        if decoded[-1]:
            planner.accept(seen.at)
    assert decoded == expected


def test_a_pause_of_the_camera_makes_no_frame_due_early() -> None:
    planner = Planner(1)
    for seen in camera(fps=25, gop=1000, seconds=1.02):
        push(planner, seen)
    assert planner.accept(1000.0)
    assert planner.accept(1001.0)
    push(planner, Seen(number=26, at=1001.6, keyframe=False))
    assert not planner.accept(1001.85)
    assert planner.accept(1001.96)


def test_a_frame_of_another_rate_delays_the_next_frame_by_one_period() -> None:
    planner = Planner(1)
    assert planner.accept(1000.0)
    planner.add(1000.4)
    assert not planner.accept(1001.3)
    assert planner.accept(1001.4)
    planner.add(1000.5)
    assert not planner.accept(1002.3), "an earlier frame makes none due earlier"
    assert planner.accept(1002.4)


def test_frames_of_another_rate_share_the_budget_across_reconnects() -> None:
    budget = FrameBudget()
    planner = Planner(1, budget)
    for number in range(31):
        assert planner.can_add(1000 + number / 100)
        planner.add(1000 + number / 100)
    for each in (planner, Planner(1, budget)):
        assert not each.can_add(1010)
        assert not each.accept(1020)
        assert each.can_add(1031)
    assert Planner(1).can_add(1010)


@pytest.mark.parametrize("rate", [0.2, 1.0, 5.0])
def test_a_stream_without_keyframes_is_decoded_from_the_beginning_of_a_refresh(rate: float) -> None:
    """Packets that arrive too late are dropped, and decoding resumes where the next refresh begins."""
    planner, decoded, after_gap = Planner(rate), list[int](), list[int]()
    for seen in camera(fps=25, gop=1000, seconds=20, start=1):
        late_s = 2.0 if 200 <= seen.number < 210 else 0.0
        packet = replace(seen.packet(), begins_refresh=seen.number % 25 == 10)
        batch = planner.push(packet, seen.at, late_s=late_s)
        decoded += [each.payload.number for each in batch.packets]
        after_gap += [batch.packets[0].payload.number] if batch.after_gap else []
        assert not batch.is_alone
    assert decoded == [*range(10, 200), *range(210, 500)]
    assert after_gap == [10, 210]
