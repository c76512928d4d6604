"""`tracks`: list the tracks whose events are still in the Redis stream."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError

from nvision_hub.broker.client import connect_sync
from nvision_hub.cli.broker_access import find_broker
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import SinceParam, command, complete_camera, json_option
from nvision_hub.cli.terminal import columns, console, format_duration, local_time, plural, print_json
from nvision_hub.control_characters import printable
from nvision_hub.nvision.received_events import ReceivedTrackEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import redis

    from nvision_hub.nvision.received_events import ReceivedTrack

DEFAULT_AGE: Final = timedelta(hours=1)
RESPONSE_TIMEOUT_S: Final = 10.0
PAGE_ENTRIES: Final = 500

_Fields = dict[bytes, bytes]


@dataclass(kw_only=True)
class SeenTrack:
    """The latest event of a track as JSON, and the zones of all events of the track that the command has read."""

    event: ReceivedTrackEvent
    content: dict[str, Any]
    visited: dict[str, None] = field(default_factory=dict)  # zones in the order of the visits
    ids: set[str] = field(default_factory=set)  # ids of the events

    def add(self, event: ReceivedTrackEvent, content: dict[str, Any]) -> None:
        """Add an event. Times do not show which event is newer, because the hub's clock may have been set.

        A resent event has the id of the original. It may arrive after newer events and after the end of its track.
        """
        is_new = event.id not in self.ids
        self.ids.add(event.id)
        self.visited |= dict.fromkeys(event.data.track.zones)
        if event.data.zone is not None:
            self.visited[event.data.zone.id] = None
        if is_new and self.track.ended_at is None:
            self.event, self.content = event, content

    @property
    def track(self) -> ReceivedTrack:
        return self.event.data.track


@command(
    "nvision-hub tracks",
    "nvision-hub tracks --camera dock --zone bay --since 15min",
    "nvision-hub tracks --json | jq '.[] | select(.ended_at == null)'",
)
@click.option("--camera", metavar="ID", shell_complete=complete_camera, help="Show only tracks of this camera.")
@click.option("--zone", metavar="ID", help="Show only tracks with this zone in one of their events.")
@click.option(
    "--since",
    type=SinceParam(),
    help="Show tracks with an event after this time (2026-11-22T14:00) or age (15min).  [default: 1h]",
)
@hub_options
@json_option
def tracks(camera: str | None, zone: str | None, since: datetime | None, chosen: HubOptions, *, as_json: bool) -> None:
    """List tracks, the newest first, from their events in Redis.

    Each line shows when the track started, the camera, the track's id, the class and its confidence, how long the
    object was seen, the zones in its events, and whether the track is open or why it ended. Only events after the time
    of --since count.

    With --json, each track is the `track` of its latest event, with the zones in its events as `visited_zones`. The
    stream holds about as many events as redis.stream_max_entries, so older tracks may be missing.
    """
    broker = find_broker(chosen)
    rejected = 0
    found: dict[str, SeenTrack] = {}
    try:
        with connect_sync(broker.url, timeout_s=RESPONSE_TIMEOUT_S) as client:
            for fields in entries(client, f"{broker.prefix}:tracks", since or datetime.now(UTC) - DEFAULT_AGE):
                rejected += not add_entry(found, fields)
    except (RedisError, OSError) as error:
        raise broker.unavailable(error) from error
    shown = [
        each
        for each in found.values()
        if (camera is None or each.track.camera == camera) and (zone is None or zone in each.visited)
    ]
    shown.sort(key=lambda each: each.track.started_at, reverse=True)
    err = console(stderr=True)
    if rejected:
        err.print(f"ignored {plural(rejected, 'entry')} of the stream without an event", style="yellow")
    if as_json:
        print_json([each.content["data"]["track"] | {"visited_zones": [*each.visited]} for each in shown])
    elif shown:
        for line in columns(map(_row, shown)):
            print(line)
    else:
        err.print("no tracks", style="dim")


def entries(client: redis.Redis, stream: str, since: datetime) -> Iterator[_Fields]:
    """Yield the entries that were added to a stream at or after `since`, oldest first."""
    start = f"{max(0, int(since.timestamp() * 1000))}-0"
    while True:
        page: Any = client.xrange(stream, start, count=PAGE_ENTRIES)
        yield from (fields for _, fields in page)
        if len(page) < PAGE_ENTRIES:
            return
        start = f"({page[-1][0].decode()}"


def add_entry(found: dict[str, SeenTrack], fields: _Fields) -> bool:
    """Add the event in an entry to its track. Return False if the entry contains no event."""
    payload = fields.get(b"event", b"")
    try:
        event, content = ReceivedTrackEvent.parse(payload), json.loads(payload)
        _seen_for_s(event.data.track)
    except (ValueError, TypeError, OverflowError):
        return False
    found.setdefault(event.data.track.id, SeenTrack(event=event, content=content)).add(event, content)
    return True


def _seen_for_s(track: ReceivedTrack) -> float:
    """Return the seconds between the first and the last detection. Raises several errors for an invalid time."""
    return (datetime.fromisoformat(track.last_seen_at) - datetime.fromisoformat(track.started_at)).total_seconds()


def _row(seen: SeenTrack) -> tuple[str, ...]:
    track = seen.track
    state = "open" if track.ended_at is None else track.end_reason or "ended"
    cells: Iterable[str] = (
        local_time(track.started_at),
        track.camera,
        track.id,
        f"{track.class_name} {track.confidence:.2f}",
        format_duration(_seen_for_s(track)),
        ", ".join(seen.visited) or "-",
        state,
    )
    return tuple(map(printable, cells))
