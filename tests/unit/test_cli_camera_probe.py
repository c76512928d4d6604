"""The stream statistics of `probe`: rates, keyframes, clocks and the cost of decoding."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import pytest

from nvision_hub.cli.camera_probe import StreamReport, decoded_per_s, survey
from nvision_hub.media.sources import Packet

EVERY = 0.04


def packets(count: int, *, gop: int = 50, every_s: float = EVERY) -> list[Packet]:
    return [
        Packet(
            payload=None,
            arrived=100 + n * every_s,
            media_s=7 + n * every_s,
            keyframe=n % gop == 0,
            size_bytes=5_000,
        )
        for n in range(count)
    ]


def report(arrivals: list[Packet]) -> StreamReport:
    opened = StreamReport(codec="h264", width=1280, height=720, fps_announced=25.0, opened_s=0.3)
    return survey(opened, arrivals, decoded=len(arrivals), decode_cpu_s=0.4)


def test_a_steady_stream_has_its_rates_and_keyframe_interval() -> None:
    found = report(packets(200))
    assert found.fps == pytest.approx(25)
    assert found.keyframe_interval_s == pytest.approx(2)
    assert found.bitrate_kbit_s == pytest.approx(1000)
    assert (found.timestamps_missing, found.timestamp_jumps) == (0, 0)
    assert found.decode_ms == pytest.approx(2)


def test_a_clock_that_jumps_changes_no_rate() -> None:
    arrivals = packets(200)
    jumped = [replace(a, media_s=(a.media_s or 0) + (3600 if n >= 100 else 0)) for n, a in enumerate(arrivals)]
    found = report(jumped)
    assert found.timestamp_jumps == 1
    assert found.fps == pytest.approx(25)
    assert found.keyframe_interval_s == pytest.approx(2)
    back = [replace(a, media_s=(a.media_s or 0) - (3600 if n >= 100 else 0)) for n, a in enumerate(arrivals)]
    assert report(back).timestamp_jumps == 1


def test_b_frames_are_no_jumps() -> None:
    """A stream I0 P3 B1 B2 P6 B4 B5 sends its packets in the order of decoding."""
    arrivals = packets(199)
    shown = [0, *(first + step for first in range(1, 199, 3) for step in (2, 0, 1))]
    reordered = [replace(a, media_s=7 + number * EVERY) for a, number in zip(arrivals, shown, strict=True)]
    found = report(reordered)
    assert found.timestamp_jumps == 0
    assert found.fps == pytest.approx(25)


def test_a_stream_without_times_is_measured_by_arrival() -> None:
    found = report([replace(a, media_s=None) for a in packets(200)])
    assert found.timestamps_missing == 200
    assert found.fps == pytest.approx(25)


def test_a_first_frame_without_a_time_changes_no_rate() -> None:
    arrivals = packets(200)
    arrivals[0] = replace(arrivals[0], media_s=None)
    found = report(arrivals)
    assert found.timestamps_missing == 1
    assert found.fps == pytest.approx(25)
    assert found.keyframe_interval_s == pytest.approx(2)


def test_a_short_measurement_omits_values() -> None:
    for count in (0, 1, 40):
        found = report(packets(count))
        assert found.keyframe_interval_s is None
        assert found.decoded_per_s is None
    empty = report([])
    assert (empty.fps, empty.bitrate_kbit_s, empty.decode_ms) == (None, None, None)


def test_decode_cost_by_rate_matches_the_planner() -> None:
    gops = packets(150)
    assert decoded_per_s(gops, fps=0.5, spacing_s=EVERY) == pytest.approx(0.5)  # keyframes only
    at_one = decoded_per_s(gops, fps=1, spacing_s=EVERY)
    assert 12 < at_one < 15  # about half of each GOP
    at_five = decoded_per_s(gops, fps=5, spacing_s=EVERY)
    assert at_one < at_five <= 25
    every_second = packets(150, gop=25)
    assert decoded_per_s(every_second, fps=1, spacing_s=EVERY) == pytest.approx(1)


def test_intra_only_streams_decode_only_sent_frames() -> None:
    costs = [decoded_per_s(packets(100, gop=1), fps=fps, spacing_s=EVERY) for fps in (5, 1, 0.5)]
    assert costs == pytest.approx([5, 1, 0.5], rel=0.1)
    assert all(more > less for more, less in pairwise(costs))
