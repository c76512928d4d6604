"""Behavior of the tracker on made-up results: starts, ends, classes, stationary objects, re-entry and restoration."""

from __future__ import annotations

import itertools
from collections import Counter
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.config.tracking_section import CountingLine, Tracking, Zone
from nvision_hub.tracking import tracker as tracker_module
from nvision_hub.tracking.association import distinct
from nvision_hub.tracking.changes import ChangeType, EndReason
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation
from nvision_hub.tracking.open_track import MAX_PATH_POINTS
from nvision_hub.tracking.tracker import MAX_CANDIDATES, MAX_TRACKS, Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nvision_hub.tracking.changes import Change

WIDTH, HEIGHT = 1280, 720


def ids() -> Callable[[float], str]:
    counter = itertools.count(1)
    return lambda _at: str(next(counter))


def tracker(**options: float) -> Tracker:
    return Tracker(Tracking.model_validate(options), ids())


def person(
    x: float, y: float = 600, *, height: float = 200, confidence: float = 0.9, name: str = "person"
) -> DetectedObject:
    parent = "human" if name == "person" else "vehicle"
    box = ObjectBox(x - 0.2 * height, y - height, x + 0.2 * height, y)
    return DetectedObject(name=name, parent=parent, confidence=confidence, box=box)


def result(at: float, *detections: DetectedObject, mono: float | None = None) -> Observation:
    return Observation(frame_id=f"frame-{at:g}", at=at, mono=mono, width=WIDTH, height=HEIGHT, detections=detections)


def types(changes: Iterable[Change]) -> list[str]:
    return [each.type.value for each in changes]


def test_a_track_starts_with_its_second_detection_and_ends_after_lost_after() -> None:
    track = tracker(lost_after=4)
    assert track.update(result(0, person(300))) == []
    (started,) = track.update(result(0.5, person(310)))
    assert started.type is ChangeType.STARTED
    assert started.track.started_at == 0
    assert started.track.results == 2
    assert [point.at for point in started.track.path] == [0, 0.5]
    for step in range(2, 10):
        assert track.update(result(step / 2)) == []
    (ended,) = track.update(result(5))
    assert (ended.type, ended.at) == (ChangeType.ENDED, 5)
    assert ended.track.end_reason is EndReason.LOST
    assert ended.track.ended_at == ended.track.last_seen_at == 0.5
    assert ended.track.frame.id == "frame-0.5", "the box belongs to this frame"
    assert track.open == []


def test_an_object_that_reappears_in_time_keeps_its_track() -> None:
    track = tracker()
    for step in range(10):
        track.update(result(step / 5, person(300 + 10 * step)))
    (before,) = track.open
    for step in range(10, 25):
        track.update(result(step / 5))
    track.update(result(5, person(550)))
    (after,) = track.open
    assert after.id == before.id


def test_at_low_rates_a_single_miss_never_ends_a_track() -> None:
    track = tracker(lost_after=4)
    track.update(result(0, person(300)))
    track.update(result(5, person(300)))
    assert len(track.open) == 1
    assert track.update(result(100)) == []
    assert track.update(result(100.2)) == [], "two results that span less than lost_after"
    assert types(track.update(result(105))) == ["track.ended"]


def test_where_results_are_rare_one_confident_detection_starts_a_track() -> None:
    track = tracker()
    track.update(result(0))
    track.update(result(5))
    assert types(track.update(result(10, person(300, confidence=0.95), person(900, confidence=0.5)))) == [
        "track.started"
    ]


def test_detections_of_low_confidence_continue_a_track_but_begin_none() -> None:
    track = tracker(min_confidence=0.4)
    for step in range(10):
        assert track.update(result(step / 5, person(900, confidence=0.3))) == []
    for step in range(10, 20):
        track.update(result(step / 5, person(300)))
    for step in range(20, 60):
        assert "track.ended" not in types(track.update(result(step / 5, person(300, confidence=0.2))))
    assert len(track.open) == 1


def test_a_car_that_is_sometimes_called_truck_stays_a_car() -> None:
    track = tracker()
    changes = [
        change
        for step in range(60)
        for change in track.update(result(step / 5, person(300, name="truck" if step % 4 == 3 else "car")))
    ]
    assert {each.track.class_name for each in changes} == {"car"}
    assert {each.track.parent for each in changes} == {"vehicle"}


def test_a_wrong_first_class_is_corrected_with_one_update() -> None:
    track = tracker(update_interval=1000)
    changes = [
        change
        for step in range(30)
        for change in track.update(result(step / 5, person(300, name="truck" if step < 3 else "car")))
    ]
    assert [(each.type, each.track.class_name) for each in changes] == [
        (ChangeType.STARTED, "truck"),
        (ChangeType.UPDATED, "car"),
    ]


