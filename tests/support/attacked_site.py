"""One hub with healthy peers, measurements of their rates during attacks, and a search for the hub's secrets."""

from __future__ import annotations

import base64
import json
import re
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from tests.support import clips, command
from tests.support.hub import write
from tests.support.patience import PATIENCE_S
from tests.support.secret_search import USER, SecretSearch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.mosquitto import Mosquitto
    from tests.support.receiver import Receiver
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.rtsp import GstCamera

SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
HEALTHY: Final = ("door", "hall", "lobby", "yard")
GUEST: Final = "guest"  # the camera whose service is hostile
FPS: Final = 1.0
MIN_WINDOW_S: Final = 15.0  # several times the duration of the longest attack's peak on a busy machine
MIN_SHARE: Final = 0.5  # fraction of the rate before the attacks; low, because the machine may be busy
_WEBHOOK: Final = ("webhookSecret", "otherWebhookSecret")
SECRETS: Final[dict[str, str]] = {
    **{name: f"{name}Kx81vQ{name}Zw47mT" for name in ("cameraPassword", "addedPassword", "redis", "mqtt")},
    **{name: f"{name}Rf52pL{name}5f0c8e2b7d94413a" for name in ("key", "guestKey", "gateway", "view", "callback")},
    **{name: base64.b64encode(f"{name}OfThirtyTwoBytes!!!".encode()).decode() for name in _WEBHOOK},
}


