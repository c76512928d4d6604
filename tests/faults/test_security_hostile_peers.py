"""All hostile peers of a hub, one after another: the healthy peers of the same hub do not notice.

The hub has four healthy cameras with the local service, a healthy webhook, an MQTT broker and a viewer of its page.
"""

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from websockets.exceptions import InvalidStatus
from websockets.sync.client import connect
from websockets.typing import Origin

from nvision_hub.runtime.messages import encode
from tests.faults.test_security_broker import ATTACKER, COMMANDS, READER, SILENT
from tests.faults.test_security_connections import address_of, large_bodies
from tests.faults.test_security_fleet import COMMANDS as FLEET_COMMANDS
from tests.faults.test_security_large_frames import large_snapshots
from tests.faults.test_security_redis_entries import NOT_DELIVERIES, NOT_HUB_EVENTS, NOT_RESULTS
from tests.faults.test_source_hostile import CAMERA, fuzzed
from tests.support.attacked_site import GUEST, HEALTHY, MIN_SHARE, SECRETS, attacked_site, healthy_peers
from tests.support.connections import ConnectionFlood
from tests.support.forged_records import FORGED
from tests.support.hostile_endpoint import HostileEndpoint, hostile_endpoint
from tests.support.mosquitto import mosquitto
from tests.support.other_user import open_folder, run_as_other_user
from tests.support.reliability import measured
from tests.support.secret_search import USER

if TYPE_CHECKING:
    from collections.abc import Callable

    import redis

    from tests.support.attacked_site import AttackedSite
    from tests.support.http_camera import HttpCamera
    from tests.support.line import Line
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.rtsp import GstCamera
    from tests.support.scripted_camera import ScriptedCamera

pytestmark = [pytest.mark.fault, pytest.mark.long]

__all__ = ["attacked_site", "healthy_peers", "hostile_endpoint", "large_snapshots", "mosquitto", "open_folder"]

MALFORMED: Final[dict[str, tuple[bytes, ...]]] = {
    "endless": (b"200 OK", b"Content-Length: " + b"9" * 5000),
    "auth-int": (b"401 No", b'WWW-Authenticate: Digest realm="r", nonce="n", qop="auth-int"', b"Content-Length: 0"),
    "basic": (b"401 No", b'WWW-Authenticate: Basic realm="r"', b"Content-Length: 0"),
}
RETRY_AFTER: Final = ("Wed, 21 Oct 99999999999 07:28:00 GMT", "-1", "1e9", ", 99 Foo -1 +9999")
ANSWERS: Final = ("garbage", "text", "unknown_frame", "not_a_number", "many_names", "twice", "unknown_enum", "oversize")
# Requests that a page of another site makes a browser send, or that no browser sends.
FOREIGN: Final[tuple[dict[str, str], ...]] = (
    {"host": "evil.example"},
    {"host": "evil.example:80"},
    {"host": "127.0.0.1.evil.example"},
    {"origin": "http://evil.example"},
    {"origin": "null"},
)
# A program that tries to use the ports of the hub without a token or key.
VISITOR: Final = """
import json, socket, sys
for port, path in json.loads(sys.argv[1]):
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(30)
        connection.sendall(b"GET %s HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\n\\r\\n" % path.encode())
        print(connection.recv(4096).split(b"\\r\\n")[0].decode())
"""


