"""The plan for any camera and any rate: what is sent when, what that costs, and that no picture is ever a broken one.

`play` is a camera, a decoder and a sender in one: it gives packets to the planner, keeps what is held, and decodes as
the capture thread does, refusing what a real decoder would show as rubbish.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from workers.camera.planner import HELD_MAX_BYTES, LATE_S, Planner, Verdict

if TYPE_CHECKING:
    from collections.abc import Iterable

PACKET_BYTES = 20_000


@dataclass(frozen=True, kw_only=True)
class Seen:
    """One packet of a camera: whole where every packet since its keyframe is there too."""

    number: int
    at: float
    keyframe: bool
    late_s: float = 0.0
    size_bytes: int = PACKET_BYTES


@dataclass
class Outcome:
    sent: list[float] = field(default_factory=list)
    decoded: int = 0
    decoded_keyframes: int = 0
    packets: int = 0
    most_held_bytes: int = 0


def play(packets: Iterable[Seen], fps: float) -> Outcome:
    planner, outcome = Planner(fps), Outcome()
    held: list[Seen] = []
    decoded = None  # the number of the last packet that the decoder took
    for packet in packets:
        outcome.packets += 1
        verdict = planner.consider(
            packet.at, keyframe=packet.keyframe, size_bytes=packet.size_bytes, late_s=packet.late_s
        )
        if verdict is Verdict.DROP or packet.keyframe:
            held.clear()
        if verdict is Verdict.DROP:
            continue
        held.append(packet)
        outcome.most_held_bytes = max(outcome.most_held_bytes, sum(each.size_bytes for each in held))
        if verdict is Verdict.HOLD:
            continue
        for each in held:
            assert each.keyframe or decoded == each.number - 1, "a picture without the one that it builds on"
            decoded = each.number
            outcome.decoded += 1
            outcome.decoded_keyframes += each.keyframe
            if planner.owed(each.at):
                outcome.sent.append(each.at)
        held.clear()
    return outcome


def camera(*, fps: float, gop: int, seconds: float, jitter: Iterable[float] = (0.0,), start: int = 0) -> list[Seen]:
    """A steady camera that is joined at picture `start` of its GOP."""
    shifts = list(jitter)
    return [
        Seen(
            number=number,
            at=1000 + number / fps + shifts[number % len(shifts)],
            keyframe=(number + start) % gop == 0,
        )
        for number in range(round(seconds * fps))
    ]


@settings(deadline=None)  # of a machine that others use too
@given(
    rate=st.floats(0.2, 30),
    camera_fps=st.floats(5, 60),
    gop_s=st.floats(0.1, 4),
    jitter=st.lists(st.floats(0, 0.3), min_size=1, max_size=17),
    start=st.integers(0, 50),
)
def test_any_rate_of_any_camera(rate: float, camera_fps: float, gop_s: float, jitter: list[float], start: int) -> None:
    gop = max(1, round(gop_s * camera_fps))
    shifts = [share / camera_fps for share in jitter]  # of the time between pictures: less, or it would be disorder
    seconds = max(30.0, 40 / rate)
    packets = camera(fps=camera_fps, gop=gop, seconds=seconds, jitter=shifts, start=start)
    outcome = play(packets, rate)
    first = next(packet.at for packet in packets if packet.keyframe)
    span = packets[-1].at - first
    wanted = min(rate, camera_fps)
    period, apart = 1 / wanted, 1 / camera_fps
    # 3 % (5 % near the camera's own rate, where jitter decides), and besides one that may be aligned to a keyframe at
    # the start and one that is still owed at the end.
    share = 0.03 if rate < camera_fps / 2 else 0.05
    assert abs(len(outcome.sent) - span * wanted) <= 2 + share * span * wanted
    gaps = [later - earlier for earlier, later in pairwise(outcome.sent)]
    # Each is within half a period of its due time (and of the camera's own raster): so are two in a row.
    assert all(gap <= 2 * period + apart for gap in gaps)
    assert all(gap >= period / 2 - 1.5 * apart for gap in gaps)
    assert outcome.most_held_bytes <= HELD_MAX_BYTES


@given(fps=st.sampled_from([0.2, 0.25, 0.5]), jitter=st.lists(st.floats(0, 0.015), min_size=1, max_size=7))
def test_keyframes_alone_where_they_suffice(fps: float, jitter: list[float]) -> None:
    outcome = play(camera(fps=25, gop=50, seconds=60, jitter=jitter), fps)
    assert outcome.decoded == outcome.decoded_keyframes == len(outcome.sent)
    assert len(outcome.sent) == pytest.approx(60 * fps, abs=1)


@pytest.mark.parametrize("late_s", [0.3, 0.9, 1.1, 1.25, 1.4, 1.7])
def test_a_first_picture_that_comes_late_costs_no_other(late_s: float) -> None:
    """Some cameras' first picture is older than it looks, so that keyframes come midway between the due times."""
    packets = camera(fps=25, gop=50, seconds=60)
    late = [Seen(number=p.number, at=p.at + late_s if p.number == 0 else p.at, keyframe=p.keyframe) for p in packets]
    outcome = play(late, 0.5)
    assert outcome.decoded <= len(outcome.sent) + 50, "one GOP at most, until the next has told how long they are"
    assert len(outcome.sent) == pytest.approx(30, abs=2)