@dataclass(kw_only=True)
class AttackedSite:
    """A running hub. `rates` contains, by attack, the frames per second that each healthy camera sent."""

    folder: Path
    running: Running
    client: httpx2.Client  # uses the token of the role `admin`
    receiver: Receiver
    mosquitto: Mosquitto
    redis: redis.Redis | None  # client of the shared Redis; None with the embedded broker
    rates: dict[str, dict[str, float]] = field(default_factory=dict)
    search: SecretSearch = field(default_factory=lambda: SecretSearch(secrets=SECRETS))
    before: dict[str, tuple[int, int]] = field(default_factory=dict)
    _live: list[str] = field(default_factory=list)

    @property
    def state_dir(self) -> Path:
        return self.folder / "state"

    @property
    def url(self) -> str:
        """URL of the gateway."""
        return str(self.client.base_url).rstrip("/")

    def get(self, path: str) -> Any:
        """Return the JSON of an API route."""
        return self.client.get(path).raise_for_status().json()

    def search_api(self, *paths: str) -> None:
        """Search the responses of the gateway for secrets."""
        for path in paths:
            answer = self.client.get(path).raise_for_status()
            self.search.search(path, f"{answer.headers}{answer.text}")

    def counts(self, metric: str, label: str) -> dict[str, float]:
        """Return the values of a counter in the metrics, by one label. No other label may occur more than once."""
        text = self.client.get("/metrics").raise_for_status().text
        found = re.findall(rf'^nvision_hub_{metric}\{{.*{label}="([^"]+)".*\}} (\S+)$', text, re.MULTILINE)
        return {name: float(value) for name, value in found}

    def frames_sent(self) -> dict[str, float]:
        """Return each camera's counter of sent frames."""
        return self.counts("frames_sent_total", "camera")

    def rejected(self) -> float:
        """Return the number of Redis entries that the hub has rejected."""
        return sum(self.counts("redis_entries_rejected_total", "source").values())

    def received(self) -> tuple[float, ...]:
        """Return the number of messages of each healthy receiver: the webhook, the MQTT broker and the viewer."""
        published = self.counts("mqtt_published_total", "outcome").get("published", 0.0)
        return len(self.receiver.accepted()), published, len(self._live)

    def processes(self) -> dict[str, tuple[int, int]]:
        """Return the pid and the number of restarts of each process of the hub."""
        processes = self.get("/api/v1/hub")["processes"]
        return {each["name"]: (each["pid"], sum(each["restarts"].values())) for each in processes}

    def error(self, camera: str) -> str:
        """Return a camera's error; empty if it has none."""
        return str(self.get(f"/api/v1/cameras/{camera}")["error"] or "")

    def wait_for(self, condition: Callable[[], object]) -> None:
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, self.running.err[-5000:]
            time.sleep(0.1)

    def settle(self) -> None:
        """Wait until all healthy peers receive messages. Record the processes, and start a viewer."""
        self.wait_for(lambda: all(self.frames_sent().get(camera, 0) >= 2 for camera in (*HEALTHY, GUEST)))
        self.wait_for(lambda: {each.event["hub"]["camera"] for each in self.receiver.deliveries()} >= {*HEALTHY})
        self.before = self.processes()
        threading.Thread(target=self._view, daemon=True).start()

    def _view(self) -> None:
        """Watch the healthy cameras like an open page, and record the messages."""
        with connect(self.url.replace("http", "ws") + "/api/v1/live", proxy=None, max_size=None) as socket:
            first = {"token": SECRETS["view"], "watch": [*HEALTHY, "ghost"], "width": 320, "fps": 1}
            socket.send(json.dumps(first))
            try:
                for message in socket:
                    if isinstance(message, str):
                        self._live.append(message)
            except ConnectionClosed:
                return

    def during(self, name: str, attack: Callable[[], None], *, done: Callable[[], object] = lambda: True) -> None:
        """Run an attack, and wait until `done` returns true. Assert that the healthy peers kept their rates.

        The measurement takes at least `MIN_WINDOW_S`, because some attacks continue after the call.
        """
        sent, received, began = self.frames_sent(), self.received(), time.monotonic()
        attack()
        self.wait_for(lambda: done() and time.monotonic() - began > MIN_WINDOW_S)
        after, took_s = self.frames_sent(), time.monotonic() - began
        self.rates[name] = {camera: (after[camera] - sent[camera]) / took_s for camera in HEALTHY}
        assert min(self.rates[name].values()) >= MIN_SHARE * FPS, (name, self.rates)
        self.wait_for(lambda: all(now > then for now, then in zip(self.received(), received, strict=True)))
        for path in ("/healthz", "/readyz"):
            assert httpx2.get(self.url + path, timeout=PATIENCE_S, trust_env=False).status_code == 200, (name, path)
        now = self.processes()
        assert now.items() >= self.before.items(), (name, self.before, now, self.running.err[-5000:])
        assert not any(restarts for _, restarts in now.values()), (name, now)
        self.search_api("/metrics", "/api/v1/hub", "/api/v1/cameras", "/api/v1/webhooks")

    def search_everything(self) -> None:
        """Search all outputs of the running hub. Then stop the hub, and search its files and logs."""
        cameras = [each["id"] for each in self.get("/api/v1/cameras")["cameras"]]
        parts = [f"cameras/{camera}{part}" for camera in cameras for part in ("", "/history")]
        self.search_api("/", "/api/openapi.json", *(f"/api/v1/{path}" for path in ("webhooks/dead-letters", *parts)))
        for arguments in (("status",), ("status", "--json"), ("check",), ("audit",), ("doctor", "--no-cameras")):
            done = command.run(*arguments, cwd=self.folder)
            self.search.search(f"`{arguments[0]}`", done.stdout + done.stderr)
        self.search.search("live view", "\n".join(self._live))
        self.search.search_processes(self.running.record_family())
        if self.redis is not None:
            for key in self.redis.keys("*"):
                self.search.search(f"Redis {key!r}", self.redis.dump(key) or b"")
        self.running.process.terminate()
        assert self.running.wait() == 0
        self.search.search("stdout and stderr of `start`", self.running.out + self.running.err)
        for file in (each for each in self.state_dir.rglob("*") if each.is_file()):
            if file.name != "run-time.json":  # skip the private file that restores added cameras
                self.search.search(str(file), file.read_bytes())
        assert "Traceback" not in self.running.err

    def lowest_rate(self) -> float:
        """Return the lowest rate of any healthy camera during an attack, as a fraction of the configured rate."""
        return min(rate for rates in self.rates.values() for rate in rates.values()) / FPS


