"""Retained MQTT messages, built from the supervisor's messages."""

from __future__ import annotations

import json
from typing import Any

import jinja2
import pytest

from nvision_hub.runtime.messages import CameraFacts, ProcessChanged, ProcessInfo, ProcessRemoved, StatusReported
from nvision_hub.runtime.status import CameraState, Status
from tests.support import asyncapi
from workers.mqtt import home_assistant
from workers.mqtt.retained_state import DELETED, KNOWN_TIMEOUT_S, RetainedState
from workers.mqtt.topics import Topics

TOPICS = Topics(prefix="nvision", site="head office")
STATE = "nvision/head office/lobby/state"
DISCOVERY = "homeassistant/device/nvision_head_office_lobby/config"
WALL = 1_795_000_000.0
CAMERA = CameraFacts(index=0, settings={"name": "Lobby, north", "nvision": {"service": "object-detection"}})


class Bridge:
    """The retained state, and the supervisor's messages that change it."""

    def __init__(self, *, discovery: bool = True) -> None:
        self.retained = RetainedState(TOPICS, discovery=discovery, now=0.0)
        self.wall = WALL

    def set_process(self, name: str = "camera:lobby", pid: int | None = 1, phase: str = "running", **more: Any) -> None:
        info = ProcessInfo(name=name, pid=pid, phase=phase, facts=CAMERA, **more)
        self.retained.on_message(ProcessChanged(info=info), wall=self.wall)

    def report(self, state: str, *, pid: int = 1, error: str | None = None, name: str = "camera:lobby") -> None:
        status = Status(pid=pid, at=0.0, state=state, error=error)
        self.retained.on_message(StatusReported(name=name, status=status), wall=self.wall)

    def gone(self, name: str = "camera:lobby") -> None:
        self.retained.on_message(ProcessRemoved(name=name), wall=self.wall)

    def state(self) -> dict[str, Any]:
        state: dict[str, Any] = json.loads(self.retained.messages[STATE])
        asyncapi.check("mqttState", state)
        return state


def test_a_state_has_the_time_of_its_start() -> None:
    bridge = Bridge()
    bridge.set_process()
    assert bridge.state() == {"state": "starting", "error": None, "since": "2026-11-18T11:06:40.000Z"}
    bridge.wall += 1
    bridge.report("streaming")
    bridge.wall += 60
    bridge.report("streaming")
    assert bridge.state()["since"] == "2026-11-18T11:06:41.000Z"
    bridge.report("streaming", error="Redis cannot be used")
    assert bridge.state() == {
        "state": "streaming",
        "error": "Redis cannot be used",
        "since": "2026-11-18T11:06:41.000Z",
    }


@pytest.mark.parametrize(
    ("account", "state"),
    [
        ({"crash_loop": True, "pid": None, "phase": "waiting"}, CameraState.CRASH_LOOP),
        ({"phase": "ended", "pid": None}, CameraState.STOPPED),
        ({"pid": 2}, CameraState.STARTING),
    ],
)
def test_the_supervisors_view_overrides_a_former_process(account: dict[str, Any], state: str) -> None:
    bridge = Bridge()
    bridge.set_process()
    bridge.report("streaming")
    bridge.set_process(**account)
    assert bridge.state()["state"] == state
    bridge.report("streaming", pid=1)
    assert bridge.state()["state"] == state


def test_other_processes_are_not_cameras() -> None:
    bridge = Bridge()
    bridge.set_process("webhooks")
    bridge.report("running", name="webhooks")
    bridge.gone("webhooks")
    assert bridge.retained.messages == {}


def test_a_removed_camera_is_deleted_from_the_broker() -> None:
    bridge = Bridge()
    bridge.set_process()
    bridge.gone()
    assert bridge.retained.messages == {STATE: DELETED, DISCOVERY: DELETED}
    for topic in (STATE, DISCOVERY):
        bridge.retained.on_published(topic, DELETED)
    assert bridge.retained.messages == {}
    bridge.set_process()
    bridge.retained.on_published(STATE, DELETED)  # late: the camera has already returned
    assert bridge.state()["state"] == "starting"


def test_leftovers_of_a_former_bridge_are_deleted_once_all_cameras_are_known() -> None:
    bridge = Bridge(discovery=False)
    bridge.set_process()
    for camera in ("lobby", "gate"):
        bridge.retained.on_retained(TOPICS.state(camera))
    bridge.retained.delete_unknown(KNOWN_TIMEOUT_S - 1)
    assert set(bridge.retained.messages) == {STATE}
    bridge.retained.delete_unknown(KNOWN_TIMEOUT_S)
    assert bridge.retained.messages[TOPICS.state("gate")] == DELETED
    assert bridge.state()["state"] == "starting"


def test_without_discovery_there_are_no_devices() -> None:
    bridge = Bridge(discovery=False)
    bridge.set_process()
    assert set(bridge.retained.messages) == {STATE}


def test_reserved_characters_are_replaced_in_topics() -> None:
    topics = Topics(prefix="home/cctv", site="a/b+#\x00é")
    assert topics.results("lobby") == "home/cctv/a_b___é/lobby/results"
    assert topics.discovery("lobby") == "homeassistant/device/nvision_a_b_____lobby/config"
    assert topics.camera_of_state(topics.state("lobby")) == "lobby"


def rendered(template: str, value: dict[str, Any]) -> str:
    # Home Assistant extends Jinja, but these templates use no extension.
    return jinja2.Environment(autoescape=False).from_string(template).render(value_json=value)  # noqa: S701 - no HTML


@pytest.mark.parametrize(
    ("service", "objects", "faces", "count", "presence"),
    [
        ("object-detection", ["car", "person"], None, "2", "ON"),
        ("object-detection", ["car"], None, "1", "OFF"),
        ("object-detection", [], None, "0", "OFF"),
        ("face-detection", [], ["face"], "1", "ON"),
        ("face-detection", [], [], "0", "OFF"),
    ],
)
def test_home_assistants_templates_render_a_result(
    service: Any, objects: list[str], faces: list[str] | None, count: str, presence: str
) -> None:
    device = home_assistant.device("lobby", None, service, TOPICS)
    parts = {identifier.rpartition("_")[2]: part for identifier, part in device["components"].items()}
    event: dict[str, Any] = {"detected_objects": [{"name": name} for name in objects]}
    if faces is not None:
        event["detected_faces"] = [{"name": name} for name in faces]
    assert rendered(parts["detections"]["value_template"], event) == count
    assert rendered(parts["presence"]["value_template"], event) == presence
    assert rendered(parts["state"]["value_template"], {"state": "paused"}) == "paused"
    assert parts["state"]["options"] == [str(state) for state in CameraState]
    _, streaming = parts["presence"]["availability"]
    assert rendered(streaming["value_template"], {"state": "streaming"}) == "online"
    assert rendered(streaming["value_template"], {"state": "stalled"}) == "offline"
    assert device["device"]["name"] == "lobby"
    assert all(part["unique_id"] == identifier for identifier, part in device["components"].items())
