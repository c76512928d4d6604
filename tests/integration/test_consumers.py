"""The programs in docs/consumers.md, with a real hub and with a broker that fails."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub.nvision import result_events
from nvision_hub.nvision.nvision_pb2 import NvisionRequest
from nvision_hub.nvision.result_events import EventOrigin, SentFrame, new_id, result_event
from tests.support import examples

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.hub import Hub
    from tests.support.redis_server import Server

STREAM: Final = "nvision:results"
GROUP: Final = "archive"
CONSUMER: Final = "worker-1"
PAGE: Final = examples.FOLDER.parent / "consumers.md"


def result(camera: str = "lobby") -> dict[str, Any]:
    """Return a result event in the hub's format."""
    answer = NvisionRequest(service_id="s", source_id=camera)
    answer.detected_objects.add(name="person", parent="human", confidence=0.75)
    sent = SentFrame(
        frame_id=new_id(),
        sequence=1,
        captured_at=1.0,
        sent_at=2.0,
        sent_mono=0.0,
        width=640,
        height=360,
        jpeg_bytes=4711,
    )
    origin = EventOrigin(site="test", camera=camera, labels={}, service="object-detection")
    return result_event(answer, sent, origin, received_at=3.0)


def add(client: redis.Redis, count: int, *, maxlen: int | None = None) -> list[str]:
    """Add `count` results to the stream. Return their ids."""
    made = [result() for _ in range(count)]
    for event in made:
        client.xadd(STREAM, {"camera": "lobby", "event": result_events.encode(event)}, maxlen=maxlen, approximate=False)
    return [event["hub"]["id"] for event in made]


@pytest.fixture
def client(redis_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


class Consumer:
    """One run of consume.py or consume.mjs, and the results that the program has handled."""

    def __init__(self, start: Callable[..., Running], name: str, url: str, folder: Path) -> None:
        self._database = folder / "results.db"
        self._is_python = name.endswith(".py")
        arguments = [self._database, GROUP, CONSUMER] if self._is_python else [GROUP, CONSUMER]
        self.running = start(name, *arguments, cwd=folder, redis_url=url)

    def handled(self) -> list[str]:
        """Return the ids of the handled results, in order."""
        if not self._is_python:
            return [line.split()[0] for line in self.running.out.splitlines() if " lobby " in line]
        if not self._database.exists():
            return []
        database = sqlite3.connect(self._database)
        try:
            return [row[0] for row in database.execute("SELECT id FROM results ORDER BY rowid")]
        except sqlite3.OperationalError:  # the table does not exist yet
            return []
        finally:
            database.close()

    def wait_for(self, ids: list[str]) -> None:
        self.running.wait_for(lambda: set(ids) <= set(self.handled()))


@pytest.fixture
def consume(start_example: Callable[..., Running], redis_server: Server, tmp_path: Path) -> Callable[[str], Consumer]:
    """Start a consumer: `consume("consume.py")`. The consumer connects over TCP, like a program on another machine."""
    return lambda name: Consumer(start_example, name, redis_server.consumer_url, tmp_path)


REDIS_PY = pytest.mark.peer("Redis client", "redis-py", "pypi:redis")
IOREDIS = pytest.mark.peer("Redis client", "ioredis", "npm:docs/examples:ioredis")
both = pytest.mark.parametrize(
    "name", [pytest.param("consume.py", marks=REDIS_PY), pytest.param("consume.mjs", marks=IOREDIS)]
)


def all_acknowledged(client: redis.Redis, consumer: Consumer) -> None:
    consumer.running.wait_for(lambda: pending(client) == 0)


def pending(client: redis.Redis) -> int:
    summary: Any = client.xpending(STREAM, GROUP)
    return int(summary["pending"])


def test_the_page_shows_every_program_unchanged() -> None:
    text = PAGE.read_text(encoding="utf-8")
    programs = [file for file in examples.FOLDER.iterdir() if file.suffix in {".py", ".mjs", ".js"}]
    assert len(programs) >= 5
    for program in programs:
        assert program.read_text(encoding="utf-8") in text, f"{PAGE.name} does not show {program.name} unchanged"


def test_results_of_a_hub_reach_every_consumer(
    start_hub: Callable[..., Hub], start_example: Callable[..., Running], tmp_path: Path
) -> None:
    hub = start_hub([{"id": "street", "url": "demo://street", "fps": 5}], None)
    where = hub.broker_url("consumer")
    listeners = [
        start_example(f"subscribe.{kind}", cwd=tmp_path, redis_url=hub.broker_url("reader")) for kind in ("py", "mjs")
    ]
    consumers = [
        start_example("consume.py", "results.db", GROUP, CONSUMER, cwd=tmp_path, redis_url=where),
        start_example("consume.mjs", "another", CONSUMER, cwd=tmp_path, redis_url=where),
    ]

    def received(running: Running) -> bool:
        return running.out.count("street ") >= 5

    for running in [*listeners, *consumers]:
        running.wait_for(partial(received, running))
    assert all("person 0." in running.out or "car 0." in running.out for running in listeners)


@both
def test_pending_results_of_a_crashed_consumer_come_first(
    client: redis.Redis, consume: Callable[[str], Consumer], name: str
) -> None:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    begun = add(client, 150)
    client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=150)  # read by a consumer that then crashed
    new = add(client, 3)
    consumer = consume(name)
    consumer.wait_for([*begun, *new])
    assert consumer.handled() == [*begun, *new]
    all_acknowledged(client, consumer)


