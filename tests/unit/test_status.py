"""The counters, gauges, histograms and deadlines of a process."""

from __future__ import annotations

import json
import threading
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.catalogue import Counter, Histogram
from nvision_hub.metrics.meter import AGE_BUCKETS_S, Meter, RateWindow
from nvision_hub.metrics.snapshot import MAX_LABEL_SETS, MetricSnapshot
from nvision_hub.runtime.status import Deadline
from tests.support.metrics import SNAPSHOTS, snapshot_json

if TYPE_CHECKING:
    from collections.abc import Callable


def test_a_deadline_is_broken_by_silence() -> None:
    deadline = Deadline(at=100.0, timeout_s=10.0)
    assert not deadline.is_missed(110.0)
    assert deadline.is_missed(110.1)
    assert not deadline.is_missed(1000.0, since=995.0)
    assert deadline.is_missed(1000.0, since=50.0)


def test_counters_are_kept_per_label_and_summed() -> None:
    meter = Meter()
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="late")
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, by=2, reason="broken")
    meter.count(catalogue.FRAMES_SENT_TOTAL)
    meter.set_gauge(catalogue.SPOOL_EVENTS, 7)
    assert meter.value(catalogue.FRAMES_DROPPED_TOTAL, reason="broken") == 2
    assert meter.value(catalogue.FRAMES_DROPPED_TOTAL) == 0
    assert meter.total(catalogue.FRAMES_DROPPED_TOTAL) == 3
    assert meter.gauge_value(catalogue.SPOOL_EVENTS) == 7
    assert meter.gauge_value(catalogue.MQTT_PENDING) is None
    assert json.loads(json.dumps(snapshot_json(meter.snapshot()))) == {
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
        meter.count(catalogue.DETECTIONS_TOTAL, name=f"class {number}")
    meter.count(catalogue.DETECTIONS_TOTAL, name="class 0")
    assert len(meter.snapshot().counters) == MAX_LABEL_SETS + 1
    assert meter.value(catalogue.DETECTIONS_TOTAL, name="class 0") == 2
    assert meter.value(catalogue.DETECTIONS_TOTAL, name="other") == 10_000 - MAX_LABEL_SETS
    assert meter.total(catalogue.DETECTIONS_TOTAL) == 10_001
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="late")
    assert meter.value(catalogue.FRAMES_DROPPED_TOTAL, reason="late") == 1


def test_merged_snapshots_also_bound_the_names() -> None:
    first, second = Meter(), Meter()
    for number in range(MAX_LABEL_SETS):
        first.count(catalogue.DETECTIONS_TOTAL, name=f"class {number}")
        second.count(catalogue.DETECTIONS_TOTAL, name=f"class {number + 100}")
    second.set_gauge(catalogue.SPOOL_EVENTS, 1)
    merged = first.snapshot().merge(second.snapshot())
    assert len(merged.counters) == MAX_LABEL_SETS + 1
    assert merged.total(catalogue.DETECTIONS_TOTAL) == 2 * MAX_LABEL_SETS
    assert merged.by_label(catalogue.DETECTIONS_TOTAL, "name")["other"] == 100
    assert SNAPSHOTS.validate_json(SNAPSHOTS.dump_json(merged)) == merged
    assert merged.merge(MetricSnapshot()).gauges == {}, "gauges come only from the last process"


def test_a_label_that_is_not_in_the_catalogue_is_an_error() -> None:
    with pytest.raises(ValueError, match="frames_sent_total has no label"):
        Meter().count(catalogue.FRAMES_SENT_TOTAL, reason="late")


@pytest.mark.parametrize(
    "data",
    [{"counters": [1]}, {"counters": {"a": 1}}, {"gauges": 5}, {"histograms": {"x": {}}}, {"histograms": [1]}, [1]],
)
def test_malformed_snapshots_are_rejected(data: Any) -> None:
    with pytest.raises(ValueError, match="MetricSnapshot"):
        SNAPSHOTS.validate_json(json.dumps(data))


def test_a_meter_is_read_while_another_thread_writes() -> None:
    meter, stop = Meter(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            meter.count(Counter("", name=f"metric {number % 500}"))
            meter.observe(Histogram("", name=f"histogram {number % 500}"), 0.1)
            number += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(100):
            meter.snapshot()
            meter.total(Counter("", name="metric 1"))
    finally:
        stop.set()
        writer.join()


class Interrupted(float):
    """A number whose addition lets another thread count between the counter's read and its write."""

    overtake: Callable[[], None]

    def __radd__(self, value: float) -> float:
        self.overtake()
        return value + float(self)


def test_two_threads_that_count_the_same_name_lose_nothing() -> None:
    meter = Meter()
    other = threading.Thread(target=meter.count, args=(catalogue.FRAMES_DROPPED_TOTAL,), kwargs={"reason": "late"})

    def overtake() -> None:
        other.start()
        other.join(0.5)  # without a lock, the other thread would finish now, and its count would be lost

    by = Interrupted(1)
    by.overtake = overtake
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, by=by, reason="late")
    other.join()
    assert meter.value(catalogue.FRAMES_DROPPED_TOTAL, reason="late") == 2


@given(st.lists(st.floats(0, 100), max_size=50))
def test_a_histogram_counts_each_value_once_below_its_bound(values: list[float]) -> None:
    meter = Meter()
    for value in values:
        meter.observe(catalogue.PUBLISH_SECONDS, value)
    histogram = meter.snapshot().histograms.get(catalogue.PUBLISH_SECONDS.name)
    assert (histogram is None) is (not values)
    if histogram is None:
        return
    assert sum(histogram.counts) == len(values)
    assert histogram.total == pytest.approx(sum(values))
    edges = [float("-inf"), *AGE_BUCKETS_S, float("inf")]
    for (low, high), count in zip(pairwise(edges), histogram.counts, strict=True):
        assert count == sum(low < value <= high for value in values)


def test_a_rate_covers_the_window() -> None:
    rate = RateWindow(window_s=10.0)
    assert rate.update(0.0, 0) == 0.0
    for second in range(1, 31):
        now = rate.update(float(second), 5 * second)
    assert now == pytest.approx(5.0)
    for second in range(31, 51):
        now = rate.update(float(second), 150)
    assert now == 0.0