def test_keyframes_a_little_too_rare_stay_alone_for_ever() -> None:
    """Keyframes 1 % further apart than the pictures owed: the rate is theirs, and no other picture is ever made."""
    outcome = play(camera(fps=7, gop=27, seconds=400), 0.26171875)
    assert outcome.decoded == outcome.decoded_keyframes == len(outcome.sent)
    assert all(gap == pytest.approx(27 / 7) for gap in (later - earlier for earlier, later in pairwise(outcome.sent)))


def test_one_a_second_in_a_gop_of_two_decodes_half_wherever_it_starts() -> None:
    for start in range(0, 50, 7):
        outcome = play(camera(fps=25, gop=50, seconds=60, start=start), 1)
        assert outcome.decoded / outcome.packets == pytest.approx(0.52, abs=0.04)
        assert len(outcome.sent) == pytest.approx(60, abs=2)


def test_a_first_picture_between_keyframes_does_not_cost_the_rest() -> None:
    """The first pictures after opening count as captured when they came, which is late; keyframes put that right."""
    packets = camera(fps=25, gop=50, seconds=60)
    late = [Seen(number=p.number, at=p.at + 0.3 if p.number == 0 else p.at, keyframe=p.keyframe) for p in packets]
    assert play(late, 1).decoded / len(late) < 0.56


def test_nothing_is_sent_for_time_that_is_gone() -> None:
    packets = camera(fps=25, gop=25, seconds=20)
    gap = [packet for packet in packets if not 1005 < packet.at < 1012]
    times = play(gap, 1).sent
    assert all(later - earlier >= 0.5 for earlier, later in pairwise(times))


def test_a_gop_that_becomes_longer_or_shorter_costs_no_picture() -> None:
    for before, after in ((25, 100), (100, 25), (50, 1), (1, 50), (25, 2500)):
        first = camera(fps=25, gop=before, seconds=20)
        second = camera(fps=25, gop=after, seconds=60)
        packets = first + [
            Seen(number=len(first) + p.number, at=p.at + 20, keyframe=p.keyframe, size_bytes=2000) for p in second
        ]
        for rate in (0.5, 1.0, 5.0):
            times = play(packets, rate).sent
            assert len(times) == pytest.approx(80 * rate, rel=0.03, abs=2)
            assert max(later - earlier for earlier, later in pairwise(times)) <= 1.6 / rate


def test_behind_is_dropped_until_the_next_keyframe_that_is_on_time() -> None:
    packets = camera(fps=25, gop=25, seconds=10)
    behind = [
        Seen(number=p.number, at=p.at, keyframe=p.keyframe, late_s=LATE_S + 0.1 if 60 <= p.number < 80 else 0.0)
        for p in packets
    ]
    times = play(behind, 5).sent
    assert not [at for at in times if 1000 + 60 / 25 <= at < 1000 + 100 / 25]
    assert next(at for at in times if at >= 1000 + 100 / 25) == 1000 + 100 / 25


def test_a_gop_too_large_to_hold_is_given_up() -> None:
    packets = [
        Seen(number=p.number, at=p.at, keyframe=p.keyframe, size_bytes=500_000)
        for p in camera(fps=25, gop=250, seconds=60)
    ]
    outcome = play(packets, 0.05)
    assert outcome.most_held_bytes <= HELD_MAX_BYTES
    assert len(outcome.sent) >= 3


def test_packets_without_a_keyframe_are_nothing() -> None:
    assert play(camera(fps=25, gop=10_000, seconds=20, start=1), 5).decoded == 0


def test_every_picture_is_a_keyframe_of_mjpeg() -> None:
    outcome = play(camera(fps=25, gop=1, seconds=20), 5)
    assert outcome.decoded == len(outcome.sent) == pytest.approx(100, abs=1)