@both
def test_duplicate_and_trimmed_results_are_handled(
    client: redis.Redis, consume: Callable[[str], Consumer], name: str
) -> None:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    add(client, 5)
    client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=5)
    kept = add(client, 3, maxlen=3)  # trims the five entries, which are still pending
    twice = json.dumps(result())
    for _ in range(2):
        client.xadd(STREAM, {"camera": "lobby", "event": twice})
    consumer = consume(name)
    consumer.wait_for([*kept, json.loads(twice)["hub"]["id"]])
    all_acknowledged(client, consumer)
    if name == "consume.py":
        assert consumer.handled() == [*kept, json.loads(twice)["hub"]["id"]]


@pytest.mark.long
def test_abandoned_results_of_another_consumer_are_claimed(
    client: redis.Redis, consume: Callable[[str], Consumer]
) -> None:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    ids = add(client, 4)
    answer: Any = client.xreadgroup(GROUP, "worker-2", {STREAM: ">"}, count=4)
    entries = [entry for entry, _ in answer[0][1]]
    client.xclaim(STREAM, GROUP, "worker-2", 0, entries, idle=61_000)  # pending for over a minute
    consumer = consume("consume.py")
    consumer.wait_for(ids)
    all_acknowledged(client, consumer)


@both
def test_consumers_survive_a_broker_restart_and_an_empty_broker(
    client: redis.Redis, redis_server: Server, consume: Callable[[str], Consumer], name: str
) -> None:
    consumer = consume(name)
    consumer.wait_for(add(client, 2))
    redis_server.kill()
    consumer.running.wait_for(lambda: "Redis unavailable" in consumer.running.out)
    redis_server.start()
    consumer.wait_for(add(client, 2))
    client.flushall()
    consumer.wait_for(add(client, 2))
    all_acknowledged(client, consumer)


@pytest.mark.parametrize("name", ["subscribe.py", "subscribe.mjs"])
def test_a_subscriber_reconnects_after_a_broker_restart(
    redis_server: Server,
    client: redis.Redis,
    start_example: Callable[..., Running],
    tmp_path: Path,
    name: str,
) -> None:
    running = start_example(name, cwd=tmp_path, redis_url=redis_server.consumer_url)

    def received(camera: str) -> bool:
        client.publish(f"nvision:results:{camera}", result_events.encode(result(camera)))
        return f"{camera} 1970-01-01T00:00:01.000Z person 0.75" in running.out

    running.wait_for(lambda: received("lobby"))
    redis_server.kill()
    running.wait_for(lambda: "Redis unavailable" in running.out)
    redis_server.start()
    running.wait_for(lambda: received("gate"))
