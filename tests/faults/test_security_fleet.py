"""A program that writes to the Redis of several hubs: its records, commands and addresses have no effect."""

from __future__ import annotations

import json
import re
import socketserver
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import httpx2
import psutil
import pytest
import redis

from nvision_hub.cluster.identity import CONTROL
from nvision_hub.runtime.messages import (
    AddCamera,
    Drain,
    Forward,
    Message,
    PauseCamera,
    RemoveCamera,
    RequestPreview,
    RestartProcess,
    SetCamera,
    encode,
)
from tests.support import command
from tests.support.forged_records import FORGED, valid_record
from tests.support.hubs import FLEET_KEY, announced_gateway, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.hubs import Hubs
    from tests.support.redis_server import DebianRedis

pytestmark = [pytest.mark.fault, pytest.mark.long]

LOBBY: Final = {"id": "lobby", "url": "rtsp://127.0.0.1:9/"}
YARD: Final = {"id": "yard", "url": "rtsp://127.0.0.1:9/"}
GROUP: Final = "any-1"
COMMANDS: Final[tuple[Message, ...]] = (
    PauseCamera(camera="lobby"),
    AddCamera(entry={"id": "evil", "url": "rtsp://127.0.0.1:9/"}),
    RemoveCamera(camera="lobby"),
    SetCamera(camera="lobby", values={"fps": 0.1}),
    RestartProcess(target="camera:lobby"),
    Forward(target="camera:lobby", message=RequestPreview(width=None, fps=60.0, duration_s=1e9)),
    Drain(),
)
NONSENSE: Final = (b"", b"\xff\xfe", b"PauseCamera", b"PauseCamera [1]", b"[" * 10_000, b"x" * 2_000_000)


class Site:
    """Two hubs, and a program that can write to their Redis."""

    def __init__(self, hubs: Hubs) -> None:
        self.hubs = hubs
        hubs.start(CONTROL, LOBBY, YARD)
        hubs.start(GROUP, LOBBY, YARD)
        wait_for(lambda: hubs.shown()["state"] == "unreachable")
        wait_for(lambda: {"relay@any-1", "hub@any-1"} <= self.pids().keys())
        self.attacker = redis.Redis.from_url(hubs.url)
        self.api = httpx2.Client(base_url=announced_gateway(self.attacker), trust_env=False, timeout=30.0)
        self.started = self.pids()

    def pids(self) -> dict[str, int]:
        """Return the pids of the fleet's processes that the gateway shows, except those of cameras."""
        with httpx2.Client(base_url=announced_gateway(self.hubs.redis), trust_env=False) as client:
            processes = client.get("/api/v1/hub").raise_for_status().json()["processes"]
        return {it["name"]: it["pid"] for it in processes if it["pid"] and not it["name"].startswith("camera:")}

    def rejected(self, kind: str, reason: str = "") -> float:
        """Return how many entries of a kind the fleet's processes have rejected, for one reason or for all."""
        pattern = rf'^nvision_hub_fleet_entries_rejected_total\{{.*kind="{kind}",reason="(?:{reason}).*\}} (\S+)$'
        text = self.api.get("/metrics").raise_for_status().text
        return sum(map(float, re.findall(pattern, text, re.MULTILINE)))

    def forge_until_rejected(self, records: list[bytes], *, process: str = "camera:lobby", reason: str = "") -> None:
        """Write each record in a group of its own, until the gateway has read and rejected all of them twice."""
        before = self.rejected("record", reason)

        def forge() -> bool:
            with self.attacker.pipeline() as pipe:
                for number, data in enumerate(records):
                    pipe.sadd("nvision:fleet", f"evil-{number}")
                    pipe.hset(f"nvision:fleet:evil-{number}", process, data)
                pipe.execute()
            return self.rejected("record", reason) >= before + 2 * len(records) + 1

        wait_for(forge)

    def attack_until_rejected(self, kind: str, key: str, attack: Callable[[Any], object]) -> None:
        """Replace a key until the gateway has read it. A hub may write to the key first."""
        before = self.rejected(kind)

        def replace() -> bool:
            with self.attacker.pipeline() as pipe:
                pipe.delete(key)
                attack(pipe)
                pipe.execute()
            return self.rejected(kind) > before

        wait_for(replace)

    def post(self, path: str) -> None:
        """Send a request to the API. On a busy machine, the reply of the other hub may be late."""
        wait_for(lambda: self.api.post(path).is_success)

    def paused(self) -> bool:
        return bool(self.hubs.shown()["paused"])

    def assert_undisturbed(self) -> None:
        """Assert that all processes still run, and that the hubs have neither another camera nor another setting."""
        wait_for(lambda: self.pids().items() >= self.started.items())  # a busy hub may report late
        assert all(process.poll() is None for process in self.hubs.processes.values())
        assert [camera["id"] for camera in self.api.get("/api/v1/cameras").raise_for_status().json()["cameras"]] == [
            "lobby",
            "yard",
        ]
        lobby = self.hubs.shown()
        assert (lobby["paused"], lobby["fps"], lobby["run_time"]["set"]) == (False, 5.0, {})
        assert not (self.hubs.folder / GROUP / ".nvision-hub" / "run-time.json").exists()
        assert all("Traceback" not in self.hubs.log(group) for group in self.hubs.processes)

    def close(self) -> None:
        self.attacker.close()
        self.api.close()


