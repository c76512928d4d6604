"""Retained MQTT messages: the state of each camera, and its discovery message for Home Assistant. Performs no I/O.

`RetainedState` builds the messages from the supervisor's messages, and deletes messages of removed cameras. In MQTT, an
empty message deletes a retained message.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.runtime.messages import CameraFacts, ProcessChanged, ProcessInfo, ProcessRemoved, StatusReported
from nvision_hub.runtime.status import CameraState
from nvision_hub.timestamps import iso_utc
from workers.mqtt import home_assistant

if TYPE_CHECKING:
    from nvision_hub.runtime.messages import Message
    from nvision_hub.runtime.status import Status
    from workers.mqtt.topics import Topics

CAMERA_PREFIX: Final = "camera:"
DELETED: Final = b""
KNOWN_TIMEOUT_S: Final = 10.0  # a camera that is still unknown after this time was removed while no bridge was running


@dataclass(kw_only=True, slots=True)
class _RetainedCamera:
    id: str
    info: ProcessInfo
    status: Status | None = None  # status of the current process; None before its first report
    state: str = ""
    error: str | None = None
    since: float = 0.0  # seconds since the epoch


class RetainedState:
    """Retained messages that the broker should have, by topic. The value `DELETED` deletes a retained message."""

    def __init__(self, topics: Topics, *, discovery: bool, now: float) -> None:
        self._topics = topics
        self._discovery = discovery
        self._started_at = now
        self._cameras: dict[str, _RetainedCamera] = {}  # by process name
        self._found: set[str] = set()  # cameras for which the broker has a retained message
        self.messages: dict[str, bytes] = {}

    def on_message(self, message: Message, *, wall: float) -> None:
        """Apply one of the supervisor's messages. `wall` is in seconds since the epoch."""
        match message:
            case ProcessChanged(info=info) if info.name.startswith(CAMERA_PREFIX):
                self._on_process(info, wall)
            case StatusReported(name=name, status=status):
                camera = self._cameras.get(name)
                if camera is not None and status.pid == camera.info.pid:
                    camera.status = status
                    self._update(camera, wall)
            case ProcessRemoved(name=name) if name in self._cameras:
                self._delete(self._cameras.pop(name).id)

    def on_retained(self, topic: str) -> None:
        """Record that the broker has a retained message on this state topic."""
        self._found.add(self._topics.camera_of_state(topic))

    def on_published(self, topic: str, payload: bytes) -> None:
        """Remove a published deletion from `messages`."""
        if payload == DELETED and self.messages.get(topic) == DELETED:
            del self.messages[topic]

    def delete_unknown(self, now: float) -> None:
        """Delete messages of cameras that are still unknown `KNOWN_TIMEOUT_S` after the start.

        `now` is in monotonic seconds.
        """
        if now - self._started_at < KNOWN_TIMEOUT_S:
            return
        for camera in self._found - {camera.id for camera in self._cameras.values()}:
            self._delete(camera)
        self._found.clear()

    def _on_process(self, info: ProcessInfo, wall: float) -> None:
        new = _RetainedCamera(id=info.name.removeprefix(CAMERA_PREFIX), info=info)
        camera = self._cameras.setdefault(info.name, new)
        if info.pid != camera.info.pid:
            camera.status = None
        camera.info = info
        self._update(camera, wall)
        if self._discovery and isinstance(info.facts, CameraFacts) and info.facts.settings:
            settings = info.facts.settings
            device = home_assistant.device(camera.id, settings["name"], settings["nvision"]["service"], self._topics)
            self.messages[self._topics.discovery(camera.id)] = json.dumps(device, ensure_ascii=False).encode()

    def _update(self, camera: _RetainedCamera, wall: float) -> None:
        state, error = _state(camera), None if camera.status is None else camera.status.error
        if state != camera.state:
            camera.state, camera.since = state, wall
        elif error == camera.error:
            return
        camera.error = error
        message = {"state": state, "error": error, "since": iso_utc(camera.since)}
        self.messages[self._topics.state(camera.id)] = json.dumps(message, ensure_ascii=False).encode()

    def _delete(self, camera: str) -> None:
        self.messages[self._topics.state(camera)] = DELETED
        if self._discovery:
            self.messages[self._topics.discovery(camera)] = DELETED


def _state(camera: _RetainedCamera) -> str:
    if camera.info.crash_loop:
        return CameraState.CRASH_LOOP
    if camera.info.phase == "ended":
        return CameraState.STOPPED
    return CameraState.STARTING if camera.status is None else camera.status.state
