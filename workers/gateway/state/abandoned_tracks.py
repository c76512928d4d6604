"""End of abandoned tracks. No worker will end these tracks, because the camera was removed or is no longer tracked.

A worker that stops ends its own tracks, and the successor of a killed worker continues them. The gateway ends all other
tracks. It ends the tracks of a camera in one transaction, which publishes the events only if no other process has
changed the camera's open tracks. Two gateways therefore never end a track twice.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from typing import TYPE_CHECKING, Final

from redis.exceptions import RedisError

from nvision_hub.broker.client import open_tracks_key, track_commands
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.cluster.camera_lease import lease_key
from nvision_hub.config.field_types import ID_PATTERN
from nvision_hub.nvision.result_events import encode
from nvision_hub.tracking.changes import EndReason
from nvision_hub.tracking.cloud_events import end_events
from workers.gateway.state.fleet import CAMERA, HUB

if TYPE_CHECKING:
    import redis.asyncio

    from workers.gateway.settings import GatewaySettings
    from workers.gateway.state.fleet import FleetState

log = logging.getLogger("nvision_hub.tracks")

INTERVAL_S: Final = 1.0
SCAN_KEYS: Final = 1000  # number of keys that Redis examines per scan step


class AbandonedTracks:
    """Task that ends abandoned tracks of this hub's cameras or, in a fleet, of all cameras.

    The caller starts `run` as a task.
    """

    def __init__(self, settings: GatewaySettings, fleet: FleetState, client: redis.asyncio.Redis) -> None:
        self._settings = settings
        self._fleet = fleet
        self._client = client

    async def run(self) -> None:
        """End abandoned tracks of earlier cameras, and of cameras removed or untracked later. Runs until canceled."""
        known: set[str] | None = None  # cameras that may have open tracks; None until Redis or the disk is readable
        while True:
            await asyncio.sleep(INTERVAL_S)
            if HUB not in self._fleet.processes:  # not all cameras are known yet
                continue
            try:
                if known is None:
                    known = await self._earlier_cameras()
                tracked = self._tracked_cameras()
                for camera in known - tracked:
                    if await self._end(camera):
                        known.discard(camera)
                known |= tracked
            except (RedisError, OSError) as error:
                log.debug("the open tracks cannot be ended: %s; retrying", type(error).__name__)

    def _tracked_cameras(self) -> set[str]:
        """Return the cameras whose workers end their tracks, now or after the next start."""
        settings = self._settings
        tracked = set() if settings.fleet is None else {*settings.fleet.cameras}
        for process in self._fleet.cameras():
            camera = process.name.removeprefix(CAMERA)
            if process.facts.settings.get("tracking", {}) is not None:  # missing until the facts are known
                tracked.add(camera)
            else:
                tracked.discard(camera)
        return tracked

    async def _earlier_cameras(self) -> set[str]:
        """Return the cameras that have run at some earlier time.

        Each worker has a directory beside this gateway's spool. Redis may also contain tracks of other hubs. Only the
        gateway of a fleet searches Redis, because it knows the cameras of all hubs in the fleet.
        """
        if self._settings.fleet is not None:
            prefix = open_tracks_key(self._settings.stream.prefix, "")
            keys = [key async for key in self._client.scan_iter(match=f"{prefix}*", count=SCAN_KEYS)]
            names = [key.decode(errors="replace").removeprefix(prefix) for key in keys]
        elif self._settings.spool is not None and (spools := self._settings.spool.path.parents[1]).is_dir():
            names = [each.name for each in spools.iterdir()]
        else:
            names = []
        return {name for name in names if re.fullmatch(ID_PATTERN, name)}

    async def _end(self, camera: str) -> bool:
        """End all open tracks of a camera. Return False if another hub still streams the camera."""
        stream = self._settings.stream
        key, lease = open_tracks_key(stream.prefix, camera), lease_key(stream.prefix, camera)
        is_removed = self._fleet.camera(camera) is None
        reason = EndReason.REMOVED if is_removed else EndReason.TRACKING_OFF
        async with self._client.pipeline() as pipe:
            await pipe.watch(key, lease)
            if is_removed and await pipe.exists(lease):
                return False
            events, invalid = [], []
            for track_id, payload in (await pipe.hgetall(key)).items():
                try:
                    ends = end_events(payload, camera, reason)
                    if ends[-1]["subject"].encode() != track_id:
                        raise ValueError("the event of another track")  # noqa: TRY301 - one handler for all errors
                except ValueError:
                    invalid.append(track_id)
                else:
                    events += [
                        OutgoingEvent(id=each["id"], camera=camera, payload=encode(each), received_at=time.time())
                        for each in ends
                    ]
            if not events and not invalid:
                return True
            pipe.multi()  # type: ignore[no-untyped-call]  # the library lacks the annotation
            for command in track_commands(events, prefix=stream.prefix, max_entries=stream.max_entries):
                pipe.execute_command(*command)
            if invalid:
                pipe.hdel(key, *invalid)
            await pipe.execute()
        if invalid:
            log.warning(
                "%s entries of %s are no tracks; they are removed",
                len(invalid),
                key,
                extra={"event": "open_tracks_rejected"},
            )
        log.info("open tracks of %s ended: %s", camera, reason, extra={"event": "open_tracks_ended", "camera": camera})
        return True
