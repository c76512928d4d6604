"""The programs of docs/consumers.md, run as their readers run them, against a real hub and a broker that is hurt."""

from __future__ import annotations

import json
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis

from nvision_hub import events
from nvision_hub.events import Origin, Sent, new_id, result_event
from nvision_hub.wire import NvisionRequest
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
    """An event as the hub makes it."""
    answer = NvisionRequest(service_id="s", source_id=camera)
    answer.detected_objects.add(name="person", parent="human", confidence=0.75)
    sent = Sent(
        frame_id=new_id(),
        sequence=1,
        captured_at=1.0,
        sent_at=2.0,
        sent_mono=0.0,
        width=640,
        height=360,
        jpeg_bytes=4711,
    )
    origin = Origin(site="test", camera=camera, labels={}, service="object-detection")
    return result_event(answer, sent, origin, received_at=3.0)


def add(client: redis.Redis, count: int, *, maxlen: int | None = None) -> list[str]:
    """Add so many results to the stream; their ids."""
    made = [result() for _ in range(count)]
    for event in made:
        client.xadd(STREAM, {"camera": "lobby", "event": events.encode(event)}, maxlen=maxlen, approximate=False)
    return [event["hub"]["id"] for event in made]


@pytest.fixture
def client(redis_server: Server) -> Iterator[redis.Redis]:
    with redis.Redis.from_url(redis_server.url, decode_responses=True) as client:
        yield client


class Consumer:
    """One run of consume.py or consume.mjs, and what it has handled."""

    def __init__(self, start: Callable[..., Running], name: str, url: str, folder: Path) -> None:
        self._database = folder / "results.db"
        self._is_python = name.endswith(".py")
        arguments = [self._database, GROUP, CONSUMER] if self._is_python else [GROUP, CONSUMER]
        self.running = start(name, *arguments, cwd=folder, redis_url=url)

    def handled(self) -> list[str]:
        """The ids of the results it has handled, in order."""
        if not self._is_python:
            return [line.split()[0] for line in self.running.out.splitlines() if " lobby " in line]
        if not self._database.exists():
            return []
        database = sqlite3.connect(self._database)
        try:
            return [row[0] for row in database.execute("SELECT id FROM results ORDER BY rowid")]
        except sqlite3.OperationalError:  # its table is not there yet
            return []
        finally:
            database.close()

    def wait_for(self, ids: list[str]) -> None:
        self.running.wait_for(lambda: set(ids) <= set(self.handled()))


@pytest.fixture
def consume(start_example: Callable[..., Running], redis_server: Server, tmp_path: Path) -> Callable[[str], Consumer]:
    """Start one: `consume("consume.py")`. It dials TCP, as a program elsewhere would."""
    return lambda name: Consumer(start_example, name, redis_server.url, tmp_path)


both = pytest.mark.parametrize("name", ["consume.py", "consume.mjs"])


def all_acknowledged(client: redis.Redis, consumer: Consumer) -> None:
    consumer.running.wait_for(lambda: pending(client) == 0)


def pending(client: redis.Redis) -> int:
    summary: Any = client.xpending(STREAM, GROUP)
    return int(summary["pending"])


def test_the_page_shows_every_program_as_it_is() -> None:
    text = PAGE.read_text(encoding="utf-8")
    programs = [file for file in examples.FOLDER.iterdir() if file.suffix in {".py", ".mjs", ".js"}]
    assert len(programs) >= 5
    for program in programs:
        assert program.read_text(encoding="utf-8") in text, f"{PAGE.name} does not show {program.name} as it is"


def test_results_of_a_hub_reach_them_all(
    start_hub: Callable[..., Hub], start_example: Callable[..., Running], tmp_path: Path
) -> None:
    hub = start_hub([{"id": "street", "url": "demo://street", "fps": 5}], None)
    where = hub.addresses["redis"]
    listeners = [start_example(f"subscribe.{kind}", cwd=tmp_path, redis_url=where) for kind in ("py", "mjs")]
    consumers = [
        start_example("consume.py", "results.db", GROUP, CONSUMER, cwd=tmp_path, redis_url=where),
        start_example("consume.mjs", "another", CONSUMER, cwd=tmp_path, redis_url=where),
    ]

    def heard(running: Running) -> bool:
        return running.out.count("street ") >= 5

    for running in [*listeners, *consumers]:
        running.wait_for(partial(heard, running))
    assert all("person 0." in running.out or "car 0." in running.out for running in listeners)


@both
def test_what_was_begun_before_a_crash_comes_first(
    client: redis.Redis, consume: Callable[[str], Consumer], name: str
) -> None:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    begun = add(client, 150)
    client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=150)  # handed out to a consumer that then died
    new = add(client, 3)
    consumer = consume(name)
    consumer.wait_for([*begun, *new])
    assert consumer.handled() == [*begun, *new]
    all_acknowledged(client, consumer)


@both
def test_a_result_that_comes_twice_and_one_that_was_trimmed(
    client: redis.Redis, consume: Callable[[str], Consumer], name: str
) -> None:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    add(client, 5)
    client.xreadgroup(GROUP, CONSUMER, {STREAM: ">"}, count=5)
    kept = add(client, 3, maxlen=3)  # the five are pending still, and gone
    twice = json.dumps(result())
    for _ in range(2):
        client.xadd(STREAM, {"camera": "lobby", "event": twice})
    consumer = consume(name)
    consumer.wait_for([*kept, json.loads(twice)["hub"]["id"]])
    all_acknowledged(client, consumer)
    if name == "consume.py":
        assert consumer.handled() == [*kept, json.loads(twice)["hub"]["id"]]


@pytest.mark.long
def test_what_another_consumer_has_abandoned_is_taken_over(
    client: redis.Redis, consume: Callable[[str], Consumer]
) -> None:
    client.xgroup_create(STREAM, GROUP, id="0", mkstream=True)
    ids = add(client, 4)
    answer: Any = client.xreadgroup(GROUP, "worker-2", {STREAM: ">"}, count=4)
    entries = [entry for entry, _ in answer[0][1]]
    client.xclaim(STREAM, GROUP, "worker-2", 0, entries, idle=61_000)  # as if it had them for a minute
    consumer = consume("consume.py")
    consumer.wait_for(ids)
    all_acknowledged(client, consumer)


@both
def test_a_broker_that_restarts_and_one_that_comes_back_empty(
    client: redis.Redis, redis_server: Server, consume: Callable[[str], Consumer], name: str
) -> None:
    consumer = consume(name)
    consumer.wait_for(add(client, 2))
    redis_server.kill()
    consumer.running.wait_for(lambda: "no Redis" in consumer.running.out)
    redis_server.start()
    consumer.wait_for(add(client, 2))
    client.flushall()
    consumer.wait_for(add(client, 2))
    all_acknowledged(client, consumer)


@pytest.mark.parametrize("name", ["subscribe.py", "subscribe.mjs"])
def test_a_subscriber_is_back_after_its_broker(
    redis_server: Server,
    client: redis.Redis,
    start_example: Callable[..., Running],
    tmp_path: Path,
    name: str,
) -> None:
    running = start_example(name, cwd=tmp_path, redis_url=redis_server.url)

    def heard(camera: str) -> bool:
        client.publish(f"nvision:results:{camera}", events.encode(result(camera)))
        return f"{camera} 1970-01-01T00:00:01.000Z person 0.75" in running.out

    running.wait_for(lambda: heard("lobby"))
    redis_server.kill()
    running.wait_for(lambda: "no Redis" in running.out)
    redis_server.start()
    running.wait_for(lambda: heard("gate"))