@pytest.fixture
def site(hubs: Hubs) -> Iterator[Site]:
    it = Site(hubs)
    yield it
    it.close()


@pytest.fixture
def site_without_key(hubs: Hubs) -> Iterator[Site]:
    hubs.fleet_key = None
    it = Site(hubs)
    yield it
    it.close()


def unsigned(kind: str, payload: bytes, addressee: str = "gateway") -> bytes:
    """Return a message in the form of a hub without a fleet key."""
    expiry = int((time.time() + 30) * 1000)
    return f"nvision-hub-1 {kind} {addressee} {expiry} {'0' * 32} -\n".encode() + payload


def unsigned_records(payloads: list[bytes], *, first: int = 0) -> list[bytes]:
    """Return records in the form of a hub without a fleet key, for the groups of `forge_until_rejected`."""
    return [unsigned("record", data, f"evil-{number}") for number, data in enumerate(payloads, first)]


def test_forged_commands_have_no_effect_and_signed_ones_work(site: Site) -> None:
    channel = f"nvision:fleet:{GROUP}:asks"
    forged = [encode(command) for command in COMMANDS]
    forged += [unsigned("command", data, "0" * 32) for data in forged]
    forged += NONSENSE
    lobby = site.hubs.shown()["worker"]["pid"]
    for data in forged:
        assert site.attacker.publish(channel, data) == 1
    site.attacker.publish("nvision:fleet:replies", b'Reply {"request_id": "x", "error": null}')
    wait_for(lambda: site.rejected("command") == len(forged))
    wait_for(lambda: site.rejected("reply") == 1)
    site.assert_undisturbed()
    assert site.hubs.shown()["worker"]["pid"] == lobby

    # A signed command works. A copy of the command, or a changed copy, does not.
    with site.attacker.pubsub() as pubsub:  # type: ignore[no-untyped-call]
        pubsub.subscribe(channel)
        assert pubsub.get_message(timeout=30.0)
        site.post("/api/v1/cameras/lobby/pause")
        wait_for(site.paused)
        copied = wait_for(lambda: next(pubsub.listen())["data"])
    assert b"PauseCamera" in copied
    site.post("/api/v1/cameras/lobby/resume")
    wait_for(lambda: not site.paused())
    site.attacker.publish(channel, copied)
    wait_for(lambda: site.rejected("command", "replayed") + site.rejected("command", "expired") == 1)
    site.attacker.publish(channel, copied.replace(b"lobby", b"yard"))
    wait_for(lambda: site.rejected("command", "bad_signature") == 1)
    assert not site.paused()
    assert not site.api.get("/api/v1/cameras/yard").json()["paused"]


def test_forged_records_have_no_effect(site: Site) -> None:
    members, before = f"nvision:fleet:{GROUP}", site.hubs.shown()
    signed = site.attacker.hget(members, "camera:lobby")
    assert isinstance(signed, bytes)
    renamed = signed.replace(b"lobby", b"yard").replace(b"unreachable", b"streaming")
    forged = [*FORGED.values(), valid_record("camera:lobby").encode()]
    site.forge_until_rejected([*forged, *unsigned_records(forged, first=len(forged))])
    site.forge_until_rejected([renamed], process="camera:yard", reason="bad_signature")
    assert site.api.get("/api/v1/cameras/yard").json()["state"] == "unreachable"
    site.assert_undisturbed()
    assert site.hubs.shown()["worker"]["pid"] == before["worker"]["pid"]


def test_a_copy_of_a_record_in_another_group_has_no_effect(site: Site) -> None:
    names = site.pids().keys()

    def copy() -> bool:
        if records := site.attacker.hgetall(f"nvision:fleet:{GROUP}"):
            with site.attacker.pipeline() as pipe:
                pipe.sadd("nvision:fleet", "aaa")  # this group comes before the group of the hub
                for name, record in records.items():
                    pipe.hset("nvision:fleet:aaa", name, record)
                pipe.execute()
        return site.rejected("record", "wrong_addressee") >= 2 * len(names)

    wait_for(copy)
    assert site.pids().keys() == names
    site.post("/api/v1/cameras/lobby/pause")
    wait_for(site.paused)


