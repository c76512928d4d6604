"""Open tracks in Redis: a camera's worker continues any track that it accepts, and can end it."""

from __future__ import annotations

import itertools
import json
from typing import Any, Final

import pytest
from hypothesis import strategies as st

from nvision_hub.config.tracking_section import CountingLine, Tracking, Zone
from nvision_hub.nvision.result_events import encode, new_id
from nvision_hub.timestamps import iso_utc
from nvision_hub.tracking.changes import EndReason
from nvision_hub.tracking.cloud_events import end_events, stored_event, stored_track
from nvision_hub.tracking.observation import DetectedObject, ObjectBox, Observation
from nvision_hub.tracking.tracker import Tracker
from tests.fuzz.harness import Fuzz, json_values
from tests.support.track_events import NOW, ORIGIN, event

EVENT: Final = event()
PARTS: Final = ("track", "frame", "box", "point", "visit")
FOREVER: Final = {"started_at": "0001-01-01T00:00:00Z", "last_seen_at": "9999-12-31T23:59:59Z"}
NEW: Final = Observation(
    frame_id=new_id(NOW),
    at=NOW + 10,
    mono=5.0,
    width=1280,
    height=720,
    detections=(DetectedObject(name="person", parent="human", confidence=0.9, box=ObjectBox(10, 20, 110, 220)),),
)


def changed(**parts: dict[str, Any]) -> bytes:
    """Return the stored event of a track, with other values in some of its `PARTS`."""
    content = json.loads(encode(EVENT))
    data = content["data"]
    data["frame"] |= parts.get("frame", {})
    data["track"]["bounding_box"] |= parts.get("box", {})
    data["track"]["path"][0] |= parts.get("point", {})
    data["track"] |= parts.get("track", {})
    content["visits"][0] |= parts.get("visit", {})
    return json.dumps(content).encode()


HOSTILE: Final = (
    changed(track={"results": 10**400}),
    changed(track=FOREVER | {"path": []}),
    changed(track=FOREVER),
    changed(track={"started_at": "0001-01-01T00:00:00+14:00"}),
    changed(track={"started_at": iso_utc(NOW + 2)}),
    changed(frame={"captured_at": "9999-12-31T23:59:59-14:00"}),
    changed(frame={"width": 1, "height": 10**400}),
    changed(box={"left": 0, "right": 1e-320}),
    changed(box={"right": 1e308}),
    changed(point={"at": "9999-12-31T23:59:59Z"}),
    changed(visit={"entered_at": "9999-12-31T23:59:59Z"}),
)
TIMES: Final = tuple(
    f"{day}T{hour}{zone}"
    for day, hour, zone in itertools.product(
        ("0001-01-01", "1900-01-01", "1970-01-01", "2023-11-14", "2199-12-31", "9999-12-31"),
        ("00:00:00", "23:59:59.999999"),
        ("Z", "+14:00", "-14:00"),
    )
)
VALUES: Final = st.sampled_from(TIMES) | json_values(1e-320, 2**53, 2**31)
KEYS: Final = {
    "track": st.sampled_from(sorted(EVENT["data"]["track"])),
    "frame": st.sampled_from(sorted(EVENT["data"]["frame"])),
    "box": st.sampled_from(["left", "top", "right", "bottom"]),
    "point": st.sampled_from(["at", "x", "y"]),
    "visit": st.sampled_from(["zone", "entered_at", "has_dwelled"]),
}
BUILT: Final = st.fixed_dictionaries(
    {}, optional={part: st.dictionaries(KEYS[part], VALUES, max_size=3) for part in PARTS}
).map(lambda parts: changed(**parts))


def check(payload: bytes) -> None:
    try:
        state = stored_track(payload)
    except ValueError:
        return
    everywhere = ((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0))
    tracker = Tracker(
        Tracking(),
        new_id,
        zones={"bay": Zone(points=everywhere, dwell=1)},
        lines={"gate": CountingLine(points=((0.5, 0.0), (0.5, 1.0)))},
    )
    changes = tracker.restore([state, state])
    changes += tracker.update(NEW)
    changes += tracker.end_all(EndReason.STOPPED)
    for each in changes:
        encode(stored_event(each, ORIGIN))
    assert [each.track.id for each in changes if each.type == "track.ended"].count(state.id) == 1
    assert end_events(payload, "dock", EndReason.REMOVED)[-1]["subject"] == state.id


@pytest.mark.parametrize("payload", HOSTILE)
def test_impossible_tracks_are_refused(payload: bytes) -> None:
    with pytest.raises(ValueError, match=r"validation error|the track|the times"):
        stored_track(payload)


def test_stored_tracks(fuzz: Fuzz) -> None:
    fuzz(check, samples=(encode(EVENT), *HOSTILE), built=BUILT)
