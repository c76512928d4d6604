"""What a worker reports: counters, promises, and the record that crosses the pipe."""

from __future__ import annotations

import json
import threading
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.status import AGE_BUCKETS_S, LABEL_SETS_MAX, Histogram, Meter, Promise, Rate, Status

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
PROMISES = st.dictionaries(TEXT, st.builds(Promise, at=NUMBER, within_s=NUMBER))
STATUSES = st.builds(
    Status,
    pid=st.integers(1),
    at=NUMBER,
    state=TEXT,
    ready=st.booleans(),
    error=st.none() | TEXT,
    promises=PROMISES,
    metrics=st.fixed_dictionaries({"counters": st.lists(st.tuples(TEXT, NUMBER).map(list))}),
    row=st.dictionaries(TEXT, st.none() | TEXT | NUMBER | st.booleans()),
)


@given(STATUSES)
def test_a_record_arrives_as_it_left(status: Status) -> None:
    assert Status.decode(status.encode()) == status


@given(st.binary())
def test_anything_else_is_a_value_error(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a status record"):
        Status.decode(data)


@pytest.mark.parametrize(
    "data",
    [
        b"null",
        b"3",
        b"[]",
        b"{}",
        b'{"promises": {}}',
        b'{"promises": {}, "pid": 1, "at": 1, "state": "x", "more": 1}',
        b'{"promises": {"a": 1}, "pid": 1, "at": 1, "state": "x"}',
        b'{"promises": {"a": {"at": 1}}, "pid": 1, "at": 1, "state": "x"}',
        b'{"promises": {"a": {"at": "soon", "within_s": 1}}, "pid": 1, "at": 1, "state": "x"}',
        b'{"promises": {"a": {"at": null, "within_s": 1}}, "pid": 1, "at": 1, "state": "x"}',
        b"[" * 100_000,
    ],
    ids=range(11),
)
def test_nearly_a_record_is_one_too(data: bytes) -> None:
    with pytest.raises(ValueError, match="not a status record"):
        Status.decode(data)


def test_a_promise_is_broken_by_silence_that_was_heard() -> None:
    promise = Promise(at=100.0, within_s=10.0)
    assert not promise.broken(110.0)
    assert promise.broken(110.1)
    assert not promise.broken(1000.0, judged_from=995.0)
    assert promise.broken(1000.0, judged_from=50.0)


def test_counters_by_label() -> None:
    meter = Meter()
    meter.count("frames_dropped_total", reason="late")
    meter.count("frames_dropped_total", by=2, reason="broken")
    meter.count("frames_sent_total")
    meter.gauge("spool_events", 7)
    assert meter.value("frames_dropped_total", reason="broken") == 2
    assert meter.value("frames_dropped_total") == 0
    assert meter.total("frames_dropped_total") == 3
    assert meter.gauge_value("spool_events") == 7
    assert meter.gauge_value("nothing") is None
    assert json.loads(json.dumps(meter.snapshot())) == {
        "counters": [
            ["frames_dropped_total", {"reason": "late"}, 1],
            ["frames_dropped_total", {"reason": "broken"}, 2],
            ["frames_sent_total", {}, 1],
        ],
        "gauges": [["spool_events", {}, 7]],
        "histograms": {},
    }


def test_names_from_outside_cannot_make_a_counter_grow_without_bound() -> None:
    meter = Meter()
    for number in range(10_000):
        meter.count("detections_total", name=f"class {number}")
    meter.count("detections_total", name="class 0")
    assert len(meter.snapshot()["counters"]) == LABEL_SETS_MAX + 1
    assert meter.value("detections_total", name="class 0") == 2
    assert meter.value("detections_total", name="other") == 10_000 - LABEL_SETS_MAX
    assert meter.total("detections_total") == 10_001
    meter.count("frames_dropped_total", reason="late")
    assert meter.value("frames_dropped_total", reason="late") == 1


def test_a_meter_is_read_while_another_thread_writes() -> None:
    meter, stop = Meter(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            meter.count(f"metric {number % 500}")
            meter.observe(f"histogram {number % 500}", 0.1)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            meter.snapshot()
            meter.total("metric 1")
    finally:
        stop.set()
        writer.join()


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_value_once_below_its_bound(values: list[float]) -> None:
    histogram = Histogram()
    for value in values:
        histogram.observe(value)
    assert sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))
    edges = [float("-inf"), *AGE_BUCKETS_S, float("inf")]
    for (low, high), count in zip(pairwise(edges), histogram.counts, strict=True):
        assert count == sum(low < value <= high for value in values)


def test_a_rate_is_that_of_the_window() -> None:
    rate = Rate(window_s=10.0)
    assert rate.update(0.0, 0) == 0.0
    for second in range(1, 31):
        now = rate.update(float(second), 5 * second)
    assert now == pytest.approx(5.0)
    for second in range(31, 51):
        now = rate.update(float(second), 150)
    assert now == 0.0
