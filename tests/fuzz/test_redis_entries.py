"""Entries and messages in Redis, as webhooks, MQTT and the gateway read them: queue, result stream, channels.

Another program may have written them. Each input is read in every way: as an entry of a webhook's queue (a line about
the delivery and a body), as an entry of the result stream (a line with the camera and an event), and as a message.
"""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from nvision_hub.broker.client import RedisSettings
from nvision_hub.broker.webhook_admin import _letter
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.broker.webhook_queue import PLAIN_ID, Delivery
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision import result_events
from nvision_hub.nvision.received_events import ReceivedTrackEvent
from tests.fuzz.harness import json_values
from tests.support import track_events
from tests.support.dispatching import event, webhook
from workers.gateway.auth.identity import LOCAL
from workers.gateway.live.live_view import LiveView, _Viewer
from workers.gateway.live.preview_requests import PreviewRequest
from workers.gateway.live.pubsub import PubSubClient
from workers.mqtt.event_forwarder import RESULTS as RESULT_ENTRIES
from workers.mqtt.event_forwarder import TRACKS, _is_event
from workers.webhooks.stats import WebhookStats

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

ID: Final = "0199b2a0-0000-7000-8000-000000000000"
RESULT: Final = event(1, ("person", 0.9), ("car", 0.2))
DETECTION: Final = RESULT["detected_objects"][0]
TRACK_EVENT: Final = track_events.event()
TRACK: Final = TRACK_EVENT["data"]["track"]
NEWS: Final = {"kind": "loss", "id": ID, "site": "test", "camera": None, "what": "results", "count": 3}
ROW: Final = {"delivered": 1, "failed": 2, "dead": 3, "last_error": None, "last_delivery_at": "2026-11-22T14:00:00Z"}
FILTERS: Final = (
    WebhookFilter(),
    WebhookFilter(classes=frozenset({"person"}), min_confidence=0.5),
    WebhookFilter(events=frozenset({"track.updated"}), zones=frozenset({"bay"}), min_confidence=0.5),
)


def entry(head: bytes, value: object) -> bytes:
    return head + b"\n" + json.dumps(value).encode()


def queued(attempts: object, once: object, any_age: object, body: object) -> bytes:
    return entry(json.dumps({"attempts": attempts, "once": once, "any_age": any_age}).encode(), body)


def result(changes: dict[str, Any], detection: dict[str, Any], origin: dict[str, Any]) -> dict[str, Any]:
    detected = [{**DETECTION, **detection}, DETECTION]
    return {**RESULT, "detected_faces": detected, "hub": {**RESULT["hub"], **origin}, **changes}


SAMPLES: Final = (
    Delivery(id=ID, body=result_events.encode(RESULT), attempts=3).encode(),
    Delivery(id=ID, body=result_events.encode(event(2, faces=True)), once=True).encode(),
    Delivery(id=ID, body=result_events.encode(TRACK_EVENT), is_cloud_event=True, any_age=True).encode(),
    entry(b"lobby", RESULT),
    entry(b"dock", TRACK_EVENT),
    Delivery(id=ID, body=result_events.encode(TRACK_EVENT), is_cloud_event=True).encode(),
    *(json.dumps(each).encode() for each in (RESULT, NEWS, ROW, ID)),
)
TOKENS: Final = (
    b"[" * 2000,
    b'{"NaN":' + b"[" * 20_000,
    b'{"a":' * 500,
    b"\n",
    b"null",
    b"true",
    b"Infinity",
    b"\\ud800",
    b"\\u001b",
    b"1E400",
    b"-0.0",
    b"1001",
    b'"hub"',
    b"lobby",
)
VALUES: Final = json_values({}, [], [DETECTION], DETECTION["bounding_box"])
RESULTS: Final = st.builds(
    result,
    st.dictionaries(st.sampled_from([*RESULT, "cropped_image"]), VALUES, max_size=1),
    st.dictionaries(st.sampled_from([*DETECTION]), VALUES, max_size=1),
    st.dictionaries(st.sampled_from([*RESULT["hub"]]), VALUES, max_size=1),
)
BUILT: Final = st.one_of(
    st.builds(queued, st.integers(-1, 1001) | VALUES, st.booleans() | VALUES, st.booleans() | VALUES, RESULTS),
    st.builds(entry, st.sampled_from([b"lobby", b"ghost", b"", b"\xff", b"a:b", b"x" * 200]), RESULTS),
    RESULTS.map(json.dumps).map(str.encode),
    st.dictionaries(st.sampled_from([*TRACK]), VALUES, max_size=2)
    .map(lambda new: json.dumps({**TRACK_EVENT, "data": {**TRACK_EVENT["data"], "track": {**TRACK, **new}}}))
    .map(str.encode),
    st.dictionaries(st.sampled_from([*NEWS]), VALUES, max_size=3).map(lambda new: json.dumps({**NEWS, **new}).encode()),
    st.dictionaries(st.sampled_from([*ROW]), VALUES, max_size=3).map(lambda new: json.dumps({**ROW, **new}).encode()),
)


