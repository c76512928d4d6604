"""Events of tracks from a real worker: the stream, the channel, and tracks that survive the death of their worker."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import redis

from nvision_hub.broker.spool import SpoolSettings
from nvision_hub.config.models import Camera
from nvision_hub.runtime.messages import AnsweredFrame, Drain, FramesAnswered, PostedDetection
from tests.support import asyncapi
from tests.support.camera_worker import CameraWorker, worker_settings
from tests.support.patience import PATIENCE_S
from workers.camera.tracks import SPOOL_FILE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.http_camera import HttpCamera
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis

WHOLE = [[0, 0], [1, 0], [1, 1], [0, 1]]


def stored(client: redis.Redis) -> list[dict[str, Any]]:
    """Return the events of the stream. Entries and events match docs/asyncapi.yaml."""
    entries: Any = client.xrange("nvision:tracks")
    events = []
    for _, fields in entries:
        event = json.loads(fields[b"event"])
        assert fields[b"camera"] == b"lobby"
        assert fields[b"type"].decode() == event["type"]
        asyncapi.check("trackStreamEntry", {name.decode(): value.decode() for name, value in fields.items()})
        asyncapi.check("trackEvent", event)
        events.append(event)
    return events


def open_tracks(client: redis.Redis) -> set[str]:
    found: Any = client.hkeys("nvision:tracks:open:lobby")
    return {key.decode() for key in found}


def stop(worker: CameraWorker) -> None:
    worker.child.send(Drain())
    assert worker.child.ended_within(PATIENCE_S)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the event did not occur"
        time.sleep(0.05)


@pytest.mark.parametrize("is_killed", [False, True])
def test_a_track_starts_once_and_ends_once(
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_worker: Callable[..., CameraWorker],
    debian_redis: Callable[..., DebianRedis],
    is_killed: bool,  # noqa: FBT001 - a parameter
) -> None:
    """The service finds the same person in every frame. A successor continues the track of a killed worker."""
    camera, service, broker = http_camera(), recorder(), debian_redis()
    settings = {"fps": 10, "zones": {"room": {"points": WHOLE}}}
    worker = start_worker(camera.url(), service, broker, **settings)
    with redis.Redis.from_url(broker.url) as client:
        wait_until(lambda: len(open_tracks(client)) == 1)
        (track,) = open_tracks(client)
        if is_killed:
            worker.child.kill()
            worker = start_worker(camera.url(), service, broker, **settings)
            worker.wait_for(lambda status: status.metrics.gauges.get(("tracks_open", ())) == 1)
            assert open_tracks(client) == {track}
        stop(worker)
        events = stored(client)
        assert open_tracks(client) == set()
    assert {event["subject"] for event in events} == {track}
    assert len({event["id"] for event in events}) == len(events)
    types = [event["type"].removeprefix("nvision.") for event in events]
    assert types[:3] == ["track.started", "zone.entered", "track.updated"]
    assert types[-2:] == ["zone.left", "track.ended"]
    assert (types.count("track.started"), types.count("track.ended")) == (1, 1)
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_events_are_cloud_events_with_one_schema_for_their_data(
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_worker: Callable[..., CameraWorker],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    broker = debian_redis()
    with redis.Redis.from_url(broker.url) as client, client.pubsub() as channel:
        channel.subscribe("nvision:tracks:lobby")
        assert channel.get_message(timeout=PATIENCE_S) is not None, "the confirmation"
        worker = start_worker(http_camera().url(), recorder(), broker, fps=10, labels={"floor": "1"})
        wait_until(lambda: len(open_tracks(client)) == 1)
        stop(worker)
        events = stored(client)
        results: Any = client.xrange("nvision:results")
        frames = {json.loads(fields[b"event"])["frame_id"]: json.loads(fields[b"event"]) for _, fields in results}
        published: list[dict[str, Any]] = []
        while len(published) < len(events) and (message := channel.get_message(timeout=PATIENCE_S)) is not None:
            published.append(json.loads(message["data"]))
    assert published == events
    for event in events:
        assert event["specversion"] == "1.0"
        assert event["source"] == "/nvision-hub/test/lobby"
        assert event["dataschema"] == "urn:nvision-hub:track:1"
        assert event["datacontenttype"] == "application/json"
        UUID(event["id"])
        data = event["data"]
        assert data.keys() == {"track", "frame", "zone", "line", "snapshot"}
        assert data["track"]["id"] == event["subject"]
        assert (data["track"]["class"], data["track"]["parent"]) == ("person", "human")
        assert data["track"]["labels"] == {"floor": "1"}
        result = frames[data["frame"]["id"]]
        assert data["track"]["bounding_box"] == result["detected_objects"][0]["bounding_box"], "the box of this frame"
        assert data["frame"]["captured_at"] == data["track"]["last_seen_at"]
    ended = events[-1]["data"]["track"]
    assert (ended["state"], ended["end_reason"]) == ("ended", "stopped")
    assert ended["ended_at"] == ended["last_seen_at"]


def test_results_by_callback_become_tracks(
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_worker: Callable[..., CameraWorker],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    """Callbacks arrive in batches, in any order. An impossible detection begins no track."""
    service, broker = recorder(answer="none"), debian_redis()
    worker = start_worker(http_camera().url(), service, broker, fps=10)
    person = PostedDetection(name="person", parent="human", confidence=0.9, box=(10, 20, 110, 220))
    impossible = PostedDetection(name="car", parent="vehicle", confidence=1.0, box=(200, 20, 1e300, 220))
    posted: list[str] = []

    def post() -> None:
        frames = [each.frame_id for each in service.wait_for(len(posted) + 2)[len(posted) :]]
        posted.extend(frames)
        answered = [
            AnsweredFrame(frame_id=each, at=time.monotonic(), detections=(person, impossible)) for each in frames
        ]
        worker.child.send(FramesAnswered(frames=tuple(reversed(answered))))

    with redis.Redis.from_url(broker.url) as client:

        def is_open() -> bool:
            post()
            return len(open_tracks(client)) == 1

        wait_until(is_open)
        stop(worker)
        events = stored(client)
    assert [events[0]["type"], events[-1]["type"]] == ["nvision.track.started", "nvision.track.ended"]
    assert {event["data"]["track"]["class"] for event in events} == {"person"}
    assert len({event["subject"] for event in events}) == 1
    assert {event["data"]["frame"]["id"] for event in events} <= set(posted)
    times = [event["time"] for event in events]
    assert times == sorted(times)


def test_an_error_of_the_spool_of_track_events_appears_in_the_status(
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
    tmp_path: Path,
) -> None:
    (tmp_path / SPOOL_FILE).mkdir()
    camera = Camera.model_validate({"id": "lobby", "url": http_camera().url(), "fps": 10})
    settings = worker_settings(camera, recorder().url, debian_redis().url)
    spool = SpoolSettings(path=tmp_path / "results.sqlite3", max_bytes=2**20, max_age_s=60)
    worker = CameraWorker(settings=replace(settings, spool=spool))
    try:
        status = worker.wait_for(lambda status: status.state == "streaming" and status.error is not None)
    finally:
        worker.end()
    assert (status.error or "").startswith("track events: ")


def test_without_tracking_nothing_is_published(
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    start_worker: Callable[..., CameraWorker],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    broker = debian_redis()
    worker = start_worker(http_camera().url(), recorder(), broker, fps=10, tracking="off")
    with redis.Redis.from_url(broker.url) as client:
        wait_until(lambda: client.xlen("nvision:results") >= 10)
        stop(worker)
        assert client.keys("nvision:tracks*") == []