class HostileCameras:
    """Cameras that a client adds at run time. `spy` is the host to which they redirect."""

    def __init__(
        self,
        scripted: Callable[..., ScriptedCamera],
        http: Callable[..., HttpCamera],
        noise: Line,
        large: str,
    ) -> None:
        self.noise = noise
        self.spy = scripted(*MALFORMED["basic"], host="127.0.0.3")
        self.scripted = {name: scripted(*answer, host="127.0.0.2") for name, answer in MALFORMED.items()}
        location = f"127.0.0.3:{self.spy.port}/cam"
        moved = scripted(b"302 Found", f"Location: rtsp://{location}".encode(), b"Content-Length: 0", host="127.0.0.2")
        self.scripted["moved-rtsp"] = moved
        addresses = {name: f"127.0.0.2:{camera.port}/cam" for name, camera in self.scripted.items()}
        self.urls = {
            **{f"{name}-rtsp": f"rtsp://{addresses[name]}" for name in MALFORMED},
            **{f"{name}-http": f"http://{addresses[name]}" for name in MALFORMED},
            "moved-rtsp": f"rtsp://{addresses['moved-rtsp']}",
            "moved-http": http(redirect_to=f"http://{location}").url(),
            "noise": noise.url(),
            "large": large,
        }

    def add(self, site: AttackedSite) -> None:
        """Add each camera. Those with Digest have a password of their own."""
        for name, url in self.urls.items():
            entry: dict[str, Any] = {"id": name, "url": url, "fps": 0.5, "max_width": 320, "stall_timeout": 2}
            if name.startswith("auth-int"):
                entry |= {"username": USER, "password": SECRETS["addedPassword"]}
            answer = site.client.post("/api/v1/cameras", json=entry)
            assert answer.status_code == 201, answer.text
            site.search.search(f"POST of camera {name}", answer.text)

    def have_answered(self, site: AttackedSite) -> bool:
        return (
            self.noise.packets > 100
            and site.frames_sent().get("large", 0) >= 2
            and all(site.error(name) for name in self.urls if name not in {"noise", "large"})
        )


@pytest.fixture
def hostile_cameras(
    scripted_camera: Callable[..., ScriptedCamera],
    http_camera: Callable[..., HttpCamera],
    gst_camera: Callable[..., GstCamera],
    line: Callable[..., Line],
    large_snapshots: str,
) -> HostileCameras:
    return HostileCameras(scripted_camera, http_camera, line(gst_camera(CAMERA).port, fuzzed(0.3)), large_snapshots)


def misbehave(site: AttackedSite, service: Recorder) -> None:
    """Send the camera `guest` each invalid result, close its connections, and refuse new ones."""

    def behave(count: Callable[[], int], **behavior: Any) -> None:
        """Change the behavior, and wait until the count has increased twice: the first event may be an earlier one."""
        before = count()
        service.set_behavior(**behavior)
        site.wait_for(lambda: count() >= before + 2)

    def frames() -> int:
        return len(service.received(GUEST))

    def connections() -> int:
        return len(service.handshakes())

    for kind in ANSWERS:
        behave(frames, answer=kind, oversize_bytes=64 * 2**20)
    behave(connections, answer="detection", close_code=1011)
    for value in RETRY_AFTER:
        behave(connections, status=503, headers=[["Retry-After", value]])
    service.set_behavior(status=101, close_code=1008)  # the client then waits for minutes
    site.wait_for(lambda: "1008" in site.error(GUEST))


def answer_badly(site: AttackedSite, endpoint: HostileEndpoint) -> None:
    """Answer a delivery in each hostile way. A test event is sent in any state of the endpoint."""
    for kind in endpoint.answers:
        endpoint.kind, before = kind, len(endpoint.requests)
        site.client.post("/api/v1/webhooks/hostile/test").raise_for_status()
        site.wait_for(lambda before=before: len(endpoint.requests) > before)  # type: ignore[misc]