def test_a_parked_car_is_one_stationary_track_with_few_updates() -> None:
    track = tracker(update_interval=5)
    changes = []
    for step in range(1500):
        is_hidden = 500 < step < 540  # by a truck that passes, for 8 s
        shift = 4 * (-1) ** step
        detections = [] if is_hidden or step % 5 == 4 else [person(300 + shift, name="car")]
        changes += track.update(result(step / 5, *detections))
    assert types(changes)[0] == "track.started"
    assert set(types(changes)[1:]) == {"track.updated"}
    assert len(changes) < 10
    assert changes[-1].track.stationary


def test_two_people_who_pass_each_other_keep_their_tracks() -> None:
    track = tracker()
    for step in range(40):
        track.update(result(step / 5, person(200 + 20 * step, 600), person(1000 - 20 * step, 560)))
        if step == 5:
            before = {each.id: each.box.left < 600 for each in track.open}
    assert len(before) == 2
    assert {each.id: each.box.left > 600 for each in track.open} == before


def test_a_result_that_is_not_newer_is_ignored() -> None:
    track = tracker()
    track.update(result(10, person(300)))
    assert track.update(result(10, person(300))) == []
    assert track.update(result(9, person(300))) == []
    assert types(track.update(result(10.2, person(300)))) == ["track.started"]


@pytest.mark.parametrize("step_s", [-3600.0, -1.0, -0.3, 0.1, 3600.0])
def test_a_clock_that_is_set_moves_the_times_of_open_tracks(step_s: float) -> None:
    """Durations stay right, nothing ends, and no later result is ignored."""
    zone = Zone(points=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), dwell=9)
    track = Tracker(Tracking(lost_after=4, update_interval=100), ids(), zones={"all": zone})
    changes = []
    for number in range(60):
        mono = number / 5
        wall = 10_000 + mono + (step_s if number >= 20 else 0)
        changes += track.update(result(wall, person(300 + number), mono=mono))
    names = types(changes)
    assert names == ["track.started", "zone.entered", "track.updated", "zone.dwelled"]
    assert changes[-1].dwell_s == pytest.approx(9, abs=0.4)
    (state,) = track.open
    assert state.results == 60
    assert state.last_seen_at - state.started_at == pytest.approx(59 / 5, abs=0.4)
    assert state.started_at == pytest.approx(10_000 + step_s, abs=0.4)
    times = [point.at for point in state.path]
    assert times == sorted(times)
    for number in range(60, 60 + 5 * 6):
        changes += track.update(result(10_000 + step_s + number / 5, mono=number / 5))
    assert types(changes)[4:] == ["zone.left", "track.ended"], "the object is lost at its usual time"
    assert changes[-1].at == pytest.approx(10_000 + step_s + 16, abs=0.4)


def test_a_late_result_of_before_the_clock_was_set_is_ignored() -> None:
    track = tracker()
    track.update(result(100, person(300), mono=1))
    track.update(result(50, person(300), mono=2))
    assert track.update(result(100.5, person(900), mono=1.5)) == []
    assert track.update(result(50.2, mono=2.2)) == []
    (state,) = track.open
    assert (state.started_at, state.last_seen_at, state.results) == (49, 50, 2)


def test_a_successor_continues_tracks_after_the_clock_was_set_back() -> None:
    first = tracker()
    for number in range(10):
        first.update(result(10_000 + number / 5, person(300)))
    second = tracker()
    second.restore(first.open)
    changes = second.update(result(5_000, person(300), mono=1))
    (state,) = second.open
    assert (types(changes), state.results) == ([], 11)
    assert state.last_seen_at == 5_000
    assert state.started_at == pytest.approx(5_000 - 9 / 5)


def test_a_successor_does_not_report_the_same_stay_in_a_zone_again() -> None:
    zone = Zone(points=((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)), dwell=3)
    first, second = (Tracker(Tracking(update_interval=100), ids(), zones={"all": zone}) for _ in range(2))
    before = [change for number in range(20) for change in first.update(result(number / 5, person(300)))]
    assert types(before).count("zone.dwelled") == 1
    second.restore(first.open)
    after = [change for number in range(20, 60) for change in second.update(result(number / 5, person(300)))]
    after += second.end_all(EndReason.STOPPED)
    assert types(after) == ["zone.left", "track.ended"]
    assert after[0].dwell_s == pytest.approx(59 / 5, abs=0.3), "since the entry that the first tracker saw"


def test_a_box_that_the_service_repeats_is_one_object() -> None:
    track = tracker()
    for step in range(5):
        track.update(result(step / 5, person(300), person(303, confidence=0.6, name="car")))
    assert len(track.open) == 1


