"""What is to stand on the MQTT broker, retained: each camera's state, and what Home Assistant is told of it.

Made of the supervisor's records; opens and sends nothing. What the broker kept of cameras that are no more is taken
down: an empty message is how MQTT forgets a retained one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.oversight import ACCOUNT, GONE, REPORT, Account, report_of
from nvision_hub.status import CameraState
from nvision_hub.wire import timestamp
from workers.mqtt import home_assistant

if TYPE_CHECKING:
    from nvision_hub.link import Command
    from nvision_hub.status import Status
    from workers.mqtt.topics import Topics

CAMERA: Final = "camera:"
FORGOTTEN: Final = b""
# What the broker has of a camera that nobody has named by then is of one that was taken out while no bridge ran.
KNOWN_WITHIN_S: Final = 10.0


@dataclass(kw_only=True, slots=True)
class _Camera:
    account: Account
    status: Status | None = None  # of the process that lives now; None before its first
    state: str = ""
    error: str | None = None
    since: float = 0.0  # seconds since the epoch


class NoticeBoard:
    """`notices` is what has to stand there, by topic; what has been taken down is `FORGOTTEN`."""

    def __init__(self, topics: Topics, *, discovery: bool, now: float) -> None:
        self._topics = topics
        self._discovery = discovery
        self._began = now
        self._cameras: dict[str, _Camera] = {}
        self._found: set[str] = set()  # cameras of whom something stands on the broker
        self.notices: dict[str, bytes] = {}

    def heed(self, command: Command, *, wall: float) -> None:
        """Take in one of the supervisor's records; `wall` is in seconds since the epoch."""
        match command.verb:
            case verb if verb == ACCOUNT:
                account = Account.of(command)
                if account.name.startswith(CAMERA):
                    self._told(account.name.removeprefix(CAMERA), account, wall)
            case verb if verb == REPORT:
                name, status = report_of(command)
                camera = self._cameras.get(name.removeprefix(CAMERA)) if name.startswith(CAMERA) else None
                if camera is not None and status.pid == camera.account.pid:
                    camera.status = status
                    self._write(name.removeprefix(CAMERA), camera, wall)
            case verb if verb == GONE:
                name = str(command.arguments["name"])
                if name.startswith(CAMERA) and self._cameras.pop(name.removeprefix(CAMERA), None) is not None:
                    self._take_down(name.removeprefix(CAMERA))

    def found(self, topic: str) -> None:
        """Something retained stands on the broker under this state topic."""
        self._found.add(self._topics.camera_of_state(topic))

    def posted(self, topic: str, notice: bytes) -> None:
        """It stands on the broker; what the broker has forgotten need not be kept here either."""
        if notice == FORGOTTEN and self.notices.get(topic) == FORGOTTEN:
            del self.notices[topic]

    def tidy(self, now: float) -> None:
        """Take down what is of no camera of this hub, once all of them must be known. `now` is monotonic."""
        if now - self._began < KNOWN_WITHIN_S:
            return
        for camera in self._found - self._cameras.keys():
            self._take_down(camera)
        self._found.clear()

    def _told(self, name: str, account: Account, wall: float) -> None:
        camera = self._cameras.setdefault(name, _Camera(account=account))
        if account.pid != camera.account.pid:
            camera.status = None
        camera.account = account
        self._write(name, camera, wall)
        facts: dict[str, Any] = account.facts.get("camera", {})
        if self._discovery and facts:
            told = home_assistant.device(name, facts["name"], facts["nvision"]["service"], self._topics)
            self.notices[self._topics.discovery(name)] = json.dumps(told, ensure_ascii=False).encode()

    def _write(self, name: str, camera: _Camera, wall: float) -> None:
        state, error = _state(camera), None if camera.status is None else camera.status.error
        if state != camera.state:
            camera.state, camera.since = state, wall
        elif error == camera.error:
            return
        camera.error = error
        since = timestamp(datetime.fromtimestamp(camera.since, UTC))
        notice = {"state": state, "error": error, "since": since}
        self.notices[self._topics.state(name)] = json.dumps(notice, ensure_ascii=False).encode()

    def _take_down(self, camera: str) -> None:
        self.notices[self._topics.state(camera)] = FORGOTTEN
        if self._discovery:
            self.notices[self._topics.discovery(camera)] = FORGOTTEN


def _state(camera: _Camera) -> str:
    if camera.account.crash_loop:
        return CameraState.CRASH_LOOP
    if camera.account.phase == "ended":
        return CameraState.STOPPED
    return CameraState.STARTING if camera.status is None else camera.status.state
