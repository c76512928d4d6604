"""`tail`: read results or track events from Redis like any other consumer, and show them as they arrive."""

from __future__ import annotations

import contextlib
import json
import time
from collections import defaultdict
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
from redis.exceptions import RedisError
from rich.text import Text

from nvision_hub.backoff import Backoff
from nvision_hub.broker.client import connect_sync
from nvision_hub.cli.api_client import ApiClient
from nvision_hub.cli.broker_access import find_broker
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import command, complete_camera, json_option, select_cameras
from nvision_hub.cli.terminal import console, print_json
from nvision_hub.config.load import load
from nvision_hub.control_characters import printable
from nvision_hub.errors import UnavailableError
from nvision_hub.nvision.received_events import ReceivedTrackEvent

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

RESPONSE_TIMEOUT_S: Final = 5.0
SILENCE_TIMEOUT_S: Final = 10.0  # the connection counts as lost after this time without a message or a reply to a ping


@command(
    "nvision-hub tail",
    "nvision-hub tail lobby",
    "nvision-hub tail --tracks",
    "nvision-hub tail --json | jq -r '.detected_objects[].name'",
)
@click.argument("camera", required=False, shell_complete=complete_camera)
@click.option("--tracks", "of_tracks", is_flag=True, help="Show the events of tracks instead of results.")
@hub_options
@json_option
def tail(camera: str | None, chosen: HubOptions, *, of_tracks: bool, as_json: bool) -> None:
    """Show the results of CAMERA, or of all cameras, as they arrive, until Ctrl-C.

    Each line shows the result's arrival time, the camera, the detections with their confidence, and the time from
    capture to result. With --json, each line is one event.

    With --tracks, each line shows the time of an event, the camera, the end of the track's id, the class, and what the
    object did.
    """
    if camera is not None:
        _check_camera(chosen, camera)
    out, err = console(), console(stderr=True)
    for payload in _events(chosen, "tracks" if of_tracks else "results", camera or "*"):
        try:
            track_event = ReceivedTrackEvent.parse(payload) if of_tracks else None
            if as_json:
                print_json(json.loads(payload), indent=None)
            else:
                out.print(_event_line(payload) if track_event is None else track_line(track_event))
        except (ValueError, KeyError, TypeError, AttributeError, ArithmeticError, RecursionError):
            (err if as_json else out).print("ignored a message that is not an event", style="yellow")


def _check_camera(chosen: HubOptions, camera: str) -> None:
    """Raise `UsageError` if the hub does not have this camera, according to the running hub or else cameras.yaml."""
    try:
        with ApiClient(chosen) as api:
            api.select([camera])
    except UnavailableError:
        if chosen.file is None:
            raise
        select_cameras(load(chosen.file), [camera])


def _events(chosen: HubOptions, kind: str, camera: str) -> Iterator[bytes]:
    """Yield events of the channels `kind`, and reconnect when the connection fails.

    Each connection starts with a lookup of the broker's URL, because a restarted hub may use another port. Raises
    `UnavailableError` if the first connection fails.
    """
    broker = None
    backoff = Backoff(first_s=0.2, cap_s=2.0, healthy_s=5.0)
    err = console(stderr=True)
    connected = None  # None before the first connection
    while True:
        try:
            broker = find_broker(chosen)
            for payload in _subscribe(broker.url, f"{broker.prefix}:{kind}:{camera}"):
                if payload is not None:
                    yield payload
                    continue
                if connected is False:
                    err.print("Reconnected to the broker.", style="yellow")
                connected = True
                backoff.healthy(time.monotonic())
        except (RedisError, OSError, UnavailableError) as error:
            if connected is None:
                if broker is None:
                    raise
                raise broker.unavailable(error) from error
            if connected:
                err.print("Disconnected from the broker. Retrying...", style="yellow")
            connected = False
            time.sleep(backoff.next_s())


def _subscribe(url: str, pattern: str) -> Iterator[bytes | None]:
    """Yield each payload. Yield None when Redis confirms the subscription, and regularly while no payload arrives."""
    with (
        connect_sync(url, timeout_s=RESPONSE_TIMEOUT_S) as client,
        contextlib.closing(client.pubsub()) as subscription,
    ):
        subscription.psubscribe(pattern)
        last = time.monotonic()
        while True:
            message = subscription.get_message(timeout=RESPONSE_TIMEOUT_S / 2)
            if message is not None:
                last = time.monotonic()
            elif time.monotonic() - last > SILENCE_TIMEOUT_S:
                raise TimeoutError("Redis does not reply")
            else:
                subscription.ping()
            if message is None or message["type"] == "psubscribe":
                yield None
            elif message["type"] == "pmessage":
                yield message["data"]


def _event_line(payload: bytes) -> Text:
    """Format an event as `16:07:12.120  street  2 person 0.91 0.87, car 0.66  140 ms`.

    If the message is not an event, the function raises one of several errors.
    """
    event = json.loads(payload)
    hub = event["hub"]
    received = datetime.fromisoformat(hub["received_at"])
    line = _line_start(received, hub["camera"])
    detections = [*event.get("detected_objects", ()), *event.get("detected_faces", ())]
    line.append(_format_detections(detections), style="not dim")
    if hub["captured_at"] is not None:
        latency = received - datetime.fromisoformat(hub["captured_at"])
        line.append(f"  {latency.total_seconds() * 1000:.0f} ms")
    return line


def track_line(event: ReceivedTrackEvent) -> Text:
    """Format an event as `16:07:12.120  dock  9f31c2 person entered bay`. Raises `ValueError` for an invalid time."""
    track = event.data.track
    line = _line_start(datetime.fromisoformat(event.time), track.camera)
    line.append(f"{printable(track.id[-6:])} ")
    line.append(f"{printable(track.class_name)} ", style="not dim")
    line.append(printable(_action(event)), style="not dim")
    return line


def _action(event: ReceivedTrackEvent) -> str:
    track, zone, crossing = event.data.track, event.data.zone, event.data.line
    if zone is not None:
        duration = None if zone.dwell_s is None else f"{zone.dwell_s:.1f} s"
        verb = event.name.removeprefix("zone.")
        if verb == "dwelled":
            return f"has been in {zone.id} for {duration}"
        return f"{verb} {zone.id}" if duration is None else f"{verb} {zone.id} after {duration}"
    if crossing is not None:
        return f"crossed {crossing.id} ({crossing.direction})"
    if track.ended_at is not None:
        duration_s = (datetime.fromisoformat(track.ended_at) - datetime.fromisoformat(track.started_at)).total_seconds()
        return f"ended after {duration_s:.1f} s ({track.end_reason})"
    facts = [*(["stationary"] if track.stationary else []), *(f"in {zone}" for zone in track.zones)]
    return " ".join((event.name.removeprefix("track."), f"{track.confidence:.2f}", ", ".join(facts))).rstrip()


def _line_start(at: datetime, camera: str) -> Text:
    line = Text(f"{at.astimezone():%H:%M:%S}.{at.microsecond // 1000:03d}  ", style="dim")
    return line.append(f"{printable(camera):<12}  ", style="not dim cyan")


def _format_detections(detections: Iterable[dict[str, Any]]) -> str:
    by_name = defaultdict[str, list[float]](list)
    for detection in detections:
        by_name[printable(detection["name"])].append(detection["confidence"])
    parts = []
    for name, confidences in by_name.items():
        count = f"{len(confidences)} " if len(confidences) > 1 else ""
        parts.append(f"{count}{name} {' '.join(f'{value:.2f}' for value in sorted(confidences, reverse=True))}")
    return ", ".join(parts) or "nothing"
