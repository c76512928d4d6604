"""The MQTT bridge of a real hub on a real broker: results, retained states, and recovery from faults."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.errors import EXIT_UNAVAILABLE
from nvision_hub.runtime.status import CameraState
from tests.support import asyncapi, command, files, needs

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.hub import Hub
    from tests.support.mosquitto import Mosquitto, Subscriber
    from tests.support.recorder import Recorder

pytestmark = pytest.mark.long


MOSQUITTO = pytest.mark.peer("MQTT broker", "Mosquitto", "debian:mosquitto")
STREET = {"id": "street", "name": "Main street", "url": "file:clip.mp4", "fps": 5}
FACES = {"id": "crossing", "url": "file:clip.mp4", "fps": 2, "nvision": {"service": "face-detection"}}
ABSENT = {"id": "absent", "url": "rtsp://viewer:canary@127.0.0.1:9/stream1", "fps": 1}
RESULTS = "nvision/test/street/results"
TRACKS = "nvision/test/street/tracks"
STATE = "nvision/test/street/state"
AVAILABILITY = "nvision/test/availability"
DISCOVERY = "homeassistant/device/nvision_test_street/config"


@pytest.fixture
def start_streaming(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder], tmp_path: Path
) -> Callable[..., Hub]:
    """Start a hub with file cameras and a recording service: `start_streaming([STREET], mqtt={...})`."""
    (tmp_path / "hub0").mkdir()
    files.write(tmp_path / "hub0" / "clip.mp4", full_range=False)

    def start(cameras: Sequence[dict[str, Any]], **more: Any) -> Hub:
        return start_hub(cameras, recorder(), **more)

    return start


def state(payload: bytes | None) -> str | None:
    if not payload:
        return None
    value: str = json.loads(payload)["state"]
    return value


def streamed(hub: Hub, camera: str = "street") -> list[str]:
    return [event["hub"]["id"] for event in hub.events(camera)]


def bridge(hub: Hub) -> dict[str, Any]:
    """Return the bridge's last status."""
    status: dict[str, Any] = hub._members["mqtt"]["status"] or {"error": None, "metrics": {"counters": []}}
    return status


def away(hub: Hub) -> bool:
    return "is unavailable" in (bridge(hub)["error"] or "")


def counted(hub: Hub, outcome: str) -> float:
    status = bridge(hub)
    found = [
        n for name, labels, n in status["metrics"]["counters"] if labels == {"outcome": outcome} and "mqtt" in name
    ]
    return float(sum(found))


@MOSQUITTO
def test_mqtt_has_results_states_and_devices_of_a_hub_until_its_end(
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[[Mosquitto], Subscriber],
    start_streaming: Callable[..., Hub],
) -> None:
    broker = mosquitto(users=("hub", "p@ss:/?#é canary"))
    subscriber = subscribe(broker)
    hub = start_streaming(
        [STREET, FACES, ABSENT],
        mqtt={
            "url": broker.url,
            "username": "hub",
            "password": "p@ss:/?#é canary",
            "discovery": "homeassistant",
        },
    )
    subscriber.wait_until(lambda: len(subscriber.ids(RESULTS)) >= 10 and state(subscriber.last(STATE)) == "streaming")
    subscriber.wait_until(lambda: subscriber.ids("nvision/test/crossing/results"))
    subscriber.wait_until(lambda: bool(subscriber.payloads(TRACKS)))
    assert subscriber.last(AVAILABILITY) == b"online"
    with hub.redis() as client:
        entries: Any = client.xrange("nvision:results")
        track_entries: Any = client.xrange("nvision:tracks")
    published_track_events = {fields["event"].encode() for _, fields in track_entries}
    assert set(subscriber.payloads(TRACKS)) <= published_track_events
    for payload in subscriber.payloads(TRACKS):
        asyncapi.check("trackEvent", json.loads(payload))
    published = {fields["event"].encode() for _, fields in entries}
    assert set(subscriber.payloads(RESULTS)) <= published, "MQTT must carry the bytes that Redis carries"
    for payload in subscriber.payloads(RESULTS):
        asyncapi.check("event", json.loads(payload))
    for payload in [*subscriber.payloads(STATE), *subscriber.payloads("nvision/test/absent/state")]:
        asyncapi.check("mqttState", json.loads(payload))
    subscriber.wait_until(lambda: state(subscriber.last("nvision/test/absent/state")) == "unreachable")
    shown = json.loads(subscriber.last("nvision/test/absent/state") or b"{}")
    assert "canary" not in shown["error"]
    device = json.loads(subscriber.last(DISCOVERY) or b"{}")
    assert device["device"]["name"] == "Main street"
    assert {part["platform"] for part in device["components"].values()} == {"sensor", "binary_sensor"}
    topics = {part["state_topic"] for part in device["components"].values()}
    assert topics == {RESULTS, STATE}
    hub.change([STREET])
    subscriber.wait_until(lambda: subscriber.last("nvision/test/crossing/state") == b"")
    subscriber.wait_until(lambda: subscriber.last("homeassistant/device/nvision_test_crossing/config") == b"")
    last = streamed(hub)
    assert hub.stop() == 0
    subscriber.wait_until(lambda: subscriber.last(AVAILABILITY) == b"offline")
    assert set(last) <= set(subscriber.ids(RESULTS))
    assert "canary" not in hub.log()
    assert "Traceback" not in hub.log()