@dataclass(frozen=True, kw_only=True)
class HealthyPeers:
    """The healthy peers of the hub, except its service."""

    cameras: GstCamera
    receiver: Receiver
    mosquitto: Mosquitto


@pytest.fixture
def healthy_peers(
    gst_camera: Callable[..., GstCamera], receiver: Callable[..., Receiver], mosquitto: Callable[..., Mosquitto]
) -> HealthyPeers:
    mounts = {f"/{name}": SMALL for name in (*HEALTHY, GUEST)}
    return HealthyPeers(
        cameras=gst_camera(mounts, user=USER, password=SECRETS["cameraPassword"]),
        receiver=receiver(),
        mosquitto=mosquitto(users=("hub", SECRETS["mqtt"])),
    )


@pytest.fixture
def attacked_site(
    open_folder: Path,
    start_command: Callable[..., Running],
    recorder: Callable[..., Recorder],
    healthy_peers: HealthyPeers,
) -> Iterator[Callable[..., AttackedSite]]:
    """Start a hub: `attacked_site(shared=debian_redis(password=...), guest=service, webhook=url)`. See `AttackedSite`.

    Without `shared`, the hub has an embedded broker. `guest` is the service of the fifth camera, and `webhook` the URL
    of a second webhook.
    """
    started: list[AttackedSite] = []

    def start(
        *, shared: DebianRedis | None = None, guest: Recorder | None = None, webhook: str | None = None
    ) -> AttackedSite:
        healthy, mqtt = healthy_peers.receiver, healthy_peers.mosquitto
        # `defaults` contains the user name and the password of the cameras.
        cameras: list[dict[str, Any]] = [
            {"id": name, "url": f"rtsp://127.0.0.1:{healthy_peers.cameras.port}/{name}"} for name in (*HEALTHY, GUEST)
        ]
        cameras[-1]["nvision"] = {"url": (guest or recorder()).url, "streaming_key": SECRETS["guestKey"]}
        hooks = {"healthy": healthy.url(), "hostile": webhook or healthy.url("/other")}
        write(
            open_folder,
            cameras,
            None,
            nvision={"url": "local", "streaming_key": SECRETS["key"]},
            defaults={"username": USER, "password": SECRETS["cameraPassword"], "fps": FPS},
            gateway={
                "listen": "127.0.0.1:0",
                "token": SECRETS["gateway"],
                "tokens": {"wall": {"role": "view", "token": SECRETS["view"]}},
                "callback_token": SECRETS["callback"],
            },
            redis={"url": "embedded", "embedded_port": 0} if shared is None else {"url": shared.url},
            mqtt={"url": mqtt.url, "username": "hub", "password": SECRETS["mqtt"]},
            webhooks=[
                {"id": name, "url": url, "secret": f"whsec_{SECRETS[secret]}", "allow_private": True}
                for (name, url), secret in zip(hooks.items(), _WEBHOOK, strict=True)
            ],
        )
        (open_folder / "cameras.yaml").chmod(0o600)
        running = start_command("start", cwd=open_folder)
        running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
        url = re.findall(r"gateway listening at (\S+)", running.err)[-1]
        headers = {"authorization": f"Bearer {SECRETS['gateway']}"}
        site = AttackedSite(
            folder=open_folder,
            running=running,
            client=httpx2.Client(base_url=url, headers=headers, timeout=PATIENCE_S, trust_env=False),
            receiver=healthy,
            mosquitto=mqtt,
            redis=None if shared is None else redis.Redis.from_url(shared.url),
        )
        started.append(site)
        site.settle()
        return site

    yield start
    for site in started:
        site.client.close()
        if site.redis is not None:
            site.redis.close()
