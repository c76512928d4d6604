"""`tail`: results as they arrive, read from Redis as any consumer would."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import click
import redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry
from rich.text import Text

from nvision_hub.backoff import Backoff
from nvision_hub.cli.broker_address import broker_refusal, broker_url
from nvision_hub.cli.cameras_yaml import chosen, complete_camera, config_option
from nvision_hub.cli.options import json_option
from nvision_hub.cli.terminal import console, harmless
from nvision_hub.config import load
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nvision_hub.config import Config

ANSWERS_WITHIN_S: Final = 5.0
ASKED_EVERY_S: Final = 10  # a connection that has gone half-open is noticed so


@click.command(
    epilog="""\b
Examples:
  nvision-hub tail
  nvision-hub tail lobby
  nvision-hub tail --json | jq -r '.detected_objects[].name'
"""
)
@click.argument("camera", required=False, shell_complete=complete_camera)
@config_option
@json_option
def tail(camera: str | None, config_path: Path, *, as_json: bool) -> None:
    """Show results as they arrive, of CAMERA or of all, until Ctrl-C.

    Each line: when the result came, the camera, what was found with its confidence, and the time from the picture to
    the result. With --json, the events themselves, one a line.
    """
    config = load(config_path)
    if camera is not None:
        chosen(config, [camera])
    follow = _Follower(config=config, pattern=f"{config.redis.prefix}:results:{camera or '*'}")
    out = console()
    for payload in follow.events():
        if as_json:
            print(payload.decode(errors="replace"), flush=True)
        else:
            out.print(_line(payload))


@dataclass(kw_only=True)
class _Follower:
    """The subscription, made again whenever it is lost: a broker may restart, and the hub with another port."""

    config: Config
    pattern: str

    def events(self) -> Iterator[bytes]:
        """What arrives, for ever. Raises `UnavailableError` where there is nothing to follow at the beginning."""
        backoff = Backoff(first_s=0.2, cap_s=2.0, healthy_s=5.0)
        err, away = console(stderr=True), False
        first = True
        while True:
            try:
                for payload in self._subscribed(broker_url(self.config)):
                    if payload is None:
                        if away:
                            err.print("connected again", style="yellow")
                        first, away = False, False
                        backoff.healthy(time.monotonic())
                    else:
                        yield payload
            except (RedisError, OSError, UnavailableError) as error:
                if first:
                    raise broker_refusal(self.config, error) from error
                if not away:
                    err.print("the broker has gone; waiting for it to come back", style="yellow")
                away = True
                time.sleep(backoff.next_s())

    def _subscribed(self, url: str) -> Iterator[bytes | None]:
        """None when the subscription stands, and now and then while it does; payloads as they come."""
        client = redis.Redis.from_url(
            url,
            protocol=2,
            socket_timeout=ANSWERS_WITHIN_S,
            socket_connect_timeout=ANSWERS_WITHIN_S,
            health_check_interval=ASKED_EVERY_S,
            retry=Retry(NoBackoff(), 0),
        )
        with contextlib.closing(client), contextlib.closing(_pubsub(client)) as subscription:
            subscription.psubscribe(self.pattern)
            while True:
                message = subscription.get_message(timeout=ANSWERS_WITHIN_S / 2)
                if message is None or message["type"] == "psubscribe":
                    yield None
                elif message["type"] == "pmessage":
                    yield message["data"]


def _pubsub(client: redis.Redis) -> redis.client.PubSub:
    subscription: redis.client.PubSub = client.pubsub()  # type: ignore[no-untyped-call]
    return subscription


def _line(payload: bytes) -> Text:
    """One event for people: `16:07:12.120  street  2 person 0.91 0.87, car 0.66  140 ms`."""
    try:
        event = json.loads(payload)
        hub = event["hub"]
        received = datetime.fromisoformat(hub["received_at"])
        line = Text(f"{received.astimezone():%H:%M:%S}.{received.microsecond // 1000:03d}  ", style="dim")
        line.append(f"{harmless(hub['camera']):<12}  ", style="not dim cyan")
        line.append(_found([*event.get("detected_objects", ()), *event.get("detected_faces", ())]), style="not dim")
        if hub["captured_at"] is not None:
            took = received - datetime.fromisoformat(hub["captured_at"])
            line.append(f"  {took.total_seconds() * 1000:.0f} ms")
    except (ValueError, KeyError, TypeError, AttributeError):
        return Text("something that is no event was published here", style="yellow")
    return line


def _found(detections: list[dict[str, Any]]) -> str:
    if not detections:
        return "nothing"
    by_name: dict[str, list[float]] = {}
    for detection in detections:
        by_name.setdefault(harmless(detection["name"]), []).append(detection["confidence"])
    shown = []
    for name, confidences in by_name.items():
        count = f"{len(confidences)} " if len(confidences) > 1 else ""
        shown.append(f"{count}{name} {' '.join(f'{value:.2f}' for value in sorted(confidences, reverse=True))}")
    return ", ".join(shown)
