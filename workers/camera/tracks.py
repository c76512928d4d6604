"""Tracks of one camera: follows objects across its results, and publishes track events through a separate publisher.

A Redis hash holds the latest event of each open track. The transaction that publishes an event also writes the hash.
After the death of a worker, its successor continues these tracks, so every started track also ends.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.client import TRACK_STREAM_BYTES, open_client, open_tracks_key
from nvision_hub.broker.publisher import Publisher
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import new_id
from nvision_hub.runtime.status import CameraState
from nvision_hub.tracking.changes import ChangeType, EndReason
from nvision_hub.tracking.cloud_events import observation, posted_observation, stored_event, stored_track
from nvision_hub.tracking.tracker import Tracker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from nvision_hub.nvision.nvision_pb2 import NvisionRequest
    from nvision_hub.nvision.result_events import EventOrigin, SentFrame
    from nvision_hub.runtime.messages import AnsweredFrame
    from nvision_hub.tracking.changes import Change, TrackState
    from workers.camera.settings import CameraWorkerSettings

log = logging.getLogger("nvision_hub.tracks")

SPOOL_FILE: Final = "tracks.sqlite3"
# Time for which the first results wait for the tracks of an earlier worker. Without Redis, new tracks start after it.
RESUME_TIMEOUT_S: Final = 3.0
RETRY_INTERVAL_S: Final = 0.2
# While a limit withholds frames, a track waits at least this time, and at least this many times the usual interval.
LIMITED_PATIENCE_S: Final = 60.0
LIMITED_INTERVALS: Final = 3.0


class CameraTracks:
    """Tracker and publisher of one camera.

    `label` returns the metric label of a class, from a limited set of labels.
    """

    def __init__(
        self, settings: CameraWorkerSettings, origin: EventOrigin, meter: Meter, label: Callable[[str], str]
    ) -> None:
        camera, stream, spool = settings.camera, settings.stream, settings.spool
        self._origin = origin
        self._meter = meter
        self._label = label
        self._stream = replace(stream, stream="tracks", max_bytes=min(stream.max_bytes, TRACK_STREAM_BYTES))
        self._own_meter = Meter()  # the publisher counts events as results here; `report` copies the lost ones
        self._lost_after_s = 0.0
        self._tracker: Tracker | None = None  # None if tracking is off
        if camera.tracking is not None:
            self._lost_after_s = camera.tracking.lost_after
            self._tracker = Tracker(camera.tracking, new_id, zones=camera.zones, lines=camera.lines)
            self._publisher = Publisher(
                self._stream,
                self._own_meter,
                None if spool is None else replace(spool, path=spool.path.with_name(SPOOL_FILE)),
            )
        self._queued = 0  # number of events since the worker started
        self._lost = 0.0
        self._outdated = asyncio.Event()  # set if the hash in Redis may contain tracks that the tracker does not know
        self._outdated.set()
        self._resume_until: float | None = None  # monotonic deadline; None before the first result
        self._away_since: float | None = None  # monotonic time since when no results can arrive
        self._was_withheld = False  # whether a limit was the reason for this
        self._results = self._reported_results = 0
        self._occupied: set[tuple[str, str]] = set()  # zones and classes that have a gauge

    @property
    def error(self) -> str | None:
        """Message that says why track events cannot be published or saved; None if they can."""
        error = None if self._tracker is None else self._publisher.error
        return None if error is None else f"track events: {error}"

    async def run(self) -> None:
        """Publish events, and continue the tracks of an earlier worker. Runs until the publisher is drained."""
        if self._tracker is None:
            await asyncio.Event().wait()  # until canceled
            return
        resuming = asyncio.create_task(self._resume(self._tracker))
        publishing = asyncio.create_task(self._publisher.run())
        try:
            await asyncio.wait({resuming, publishing}, return_when=asyncio.FIRST_COMPLETED)
            for task in filter(asyncio.Task.done, (publishing, resuming)):
                task.result()
        finally:
            resuming.cancel()
            publishing.cancel()
            await asyncio.gather(resuming, publishing, return_exceptions=True)

    def add(self, result: NvisionRequest, sent: SentFrame) -> None:
        """Follow the objects in a result."""
        self._results += 1
        if self._tracker is None or (self._outdated.is_set() and self._waits_for_resume()):
            return
        self._publish(self._tracker.update(observation(result, sent)))

    def add_posted(self, answered: Sequence[tuple[AnsweredFrame, SentFrame]]) -> None:
        """Follow the objects in results that arrived by callback, in the order in which their frames were sent."""
        self._results += len(answered)
        if self._tracker is None or not answered or (self._outdated.is_set() and self._waits_for_resume()):
            return
        for frame, sent in sorted(answered, key=lambda each: each[1].sequence):
            self._publish(self._tracker.update(posted_observation(frame.detections, sent)))

    async def end_all(self) -> None:
        """End all tracks. Called when the worker stops."""
        if self._tracker is not None:
            self._publish(self._tracker.end_all(EndReason.STOPPED))

    async def drain(self, timeout_s: float) -> None:
        """Publish all events and end `run`."""
        if self._tracker is not None:
            await self._publisher.drain(timeout_s)

    def report(self, state: CameraState, now: float, *, is_limited: bool = False) -> None:
        """Set the metrics. If no results can arrive, end all tracks. `now` is monotonic.

        No results can arrive while the camera sends no frames, or while `is_limited` and a limit withholds all frames.
        """
        tracker, meter = self._tracker, self._meter
        if tracker is None:
            return
        has_results, self._reported_results = self._results > self._reported_results, self._results
        is_withheld = is_limited and state is CameraState.STREAMING
        patience_s = self._lost_after_s
        if is_withheld:
            # A limit that only lowers the rate must not end tracks between two results, and the new rate is unknown.
            patience_s = max(patience_s, LIMITED_PATIENCE_S, LIMITED_INTERVALS * tracker.interval_s)
        if (state is CameraState.STREAMING and not is_limited) or (is_withheld and has_results):
            self._away_since = None
        elif self._away_since is None or is_withheld != self._was_withheld:
            self._away_since, self._was_withheld = now, is_withheld
        elif now - self._away_since >= patience_s:
            is_paused = is_withheld or state is CameraState.PAUSED
            self._publish(tracker.end_all(EndReason.PAUSED if is_paused else EndReason.CAMERA_LOST))
        started = [track for track in tracker.tracks if track.is_started]
        meter.set_gauge(catalogue.TRACKS_OPEN, len(started))
        meter.set_gauge(catalogue.TRACK_EVENTS_WAITING, self._publisher.results_waiting)
        inside = Counter((zone, self._label(track.class_name)) for track in started for zone in track.whereabouts.zones)
        self._occupied |= inside.keys()
        for zone, name in self._occupied:
            meter.set_gauge(catalogue.ZONE_OCCUPANCY, inside[zone, name], **{"zone": zone, "class": name})
        lost = 0.0
        for (metric, labels), value in self._own_meter.snapshot().counters.items():
            if metric == catalogue.RESULTS_LOST_TOTAL.name:
                meter.set_counter(catalogue.TRACK_EVENTS_LOST_TOTAL, value, **dict(labels))
                lost += value
        if lost > self._lost:
            self._lost = lost
            self._outdated.set()  # because the event that ended a track may be lost

    def _waits_for_resume(self) -> bool:
        now = time.monotonic()
        if self._resume_until is None:
            self._resume_until = now + RESUME_TIMEOUT_S
        return now < self._resume_until

    def _publish(self, changes: Iterable[Change]) -> None:
        for change in changes:
            name = self._label(change.track.class_name)
            self._meter.count(catalogue.TRACK_EVENTS_TOTAL, type=change.type)
            if change.type is ChangeType.STARTED:
                self._meter.count(catalogue.TRACKS_TOTAL, 1, **{"class": name})
            if change.line is not None and change.direction is not None:
                labels = {"line": change.line, "direction": change.direction, "class": name}
                self._meter.count(catalogue.LINE_CROSSINGS_TOTAL, 1, **labels)
            self._queued += 1
            self._publisher.publish_track(self._origin.camera, stored_event(change, self._origin))

    async def _resume(self, tracker: Tracker) -> None:
        """Whenever Redis may hold open tracks that the tracker does not know, continue these tracks."""
        while True:
            await self._outdated.wait()
            queued = self._queued
            # First, the spool must send the events of an earlier worker, because these events may end tracks.
            if self._publisher.is_recovered and not self._publisher.results_waiting:
                try:
                    stored = await self._stored()
                except (RedisError, OSError, TimeoutError) as error:
                    log.debug("the open tracks cannot be read: %s", type(error).__name__)
                else:
                    # Otherwise, the tracks in Redis may be older than the tracks of the tracker.
                    if queued == self._queued:
                        self._publish(tracker.restore(stored))
                        self._outdated.clear()
                        continue
            await asyncio.sleep(RETRY_INTERVAL_S)

    async def _stored(self) -> list[TrackState]:
        """Return the open tracks in Redis, and remove entries that no hub could have written."""
        key = open_tracks_key(self._stream.prefix, self._origin.camera)
        states, invalid = [], []
        async with open_client(self._stream.url) as client:
            for track_id, payload in (await client.hgetall(key)).items():
                try:
                    state = stored_track(payload)
                    if state.id.encode() != track_id:
                        raise ValueError("the event of another track")  # noqa: TRY301 - one handler for all errors
                except ValueError:
                    invalid.append(track_id)
                else:
                    states.append(state)
            if invalid:
                await client.hdel(key, *invalid)
                log.warning(
                    "%s entries of %s are no tracks; they are removed",
                    len(invalid),
                    key,
                    extra={"event": "open_tracks_rejected"},
                )
        return states