@MOSQUITTO
def test_nothing_is_lost_while_the_mqtt_broker_is_down(
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[[Mosquitto], Subscriber],
    start_streaming: Callable[..., Hub],
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker)
    hub = start_streaming([STREET], mqtt={"url": broker.url})
    subscriber.wait_until(lambda: len(subscriber.ids(RESULTS)) >= 3)
    broker.stop()
    before = len(streamed(hub))
    hub.wait_for_results("street", before + 10)
    hub.wait_until(lambda: away(hub))
    missing = streamed(hub)
    assert counted(hub, "published") < len(missing)
    broker.start()
    subscriber.wait_until(lambda: set(missing) <= set(subscriber.ids(RESULTS)))
    assert subscriber.ids(RESULTS)[: len(missing)] == missing, "results must be in order"
    subscriber.wait_until(lambda: state(subscriber.last(STATE)) == CameraState.STREAMING)
    assert counted(hub, "missed") == 0


def test_nothing_is_lost_when_hub_and_broker_restart(
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[[Mosquitto], Subscriber],
    start_streaming: Callable[..., Hub],
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker)
    hub = start_streaming([STREET], mqtt={"url": broker.url})
    subscriber.wait_until(lambda: len(subscriber.ids(RESULTS)) >= 3)
    broker.stop()
    hub.wait_for_results("street", len(streamed(hub)) + 5)
    missing = streamed(hub)
    assert hub.stop() == 0
    hub.kill()  # closes the bridge's pipes
    broker.start()
    hub.start()
    subscriber.wait_until(lambda: set(missing) <= set(subscriber.ids(RESULTS)))
    assert subscriber.ids(RESULTS)[: len(missing)] == missing, "results must be in order"
    assert subscriber.last(AVAILABILITY) == b"online"


def test_a_killed_bridge_and_a_frozen_broker_lose_nothing(
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[[Mosquitto], Subscriber],
    start_streaming: Callable[..., Hub],
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker)
    hub = start_streaming([STREET], mqtt={"url": broker.url})
    subscriber.wait_until(lambda: len(subscriber.ids(RESULTS)) >= 3)
    hub.wait_until(lambda: hub.pid("mqtt") is not None)
    os.kill(hub.member_pid("mqtt"), signal.SIGKILL)
    subscriber.wait_until(lambda: subscriber.last(AVAILABILITY) == b"offline")  # the bridge's last will
    subscriber.wait_until(lambda: subscriber.last(AVAILABILITY) == b"online")
    subscriber.wait_until(lambda: state(subscriber.last(STATE)) == "streaming")
    result_ids = streamed(hub)
    subscriber.wait_until(lambda: set(result_ids) <= set(subscriber.ids(RESULTS)))
    broker.suspend()
    hub.wait_until(lambda: away(hub))
    result_ids = streamed(hub)
    broker.resume()
    subscriber.wait_until(lambda: set(result_ids) <= set(subscriber.ids(RESULTS)))
    broker.suspend()
    assert hub.stop() == 0, "a frozen broker delayed the stop"
    broker.resume()


