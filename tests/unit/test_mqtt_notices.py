"""What the bridge hangs out on the MQTT broker: pure, from the supervisor's records."""

from __future__ import annotations

import json
from typing import Any

import jinja2
import pytest

from nvision_hub.link import Command
from nvision_hub.oversight import Account, report_record
from nvision_hub.status import CameraState, Status
from tests.support import asyncapi
from workers.mqtt import home_assistant
from workers.mqtt.notice_board import FORGOTTEN, KNOWN_WITHIN_S, NoticeBoard
from workers.mqtt.topics import Topics

TOPICS = Topics(prefix="nvision", site="head office")
STATE = "nvision/head office/lobby/state"
DISCOVERY = "homeassistant/device/nvision_head_office_lobby/config"
WALL = 1_795_000_000.0
CAMERA = {"camera": {"name": "Lobby, north", "nvision": {"service": "object-detection"}}}


class Told:
    """A board, and the supervisor that tells it."""

    def __init__(self, *, discovery: bool = True) -> None:
        self.board = NoticeBoard(TOPICS, discovery=discovery, now=0.0)
        self.wall = WALL

    def account(self, name: str = "camera:lobby", pid: int | None = 1, phase: str = "running", **more: Any) -> None:
        account = Account(name=name, pid=pid, phase=phase, facts=CAMERA, **more)
        self.board.heed(Command.decode(account.encode()), wall=self.wall)

    def report(self, state: str, *, pid: int = 1, error: str | None = None, name: str = "camera:lobby") -> None:
        status = Status(pid=pid, at=0.0, state=state, error=error)
        self.board.heed(Command.decode(report_record(name, status.encode())), wall=self.wall)

    def gone(self, name: str = "camera:lobby") -> None:
        self.board.heed(Command(verb="gone", arguments={"name": name}), wall=self.wall)

    def state(self) -> dict[str, Any]:
        told: dict[str, Any] = json.loads(self.board.notices[STATE])
        asyncapi.check("mqttState", told)
        return told


def test_a_state_stands_since_it_was_entered() -> None:
    told = Told()
    told.account()
    assert told.state() == {"state": "starting", "error": None, "since": "2026-11-18T11:06:40.000Z"}
    told.wall += 1
    told.report("streaming")
    told.wall += 60
    told.report("streaming")
    assert told.state()["since"] == "2026-11-18T11:06:41.000Z"
    told.report("streaming", error="Redis cannot be used")
    assert told.state() == {
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
def test_what_the_supervisor_knows_counts_before_what_a_former_process_said(
    account: dict[str, Any], state: str
) -> None:
    told = Told()
    told.account()
    told.report("streaming")
    told.account(**account)
    assert told.state()["state"] == state
    told.report("streaming", pid=1)
    assert told.state()["state"] == state


def test_other_members_are_no_cameras() -> None:
    told = Told()
    told.account("webhooks")
    told.report("running", name="webhooks")
    told.gone("webhooks")
    assert told.board.notices == {}


def test_a_camera_that_is_gone_is_taken_down_and_then_forgotten() -> None:
    told = Told()
    told.account()
    told.gone()
    assert told.board.notices == {STATE: FORGOTTEN, DISCOVERY: FORGOTTEN}
    for topic in (STATE, DISCOVERY):
        told.board.posted(topic, FORGOTTEN)
    assert told.board.notices == {}
    told.account()
    told.board.posted(STATE, FORGOTTEN)  # late: it is back
    assert told.state()["state"] == "starting"


def test_what_a_former_bridge_left_is_taken_down_once_all_cameras_are_known() -> None:
    told = Told(discovery=False)
    told.account()
    for camera in ("lobby", "gate"):
        told.board.found(TOPICS.state(camera))
    told.board.tidy(KNOWN_WITHIN_S - 1)
    assert set(told.board.notices) == {STATE}
    told.board.tidy(KNOWN_WITHIN_S)
    assert told.board.notices[TOPICS.state("gate")] == FORGOTTEN
    assert told.state()["state"] == "starting"


def test_nobody_asked_for_devices() -> None:
    told = Told(discovery=False)
    told.account()
    assert set(told.board.notices) == {STATE}


def test_names_that_mean_something_to_mqtt_or_home_assistant() -> None:
    topics = Topics(prefix="home/cctv", site="a/b+#\x00é")
    assert topics.results("lobby") == "home/cctv/a_b___é/lobby/results"
    assert topics.discovery("lobby") == "homeassistant/device/nvision_a_b_____lobby/config"
    assert topics.camera_of_state(topics.state("lobby")) == "lobby"


def rendered(template: str, told: dict[str, Any]) -> str:
    # Home Assistant's templates are those of Jinja, of which these use nothing that it adds.
    return jinja2.Environment(autoescape=False).from_string(template).render(value_json=told)  # noqa: S701 - no HTML


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
def test_home_assistants_templates_say_what_is_in_a_result(
    service: Any, objects: list[str], faces: list[str] | None, count: str, presence: str
) -> None:
    told = home_assistant.device("lobby", None, service, TOPICS)
    parts = {identifier.rpartition("_")[2]: part for identifier, part in told["components"].items()}
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
    assert told["device"]["name"] == "lobby"
    assert all(part["unique_id"] == identifier for identifier, part in told["components"].items())