def forge(writer: redis.Redis) -> None:
    """Write what no hub writes to every kind of key and channel."""
    queues = [f"nvision:webhooks:{webhook}" for webhook in ("healthy", "hostile")]
    with writer.pipeline(transaction=False) as pipe:
        for number, data in enumerate((*NOT_RESULTS, *NOT_HUB_EVENTS, *NOT_DELIVERIES, *FORGED.values())):
            for channel in ("results:ghost", f"results:{HEALTHY[0]}", f"previews:{HEALTHY[0]}", "events"):
                pipe.publish(f"nvision:{channel}", data)
            pipe.xadd("nvision:results", {"camera": HEALTHY[0], "event": data})
            pipe.xadd("nvision:results", {"camera": b"\xff\x1b[2J", "other": data})
            for queue in queues:
                pipe.hset(f"{queue}:waiting", f"forged-{number}", data)
                pipe.hset(f"{queue}:waiting", data[:1000], data)
                pipe.zadd(f"{queue}:due", {f"forged-{number}": number % 3})
                pipe.zadd(f"{queue}:due", {data[:1000]: 1})
                pipe.hset(f"{queue}:state", "row", data)
            pipe.sadd("nvision:fleet", data[:1000])
            pipe.hset("nvision:fleet:any-1", f"camera:{HEALTHY[0]}", data)
            pipe.set("nvision:fleet:gateway", data)
            pipe.set("nvision:groups", data)
            pipe.xadd("nvision:audit", {"entry": data})
        for message in map(encode, FLEET_COMMANDS):
            for group in ("any-1", "control", "gateway"):
                pipe.publish(f"nvision:fleet:{group}:asks", message)
        pipe.execute()


def visit(site: AttackedSite) -> None:
    """Send the gateway cross-site requests, requests with a wrong token or none, and oversized requests."""
    right = {"authorization": f"Bearer {SECRETS['gateway']}"}
    host, port = address_of(site.url)
    with ConnectionFlood(address=(host, port), count=300) as idle:
        with httpx2.Client(base_url=site.url, timeout=60, trust_env=False) as page:
            for headers in FOREIGN:
                assert page.post("/api/v1/cameras/door/pause", headers={**right, **headers}).status_code == 403
            for token in ("x", "x" * 5000, SECRETS["gateway"][:-1], SECRETS["view"] + "x"):
                for _ in range(10):
                    answer = page.get("/api/v1/hub", headers={"authorization": f"Bearer {token}"})
                    assert answer.status_code in {401, 429}, answer.text
                    site.search.search("a refusal", f"{answer.headers}{answer.text}")
            view = {"authorization": f"Bearer {SECRETS['view']}"}
            assert page.delete("/api/v1/cameras/door", headers=view).status_code == 403
            for _, content in large_bodies():
                answer = page.post("/api/v1/cameras", content=content, headers=right)
                assert answer.status_code == 413, answer.text
            assert page.post("/callback/guess", content=b"{}").status_code in {401, 429}
        with pytest.raises(InvalidStatus):
            connect(f"ws://{host}:{port}/api/v1/live", origin=Origin("http://evil.example"), proxy=None)
        idle.refill()
    with socket.create_connection((host, port), timeout=60) as connection:
        connection.sendall(b"\x16\x03\x01\x00\xff" * 1000)


def trespass(site: AttackedSite) -> None:
    """Read files and processes as another user, and use the ports of the hub."""
    endpoints = json.loads((site.state_dir / "hub.json").read_text(encoding="utf-8"))
    service = int(endpoints["service"].split(":")[2].split("/")[0])
    paths = [(address_of(site.url)[1], path) for path in ("/metrics", "/api/v1/cameras")]
    paths.append((service, "/api/v1/object-detection"))
    refused = run_as_other_user(VISITOR, json.dumps(paths)).splitlines()
    assert [line.split()[1] for line in refused[:2]] == ["401", "401"]
    assert refused[2].split()[1] != "101", refused
    shown = run_as_other_user(READER, site.folder)
    assert "nvision-hub" in shown, "the other user reads the command lines"
    site.search.search("what another user reads", shown)