def test_retained_state_of_a_previous_hub_is_removed(
    mosquitto: Callable[..., Mosquitto], subscribe: Callable[[Mosquitto], Subscriber], start_hub: Callable[..., Hub]
) -> None:
    broker = mosquitto()
    subscriber = subscribe(broker)
    section = {"url": broker.url, "prefix": "home/cctv", "discovery": "homeassistant"}
    former = start_hub([ABSENT, {**ABSENT, "id": "gone"}], None, mqtt=section)
    subscriber.wait_until(lambda: subscriber.last("homeassistant/device/nvision_test_gone/config"))
    former.stop()
    subscriber.wait_until(lambda: subscriber.last("home/cctv/test/availability") == b"offline")
    assert subscriber.last("home/cctv/test/gone/state")
    start_hub([ABSENT], None, mqtt=section)
    subscriber.wait_until(lambda: subscriber.last("home/cctv/test/gone/state") == b"")
    subscriber.wait_until(lambda: subscriber.last("homeassistant/device/nvision_test_gone/config") == b"")
    assert subscriber.last("home/cctv/test/absent/state")


def test_a_broker_that_rejects_the_password_is_reported(
    mosquitto: Callable[..., Mosquitto], start_hub: Callable[..., Hub]
) -> None:
    broker = mosquitto(users=("hub", "right"))
    hub = start_hub([ABSENT], None, mqtt={"url": broker.url, "username": "hub", "password": "canary"})
    hub.wait_until(lambda: "ot authori" in (bridge(hub)["error"] or ""))
    assert "canary" not in hub.log()


@pytest.mark.parametrize("limit", ["message_size_limit 100000", "max_packet_size 100000"])
def test_a_result_that_the_broker_never_accepts_delays_no_other(
    limit: str,
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[[Mosquitto], Subscriber],
    start_hub: Callable[..., Hub],
) -> None:
    broker = mosquitto(options=(limit,))
    subscriber = subscribe(broker)
    hub = start_hub([ABSENT], None, mqtt={"url": broker.url})
    with hub.redis() as client:
        subscriber.wait_until(lambda: subscriber.last(AVAILABILITY) == b"online")
        event = {"hub": {"id": "first"}}
        client.xadd("nvision:results", {"camera": "street", "event": json.dumps(event)})
        client.xadd("nvision:results", {"camera": "street", "event": json.dumps({**event, "raw_data": "x" * 200_000})})
        client.xadd("nvision:results", {"camera": "a/#", "event": json.dumps(event)})
        client.xadd("nvision:results", {"camera": "street", "event": json.dumps({"hub": {"id": "last"}})})
    subscriber.wait_until(lambda: "last" in subscriber.ids(RESULTS))
    assert subscriber.ids(RESULTS) == ["first", "last"]


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Create a self-signed certificate and its key in one file."""
    key, own, both = tmp_path / "key.pem", tmp_path / "own.pem", tmp_path / "both.pem"
    words: list[str | Path] = [needs.program("openssl", "openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes"]
    words += ["-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*words, "-keyout", key, "-out", own], check=True, capture_output=True)
    both.write_text(own.read_text() + key.read_text())
    return both


def test_tls_requires_a_trusted_broker(
    certificate: Path,
    mosquitto: Callable[..., Mosquitto],
    subscribe: Callable[[Mosquitto], Subscriber],
    start_hub: Callable[..., Hub],
) -> None:
    broker = mosquitto(certificate=certificate)
    subscriber = subscribe(broker)
    hub = start_hub([ABSENT], None, mqtt={"url": broker.url})
    hub.wait_until(lambda: "certificate" in (bridge(hub)["error"] or "").lower())
    assert subscriber.received == []
    hub.stop()
    start_hub([ABSENT], None, mqtt={"url": broker.url}, env={"SSL_CERT_FILE": str(certificate)})
    subscriber.wait_until(lambda: subscriber.last(AVAILABILITY) == b"online")


def test_a_missing_mqtt_extra_is_reported_with_the_fix(tmp_path: Path) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "aiomqtt.py").write_text("raise ImportError('not installed')\n")
    (tmp_path / "cameras.yaml").write_text(
        "cameras: [{id: a, url: 'rtsp://127.0.0.1:9/'}]\n"
        "nvision: {url: 'ws://127.0.0.1:9/api', streaming_key: k}\n"
        "mqtt: {url: 'mqtt://127.0.0.1:9'}\n"
    )
    done = command.run("start", cwd=tmp_path, env={"PYTHONPATH": str(hidden)})
    assert done.returncode == EXIT_UNAVAILABLE
    assert "pip install 'nvision-hub[mqtt]'" in done.stderr
    assert "Traceback" not in done.stderr