def check(data: bytes) -> None:
    head, _, body = data.partition(b"\n")
    check_queue(data)
    for camera, payload in ((head, body), (b"lobby", data)):
        check_stream(camera, payload)
    check_channels(data)
    shown = _letter(b"1-0", {b"webhook": b"alarms", b"id": head, b"attempts": head, b"event": body, b"reason": data})
    json.dumps(shown, allow_nan=False)
    check_row(data)


def check_queue(data: bytes) -> None:
    """Read the data as an entry of a webhook's queue, and as the id of an entry."""
    with contextlib.suppress(ValueError):
        found = Delivery.decode(data.decode("ascii", errors="surrogateescape"), SAMPLES[0])
        assert PLAIN_ID.fullmatch(found.id)
    try:
        delivery = Delivery.decode(ID, data)
    except ValueError:
        return
    assert Delivery.decode(ID, delivery.encode()) == delivery
    assert 0 <= delivery.attempts <= 1000
    delivery.is_expired(0.0, 1.0)
    check_event(delivery.body)


def check_stream(camera: bytes, payload: bytes) -> None:
    """Parse the data as a stream entry, once as the webhook worker does and once as the MQTT worker does."""
    for each in FILTERS:
        try:
            deliveries = [each.apply(stream, camera.decode(), payload) for stream in each.streams]
        except ValueError:
            continue
        for delivery in filter(None, deliveries):
            assert PLAIN_ID.fullmatch(delivery.id)
            check_event(delivery.body)
    for kind in (RESULT_ENTRIES, TRACKS):
        if _is_event({b"camera": camera, b"event": payload}, kind):
            check_event(payload)


def check_channels(data: bytes) -> None:
    """Receive the data as a message on each channel, as the gateway does for a viewer of the camera."""
    meter = Meter()
    pubsub = PubSubClient(RedisSettings(url="redis://127.0.0.1:9", prefix="p", max_entries=1), meter)
    view = LiveView(None, pubsub, None, None)  # type: ignore[arg-type]  # messages of Redis use none of them
    viewer = _Viewer(principal=LOCAL, request=PreviewRequest(cameras=frozenset({"lobby"})))
    view.viewers.add(viewer)
    names = ("results:lobby", "previews:lobby", "events")
    for name in names:
        view._on_message(f"p:{name}", data)
    messages = list(viewer.pop_messages())
    for message in messages:
        if isinstance(message, str):
            assert isinstance(json.loads(message, parse_constant=reject)["event"], dict)
            message.encode()
    rejected = meter.value(catalogue.REDIS_ENTRIES_REJECTED_TOTAL, source="channel")
    assert rejected + len(messages) == len(names)


def check_row(data: bytes) -> None:
    """Restore the data as the saved row of a webhook."""
    stats = WebhookStats(webhook("alarms", "http://127.0.0.1:9/"), Meter())
    stats.restore(data)
    assert min(stats.row.delivered, stats.row.failed, stats.row.dead) >= 0


def check_event(data: bytes) -> None:
    """Assert that a consumer receives an event of the documented form."""
    found = json.loads(data, parse_constant=reject)
    with contextlib.suppress(ValueError):
        track = ReceivedTrackEvent.parse(data).data.track
        assert found["data"]["track"]["class"] == track.class_name
        return
    assert isinstance(found["hub"]["id"], str)
    for detection in (*found.get("detected_objects", ()), *found.get("detected_faces", ())):
        assert isinstance(detection["name"], str)


def reject(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_redis_entries(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