def test_keys_of_another_type_or_size_are_replaced(site: Site) -> None:
    members = f"nvision:fleet:{GROUP}"
    attacks: tuple[tuple[str, Callable[[Any], object]], ...] = (
        ("group", lambda pipe: pipe.set("nvision:fleet", "x")),
        ("group", lambda pipe: pipe.sadd("nvision:fleet", b"\xff\x1b[2J", "..", "x" * 100_000)),
        ("group", lambda pipe: pipe.sadd("nvision:fleet", *(f"evil-{number}" for number in range(2000)))),
        ("record", lambda pipe: pipe.rpush(members, "x")),
        ("record", lambda pipe: pipe.hset(members, "x" * 1_000_000, "x")),
        ("record", lambda pipe: pipe.hset(members, "camera:lobby", "x" * 10_000_000)),
        ("record", lambda pipe: pipe.hset(members, mapping={str(number): "x" for number in range(5000)})),
        ("record", lambda pipe: pipe.hset(members, mapping={str(number): "x" * 500_000 for number in range(90)})),
    )
    gateway = psutil.Process(site.started["gateway"])
    for kind, attack in attacks:
        site.attack_until_rejected(kind, "nvision:fleet" if kind == "group" else members, attack)
        wait_for(lambda: site.hubs.shown()["state"] == "unreachable")
    assert gateway.memory_info().rss < 500e6
    wait_for(lambda: {"relay@any-1", "hub@any-1"} <= site.pids().keys())
    site.assert_undisturbed()


def test_without_a_key_cameras_are_shown_and_commands_are_refused(site_without_key: Site) -> None:
    site = site_without_key
    refused = site.api.post("/api/v1/cameras/lobby/pause")
    assert refused.status_code == 409
    assert "set redis.fleet_key to the same secret" in refused.json()["detail"].replace("Set", "set")
    assert all("redis.fleet_key is not set" in site.hubs.log(group) for group in site.hubs.processes)
    for data in map(encode, COMMANDS):
        for message in (data, unsigned("command", data, "0" * 32)):
            site.attacker.publish(f"nvision:fleet:{GROUP}:asks", message)
    wait_for(lambda: site.rejected("command", "no_key") == 2 * len(COMMANDS))
    site.forge_until_rejected(unsigned_records([*FORGED.values()]), reason="malformed|too_large")
    site.assert_undisturbed()


class Attacker(socketserver.ThreadingTCPServer):
    """Server that records the requests of its clients."""

    allow_reuse_address = True
    daemon_threads = True

    def __init__(self) -> None:
        self.received: list[bytes] = []
        super().__init__(("127.0.0.1", 0), _Recorder)
        threading.Thread(target=self.serve_forever, daemon=True).start()


class _Recorder(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        assert isinstance(self.server, Attacker)
        self.server.received.append(self.request.recv(65536))


def cli(folder: Path, url: str, *arguments: str, **settings: Any) -> tuple[int, str]:
    """Run a command beside a cameras.yaml whose hub runs on other machines."""
    folder.mkdir(exist_ok=True)
    content = {
        "redis": {"url": url, **settings},
        "gateway": {"token": "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822c"},
        "cameras": [LOBBY],
    }
    (folder / "cameras.yaml").write_text(json.dumps(content), encoding="utf-8")
    done = command.run(*arguments, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def test_the_command_line_sends_no_token_to_a_forged_address(
    tmp_path: Path, debian_redis: Callable[..., DebianRedis]
) -> None:
    broker = debian_redis()
    with Attacker() as attacker, redis.Redis.from_url(broker.url) as client:
        address = f"http://127.0.0.1:{attacker.server_address[1]}".encode()
        signed = unsigned("address", address, "commands").replace(b" -\n", b" " + b"0" * 64 + b"\n")
        forged = (address, unsigned("address", address, "commands"), signed, b"\xff\x1b[2J", b"x" * 10_000_000)
        for value in forged:
            client.set("nvision:fleet:gateway", value)
            for settings in ({"fleet_key": FLEET_KEY}, {}):
                code, output = cli(tmp_path / "cli", broker.url, "status", **settings)
                assert code == 69, output
                assert "redis.fleet_key" in output or "is malformed" in output or "too large" in output
                assert output.count("\n") == 1
        attacker.shutdown()
        assert attacker.received == []


def test_the_command_line_uses_a_signed_address(site: Site, tmp_path: Path) -> None:
    url = site.hubs.url
    wait_for(lambda: cli(tmp_path / "cli", url, "pause", "lobby", fleet_key=FLEET_KEY)[0] == 0)
    wait_for(site.paused)
    code, output = cli(tmp_path / "cli", url, "resume", "lobby")
    assert (code, "set redis.fleet_key" in output) == (69, True)
    code, output = cli(tmp_path / "cli", url, "resume", "lobby", fleet_key=FLEET_KEY[::-1])
    assert (code, "its signature is wrong" in output) == (69, True)
    assert site.paused()
