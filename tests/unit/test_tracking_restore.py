"""Tracks of an earlier tracker: which of them continue, and which end."""

from __future__ import annotations

import itertools
from dataclasses import replace

from nvision_hub.config.tracking_section import Tracking
from nvision_hub.tracking.changes import EndReason
from nvision_hub.tracking.tracker import MAX_TRACKS, Tracker
from tests.support.track_events import STATE


def tracker() -> Tracker:
    counter = itertools.count(1)
    return Tracker(Tracking(), lambda _at: str(next(counter)))


def test_a_track_that_is_stored_twice_continues_once() -> None:
    track = tracker()
    assert track.restore([STATE, STATE]) == []
    assert [each.id for each in track.open] == [STATE.id]
    ended = track.end_all(EndReason.STOPPED)
    assert [each.type for each in ended if each.zone is None] == ["track.ended"]


def test_the_tracks_beyond_the_limit_that_were_last_seen_earliest_end() -> None:
    track = tracker()
    states = [
        replace(STATE, id=f"track-{number}", last_seen_at=STATE.last_seen_at + number, visits=())
        for number in range(MAX_TRACKS + 3)
    ]
    changes = track.restore(reversed(states))
    assert [(each.type, each.track.id, each.track.end_reason) for each in changes] == [
        ("track.ended", f"track-{number}", EndReason.LOST) for number in range(3)
    ]
    assert {each.id for each in track.open} == {each.id for each in states[3:]}
    (change,) = track.restore([replace(STATE, id="another", visits=())])
    assert change.track.id == "another", "the tracks that this tracker follows stay open"
