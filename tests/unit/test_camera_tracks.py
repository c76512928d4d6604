"""When a camera's worker ends its tracks, and which errors it reports. A recording publisher replaces Redis."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import fakeredis
import pytest

from nvision_hub.broker.client import open_tracks_key
from nvision_hub.config.models import Camera
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.nvision_pb2 import NvisionRequest
from nvision_hub.nvision.result_events import EventOrigin, SentFrame, encode, new_id
from nvision_hub.runtime.status import CameraState
from tests.support.camera_worker import worker_settings
from tests.support.track_events import STATE, event
from workers.camera.tracks import CameraTracks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

START = 1_700_000_000.0


class RecordingPublisher:
    """Publisher that keeps the events. Redis has no tracks of an earlier worker."""

    def __init__(self, *_: object) -> None:
        self.error: str | None = None
        self.results_waiting = 0
        self.events: list[dict[str, Any]] = []

    def publish_track(self, _camera: str, event: dict[str, Any]) -> None:
        self.events.append(event)


class Worker:
    """`CameraTracks` with a camera that sends `fps` frames per second, and a clock."""

    def __init__(self, publishers: list[RecordingPublisher]) -> None:
        settings = worker_settings(
            Camera.model_validate({"id": "lobby", "url": "rtsp://127.0.0.1/1"}), "ws://127.0.0.1", "redis://127.0.0.1"
        )
        origin = EventOrigin(site="test", camera="lobby", labels={}, service=None)
        self.tracks = CameraTracks(settings, origin, Meter(), lambda name: name)
        (self.publisher,) = publishers
        self.now = 0.0  # monotonic
        self._sequence = 0

    def result(self, *, wall: float | None = None) -> None:
        """Add a result with the same person."""
        result = NvisionRequest()
        box = {"left": 250, "top": 100, "right": 350, "bottom": 400}
        result.detected_objects.add(name="person", parent="human", confidence=0.9, bounding_box=box)
        self._sequence += 1
        at = START + self.now if wall is None else wall
        sent = SentFrame(
            frame_id=new_id(at),
            sequence=self._sequence,
            captured_at=at,
            captured_mono=self.now,
            sent_at=at,
            sent_mono=self.now,
            width=640,
            height=480,
            jpeg_bytes=0,
        )
        self.tracks.add(result, sent)

    def run(
        self,
        seconds: float,
        *,
        state: CameraState = CameraState.STREAMING,
        is_limited: bool = False,
        interval_s: float | None = 0.5,
    ) -> None:
        """Let time pass, with a status report every second. `interval_s` is the time between results; None: none."""
        until = self.now + seconds
        next_result, next_report = self.now, self.now
        while self.now < until:
            if interval_s is not None and self.now >= next_result:
                self.result()
                next_result += interval_s
            if self.now >= next_report:
                self.tracks.report(state, self.now, is_limited=is_limited)
                next_report += 1
            self.now += 0.25

    @property
    def types(self) -> list[str]:
        return [each["type"].removeprefix("nvision.track.") for each in self.publisher.events]

    @property
    def reasons(self) -> list[str]:
        return [each["data"]["track"]["end_reason"] for each in self.publisher.events if each["type"].endswith("ended")]


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    publishers: list[RecordingPublisher] = []

    def create(*arguments: object) -> RecordingPublisher:
        publishers.append(RecordingPublisher(*arguments))
        return publishers[-1]

    monkeypatch.setattr("workers.camera.tracks.Publisher", create)
    monkeypatch.setattr("workers.camera.tracks.RESUME_TIMEOUT_S", 0.0)
    return Worker(publishers)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        (lambda worker: worker.run(70, is_limited=True, interval_s=None), "paused"),
        (lambda worker: worker.run(10, state=CameraState.PAUSED, interval_s=None), "paused"),
        (lambda worker: worker.run(10, state=CameraState.STALLED, interval_s=None), "camera_lost"),
        (lambda worker: worker.run(10, state=CameraState.STALLED, is_limited=True, interval_s=None), "camera_lost"),
        (lambda worker: asyncio.run(worker.tracks.end_all()), "stopped"),
    ],
)
def test_tracks_end_when_no_results_can_come(worker: Worker, stop: Callable[[Worker], None], reason: str) -> None:
    worker.run(5)
    stop(worker)
    assert (worker.types[0], worker.types.count("ended")) == ("started", 1)
    assert worker.reasons == [reason]
    ended = worker.publisher.events[-1]["data"]["track"]
    assert ended["ended_at"] == ended["last_seen_at"]


@pytest.mark.parametrize("interval_s", [3, 6, 12, 30])
def test_a_limit_that_lowers_the_rate_does_not_end_tracks(worker: Worker, interval_s: float) -> None:
    """Frames are withheld, but a result still arrives from time to time. A limit of all frames ends the tracks."""
    worker.run(20, interval_s=0.25)
    worker.run(interval_s - 0.25, is_limited=True, interval_s=None)
    worker.run(10 * interval_s, is_limited=True, interval_s=interval_s)
    assert worker.reasons == []
    worker.run(130, is_limited=True, interval_s=None)
    assert worker.reasons == ["paused"]


def test_a_short_reconnect_of_a_limited_camera_does_not_end_tracks(worker: Worker) -> None:
    worker.run(5)
    worker.run(20, is_limited=True, interval_s=None)
    worker.run(2, state=CameraState.STALLED, is_limited=True, interval_s=None)
    worker.run(20, is_limited=True, interval_s=None)
    assert worker.reasons == []


def test_an_idle_hour_does_not_prolong_the_wait_for_results(worker: Worker) -> None:
    worker.run(5)
    worker.run(3600, interval_s=None)
    worker.run(5)
    worker.run(70, is_limited=True, interval_s=None)
    assert worker.reasons == ["paused"]


def test_a_scene_without_results_keeps_its_tracks_while_nothing_is_limited(worker: Worker) -> None:
    """With motion detection, a camera sends no frames while nothing moves."""
    worker.run(5)
    worker.run(600, interval_s=None)
    assert worker.reasons == []


def test_tracks_start_again_after_a_pause(worker: Worker) -> None:
    worker.run(5)
    worker.run(70, is_limited=True, interval_s=None)
    worker.run(5)
    assert [each for each in worker.types if each != "updated"] == ["started", "ended", "started"]


def test_results_count_after_the_clock_was_set_back(worker: Worker) -> None:
    worker.result()
    worker.now += 0.5
    worker.result(wall=START - 3600)
    assert worker.types == ["started"]


def test_an_error_of_the_publisher_of_track_events_is_reported(worker: Worker) -> None:
    assert worker.tracks.error is None
    worker.publisher.error = "no space left on the disk"
    assert worker.tracks.error == "track events: no space left on the disk"


def test_entries_of_the_hash_that_are_not_the_track_of_their_field_are_removed(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = fakeredis.FakeServer()
    stored = fakeredis.FakeRedis(server=server)
    key = open_tracks_key("nvision", "lobby")
    payload = encode(event())
    stored.hset(key, mapping={STATE.id: payload, new_id(START): payload, new_id(START + 1): b"{}"})

    @asynccontextmanager
    async def open_client(_url: str) -> AsyncIterator[fakeredis.FakeAsyncRedis]:
        async with fakeredis.FakeAsyncRedis(server=server) as client:
            yield client

    monkeypatch.setattr("workers.camera.tracks.open_client", open_client)
    assert asyncio.run(worker.tracks._stored()) == [STATE]
    assert stored.hkeys(key) == [STATE.id.encode()]
