"""A real MQTT broker for tests (Debian's mosquitto), and a subscriber that records the messages it receives."""

from __future__ import annotations

import json
import queue
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from nvision_hub.broker.embedded_config import claim_port
from tests.support import needs
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@dataclass(kw_only=True)
class Mosquitto(Server):
    """One broker on loopback. Sessions and retained messages survive a regular stop."""

    folder: Path
    options: tuple[str, ...] = ()  # additional lines for the configuration file
    users: tuple[str, str] | None = None  # name and password; if None, the broker accepts anonymous clients
    certificate: Path | None = None  # PEM file with certificate and key; enables TLS
    port: int = field(default_factory=lambda: claim_port(0).port)
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        program = _program("mosquitto", "mosquitto")
        lines = [
            f"listener {self.port} 127.0.0.1",
            f"allow_anonymous {'true' if self.users is None else 'false'}",
            "persistence true",
            f"persistence_location {self.folder}/",
            "user root",  # otherwise, mosquitto would drop its privileges and lose access to its folder
            *self.options,
        ]
        if self.users is not None:
            passwords = self.folder / "passwords"
            subprocess.run([_program("mosquitto_passwd", "mosquitto"), "-b", "-c", passwords, *self.users], check=True)
            lines.append(f"password_file {passwords}")
        if self.certificate is not None:
            lines += [f"certfile {self.certificate}", f"keyfile {self.certificate}"]
        configuration = self.folder / "mosquitto.conf"
        configuration.write_text("\n".join([*lines, ""]), encoding="utf-8")
        with (self.folder / "mosquitto.log").open("ab") as log:
            self.process = subprocess.Popen([program, "-c", configuration], stdout=log, stderr=log, text=True)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                assert time.monotonic() < deadline, (self.folder / "mosquitto.log").read_text(encoding="utf-8")
                time.sleep(0.02)
            else:
                return

    @property
    def url(self) -> str:
        """The value of `mqtt.url` in cameras.yaml."""
        return f"{'mqtts' if self.certificate else 'mqtt'}://localhost:{self.port}"


def _program(name: str, package: str) -> str:
    # Debian installs servers in sbin, which only root's PATH contains.
    return shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin") or needs.program(name, package)


class Subscriber:
    """Subscriber to all topics. The broker keeps its session while the subscriber or the broker is down."""

    def __init__(self, broker: Mosquitto, name: str = "test") -> None:
        self.received: list[paho.MQTTMessage] = []
        self._arrived: queue.SimpleQueue[paho.MQTTMessage] = queue.SimpleQueue()
        self._client = paho.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        if broker.users is not None:
            self._client.username_pw_set(*broker.users)
        if broker.certificate is not None:
            self._client.tls_set(ca_certs=str(broker.certificate))
        self._client.reconnect_delay_set(1, 1)
        subscribed: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._client.on_connect = lambda client, *_: client.subscribe("#", qos=1)
        self._client.on_subscribe = lambda _client, _data, mid, *_: subscribed.put(mid)
        self._client.on_message = lambda _client, _data, message: self._arrived.put(message)
        self._client.connect("localhost", broker.port)
        self._client.loop_start()
        assert subscribed.get(timeout=PATIENCE_S)

    def close(self) -> None:
        self._client.disconnect()
        self._client.loop_stop()

    def wait_until(self, condition: Callable[[], object], timeout_s: float = PATIENCE_S) -> None:
        """Wait for messages until the condition is true."""
        deadline = time.monotonic() + timeout_s
        while not self._collect(0.0) and not condition():
            left_s = deadline - time.monotonic()
            assert left_s > 0, f"not within {timeout_s} s; {[(m.topic, m.payload[:200]) for m in self.received[-20:]]}"
            self._collect(min(left_s, 0.2))

    def _collect(self, wait_s: float) -> bool:
        """Collect the messages that have arrived or arrive within `wait_s`. Always return False."""
        try:
            while True:
                self.received.append(self._arrived.get(block=wait_s > 0, timeout=wait_s or None))
                wait_s = 0.0
        except queue.Empty:
            return False

    def payloads(self, topic: str) -> list[bytes]:
        """Return the payloads of one topic, oldest first."""
        return [bytes(message.payload) for message in self.received if message.topic == topic]

    def last(self, topic: str) -> bytes | None:
        """Return the last payload of one topic; None before the first message."""
        return next(iter(reversed(self.payloads(topic))), None)

    def ids(self, topic: str) -> list[str]:
        """Return the distinct result ids of one topic in order of first arrival."""
        return list(dict.fromkeys(json.loads(payload)["hub"]["id"] for payload in self.payloads(topic)))


@pytest.fixture
def mosquitto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Mosquitto]]:
    """Start a broker: `mosquitto()`, `mosquitto(users=("hub", "secret"))`."""
    started: list[Mosquitto] = []

    def start(**options: Any) -> Mosquitto:
        broker = Mosquitto(folder=tmp_path_factory.mktemp("mosquitto"), **options)
        broker.start()
        started.append(broker)
        return broker

    yield start
    for broker in started:
        broker.kill()


@pytest.fixture
def subscribe() -> Iterator[Callable[[Mosquitto], Subscriber]]:
    """Subscribe to all topics of a broker."""
    subscribed: list[Subscriber] = []

    def listen(broker: Mosquitto) -> Subscriber:
        subscribed.append(Subscriber(broker))
        return subscribed[-1]

    yield listen
    for subscriber in subscribed:
        subscriber.close()