def test_the_resolution_of_the_frames_may_change() -> None:
    track = tracker()
    for step in range(5):
        track.update(result(step / 5, person(300)))
    small = DetectedObject(
        name="person", parent="human", confidence=0.9, box=ObjectBox(*(value / 2 for value in person(300).box))
    )
    track.update(Observation(frame_id="small", at=1, width=WIDTH // 2, height=HEIGHT // 2, detections=(small,)))
    (state,) = track.open
    assert state.results == 6
    assert state.frame.width == WIDTH // 2


def test_a_path_has_a_bounded_number_of_points_and_keeps_its_ends() -> None:
    track = tracker()
    for step in range(1000):
        track.update(result(step / 5, person(300 + step / 2)))
    (state,) = track.open
    assert MAX_PATH_POINTS / 2 <= len(state.path) <= MAX_PATH_POINTS
    assert (state.path[0].at, state.path[-1].at) == (0, state.last_seen_at)
    assert [point.at for point in state.path] == sorted(point.at for point in state.path)


def test_a_successor_continues_open_tracks_and_ends_those_that_are_gone() -> None:
    first = tracker()
    for step in range(10):
        first.update(result(step / 5, person(300 + 5 * step), person(900)))
    second = tracker()
    second.restore(first.open)
    assert {each.id for each in second.open} == {each.id for each in first.open}
    changes = [change for step in range(15, 45) for change in second.update(result(step / 5, person(300 + 5 * step)))]
    assert [(each.type, each.track.results) for each in changes if each.type is ChangeType.ENDED] == [
        (ChangeType.ENDED, 10)
    ]
    assert ChangeType.STARTED not in {each.type for each in changes}
    second.restore(second.open)
    assert len(second.open) == 1, "a track that is already known is not restored again"


def test_the_number_of_tracks_is_bounded() -> None:
    track = tracker()
    crowd = [person(20 + 40 * (number % 30), 60 + 40 * (number // 30), height=30) for number in range(500)]
    for step in range(3):
        track.update(result(step, *crowd))
    assert len(track.open) <= MAX_TRACKS


def test_only_the_most_confident_detections_are_compared_with_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[list[float]] = []

    def record(detections: Sequence[tuple[DetectedObject, ObjectBox]]) -> list[tuple[DetectedObject, ObjectBox]]:
        compared.append([each.confidence for each, _ in detections])
        return distinct(detections)

    monkeypatch.setattr(tracker_module, "distinct", record)
    confidences = [number / 5000 for number in range(5000)]
    tracker().update(result(0, *[person(100, 200, confidence=each) for each in confidences]))
    assert compared == [confidences[: -MAX_CANDIDATES - 1 : -1]]


DETECTIONS = st.builds(
    person,
    st.integers(0, WIDTH),
    st.integers(100, HEIGHT),
    height=st.integers(1, 300),
    confidence=st.floats(0, 1),
    name=st.sampled_from(["person", "car", "truck"]),
)
RESULTS = st.lists(st.tuples(st.floats(-1, 20), st.lists(DETECTIONS, max_size=6)), max_size=30)


@given(RESULTS, st.integers(0, 30))
def test_every_track_that_starts_ends_once_and_its_events_are_in_order(
    results: list[tuple[float, list[DetectedObject]]], restart_after: int
) -> None:
    square = ((0.2, 0.2), (0.8, 0.2), (0.8, 1.0), (0.2, 1.0))
    new_id = ids()

    def create() -> Tracker:
        return Tracker(
            Tracking(),
            new_id,
            zones={"square": Zone(points=square, dwell=2, inertia=1)},
            lines={"gate": CountingLine(points=((0.5, 0.0), (0.5, 1.0)))},
        )

    track, at = create(), 0.0
    changes: list[Change] = []
    for number, (dt, detections) in enumerate(results):
        at += abs(dt) if number == restart_after + 1 else dt
        changes += track.update(result(at, *detections))
        if number == restart_after:
            successor = create()
            successor.restore(track.open)
            # A successor receives only newer results. An older first result would mean that the clock was set.
            at = max([at, *(state.last_seen_at for state in track.open)])
            track = successor
    changes += track.end_all(EndReason.STOPPED)

    by_track: dict[str, list[Change]] = {}
    for each in changes:
        by_track.setdefault(each.track.id, []).append(each)
    for events in by_track.values():
        names = types(events)
        assert (names[0], names[-1]) == ("track.started", "track.ended")
        assert (names.count("track.started"), names.count("track.ended")) == (1, 1)
        assert events[-1].track.zones == ()
        last_seen = [each.track.last_seen_at for each in events]
        assert last_seen == sorted(last_seen)
        results_seen = [each.track.results for each in events]
        assert results_seen == sorted(results_seen)
        inside: Counter[str] = Counter()
        for each in events:
            assert each.track.started_at <= each.track.last_seen_at
            inside[each.zone or ""] += {ChangeType.ZONE_ENTERED: 1, ChangeType.ZONE_LEFT: -1}.get(each.type, 0)
            assert inside["square"] in {0, 1}
        assert inside["square"] == 0, "each zone that is entered is left"
    assert track.open == []