def test_healthy_peers_do_not_notice_hostile_ones(
    attacked_site: Callable[..., AttackedSite],
    debian_redis: Callable[..., DebianRedis],
    recorder: Callable[..., Recorder],
    hostile_endpoint: Callable[[str], HostileEndpoint],
    hostile_cameras: HostileCameras,
) -> None:
    cameras = hostile_cameras
    service, endpoint = recorder(), hostile_endpoint(f"http://127.0.0.3:{cameras.spy.port}/hook")
    site = attacked_site(shared=debian_redis(password=SECRETS["redis"]), guest=service, webhook=endpoint.url)
    assert site.redis is not None
    writer, rejected = site.redis, site.rejected()
    site.during("none", lambda: None)
    site.during("cameras", lambda: cameras.add(site), done=lambda: cameras.have_answered(site))
    site.during("service", lambda: misbehave(site, service))
    site.during("webhook", lambda: answer_badly(site, endpoint))
    site.during("Redis", lambda: forge(writer), done=lambda: site.rejected() - rejected > 10 * len(NOT_RESULTS))
    site.during("local user", lambda: trespass(site))
    site.during("gateway", lambda: visit(site))
    shown = [each["id"] for each in site.get("/api/v1/cameras")["cameras"]]
    assert set(shown) == {*HEALTHY, GUEST, *cameras.urls}
    site.search_everything()
    # The peers receive their own secrets only where the protocol sends them.
    assert {handshake.key for handshake in service.handshakes()} == {SECRETS["guestKey"], None}, "`doctor` sends no key"
    site.search.search("the hostile service", (service.folder / "messages.jsonl").read_bytes())
    site.search.search("the hostile endpoint", b"".join(endpoint.requests))
    for name, camera in cameras.scripted.items():
        site.search.search(f"camera {name}", b"\n".join(camera.requests))
    for delivery in site.receiver.deliveries():
        site.search.search("the healthy endpoint", json.dumps(delivery.headers) + delivery.body)
    assert site.search.found == []
    assert cameras.spy.requests == [], "no redirect is followed to another host"
    measured(
        80,
        "all hostile peers of one hub, one after another",
        injected=f"{len(cameras.urls)} hostile cameras, a hostile service, webhook endpoint, writer to the shared "
        "Redis, local user and client of the gateway",
        target=f"{len(HEALTHY)} healthy cameras send at least {MIN_SHARE:.0%} of their rate; webhook, MQTT and page "
        "continue; no process restarts; no secret appears",
        measured=f"at least {site.lowest_rate():.0%} of the rate; no process restarted; no secret in "
        f"{site.search.places} places, {site.search.size / 1e6:.0f} MB",
    )


def test_healthy_peers_do_not_notice_a_hostile_user_of_the_machine(
    attacked_site: Callable[..., AttackedSite],
) -> None:
    site = attacked_site()
    endpoints = json.loads((site.state_dir / "hub.json").read_text(encoding="utf-8"))
    port = endpoints["redis"].rpartition(":")[2].partition("/")[0]
    addresses = json.dumps([["127.0.0.1", int(port)], endpoints["redis_socket"]])
    passwords = json.loads((site.state_dir / "broker" / "passwords.json").read_text(encoding="utf-8"))
    reads: list[str] = []

    def attack() -> None:
        replies = run_as_other_user(ATTACKER, addresses, json.dumps(COMMANDS)).splitlines()
        assert len(replies) == 2 * len(COMMANDS)
        assert all(reply.startswith(("-NOAUTH", "-WRONGPASS", "PermissionError")) for reply in replies), replies
        assert run_as_other_user(SILENT, port).split() == ["open", "closed"]
        reads.append(run_as_other_user(READER, site.folder))
        trespass(site)

    site.during("none", lambda: None)
    site.during("local user", attack)
    assert not any(password in reads[0] for password in passwords.values())
    site.search_everything()
    assert site.search.found == []
    measured(
        80,
        "a hostile user of the hub's machine, with the embedded broker",
        injected=f"{len(COMMANDS)} commands to each address of the broker, 300 silent connections, all readable files "
        "and processes, requests to gateway and service",
        target="all rejected; healthy cameras keep their rate; no process restarts; no secret appears",
        measured=f"all rejected; at least {site.lowest_rate():.0%} of the rate; no process restarted; no secret found",
    )
