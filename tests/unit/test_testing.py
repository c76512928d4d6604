"""The in-memory hub for users' tests has the events and keys of a real hub, and its consumers need no server."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

import pytest

from nvision_hub.testing import InMemoryHub
from tests.support import asyncapi

PERSON = {
    "name": "person",
    "parent": "human",
    "confidence": 0.5,
    "bounding_box": {"left": 10, "top": 20, "right": 110, "bottom": 220},
}


def test_an_event_matches_the_document_and_reaches_channel_and_stream() -> None:
    hub = InMemoryHub(site="depot")
    client: Any = hub.redis()
    subscription = client.pubsub(ignore_subscribe_messages=True)
    subscription.psubscribe("nvision:results:*")
    event = hub.publish("lobby", objects=[PERSON], labels={"floor": "1"})
    asyncapi.check("event", event)
    assert event["hub"]["id"] == event["frame_id"]
    assert (event["hub"]["site"], event["hub"]["camera"], event["hub"]["labels"]) == ("depot", "lobby", {"floor": "1"})
    assert event["detected_objects"] == [PERSON]
    received = [subscription.get_message() for _ in range(2)]  # the first call returns the subscription's confirmation
    (message,) = filter(None, received)
    assert message["channel"] == b"nvision:results:lobby"
    ((_, fields),) = client.xrange("nvision:results")
    assert fields == {b"camera": b"lobby", b"event": message["data"]}
    assert json.loads(message["data"]) == event


def test_each_camera_counts_its_own_frames() -> None:
    hub = InMemoryHub()
    events = [hub.publish(camera) for camera in ("lobby", "gate", "lobby")]
    assert [event["hub"]["sequence"] for event in events] == [1, 1, 2]
    assert len({event["hub"]["id"] for event in events}) == 3


def test_publishing_faces_creates_a_face_detection_event() -> None:
    event = InMemoryHub().publish("lobby", faces=[{"name": "face", "confidence": 0.5}], service="face-detection")
    asyncapi.check("event", event)
    assert [face["name"] for face in event["detected_faces"]] == ["face"]


def test_a_consumer_group_of_an_asyncio_program_reads_every_result() -> None:
    async def consume(hub: InMemoryHub) -> list[str]:
        client: Any = hub.async_redis(decode_responses=True)
        async with client:
            await client.xgroup_create("nvision:results", "archive", id="0", mkstream=True)
            sent = [hub.publish("lobby")["hub"]["id"] for _ in range(3)]
            ((_, entries),) = await client.xreadgroup("archive", "one", {"nvision:results": ">"})
            assert [json.loads(fields["event"])["hub"]["id"] for _, fields in entries] == sent
            return sent

    assert len(set(asyncio.run(consume(InMemoryHub())))) == 3


def test_an_unknown_field_of_a_detection_is_an_error() -> None:
    with pytest.raises(ValueError, match='no field named "score"'):
        InMemoryHub().publish("lobby", objects=[{"name": "person", "score": 0.5}])


def test_the_example_in_the_guide_passes() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "consumers.md").read_text()
    (example,) = (code for code in re.findall(r"```python\n(.*?)```", guide, re.DOTALL) if "InMemoryHub" in code)
    names: dict[str, Any] = {}
    exec(example, names)  # noqa: S102 - a program of this project
    names["test_a_person_is_stored"]()
