"""In-memory hub without Redis, for tests of programs that read results (`pip install 'nvision-hub[testing]'`).

    def test_my_consumer_stores_a_person():
        hub = InMemoryHub()
        event = hub.publish("lobby", objects=[{"name": "person", "confidence": 0.9}])
        my_consumer.run_once(hub.redis())
        assert my_consumer.stored == [event["hub"]["id"]]

`InMemoryHub` writes to the same channels and the same stream as a running hub, with the same commands.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from google.protobuf import json_format

from nvision_hub.broker.client import publish_commands
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.config.redis_section import Redis
from nvision_hub.nvision.nvision_pb2 import NvisionRequest
from nvision_hub.nvision.result_events import EventOrigin, SentFrame, encode, new_id, result_event

try:
    import fakeredis
except ImportError as error:
    raise ImportError(
        "nvision_hub.testing needs fakeredis; install it with: pip install 'nvision-hub[testing]'"
    ) from error

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from nvision_hub.config.value_types import ServiceName


class InMemoryHub:
    """Hub without cameras. The test publishes the results.

    `prefix` and `max_entries` are `redis.prefix` and `redis.stream_max_entries` of cameras.yaml.
    """

    def __init__(
        self,
        site: str = "test",
        *,
        prefix: str = Redis().prefix,
        max_entries: int = Redis().stream_max_entries,
    ) -> None:
        self._server = fakeredis.FakeServer()
        self._site = site
        self._prefix = prefix
        self._max_entries = max_entries
        self._sequences: dict[str, int] = {}

    def redis(self, **options: Any) -> fakeredis.FakeRedis:
        """Return a client of the fake Redis. `options` are those of `redis.Redis`, for example `decode_responses`."""
        return fakeredis.FakeRedis(server=self._server, **options)

    def async_redis(self, **options: Any) -> fakeredis.FakeAsyncRedis:
        """Return an asyncio client of the fake Redis. `options` are those of `redis.asyncio.Redis`."""
        return fakeredis.FakeAsyncRedis(server=self._server, **options)

    def publish(
        self,
        camera: str,
        *,
        objects: Sequence[Mapping[str, Any]] = (),
        faces: Sequence[Mapping[str, Any]] = (),
        labels: Mapping[str, str] | None = None,
        service: ServiceName = "object-detection",
        size: tuple[int, int] = (1280, 720),
        captured_at: float | None = None,
    ) -> dict[str, Any]:
        """Publish one result of `camera`, and return the event that consumers receive.

        Each detection is a mapping as in an event: `name`, `parent`, `confidence`, and `bounding_box` in pixels of a
        frame of `size` (width, height). A field that is absent becomes empty or 0. `captured_at` is in seconds since
        the epoch; None means now. Raises `ValueError` for an invalid detection.
        """
        now = time.time()
        captured_at = now if captured_at is None else captured_at
        self._sequences[camera] = self._sequences.get(camera, 0) + 1
        try:
            result = json_format.ParseDict(
                {"source_id": camera, "detected_objects": [*objects], "detected_faces": [*faces]}, NvisionRequest()
            )
        except json_format.ParseError as error:
            raise ValueError(f"not a detection: {error}") from error
        sent = SentFrame(
            frame_id=new_id(captured_at),
            sequence=self._sequences[camera],
            captured_at=captured_at,
            sent_at=now,
            sent_mono=time.monotonic(),
            width=size[0],
            height=size[1],
            jpeg_bytes=0,
        )
        origin = EventOrigin(site=self._site, camera=camera, labels=dict(labels or {}), service=service)
        event = result_event(result, sent, origin, received_at=now)
        outgoing = OutgoingEvent(id=sent.frame_id, camera=camera, payload=encode(event), received_at=now)
        with self.redis() as client, client.pipeline(transaction=True) as transaction:
            for command in publish_commands([outgoing], prefix=self._prefix, max_entries=self._max_entries):
                transaction.execute_command(*command)
            transaction.execute()
        return event
