"""Cameras in a real Home Assistant: devices, states, and what a killed hub leaves behind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.runtime.status import CameraState
from tests.support import files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.home_assistant import HomeAssistant
    from tests.support.hub import Hub
    from tests.support.mosquitto import Mosquitto
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.long, pytest.mark.peer("MQTT consumer", "Home Assistant", "home-assistant")]

STREET: Final = {"id": "street", "name": "Main street", "url": "file:clip.mp4", "fps": 2}
STATE: Final = "sensor.main_street_state"
DETECTIONS: Final = "sensor.main_street_detections"
PERSON: Final = "binary_sensor.main_street_person"


def test_a_camera_is_a_device_whose_entities_become_unavailable_when_the_hub_is_killed(
    home_assistant: Callable[[int], HomeAssistant],
    mosquitto: Callable[..., Mosquitto],
    recorder: Callable[..., Recorder],
    start_hub: Callable[..., Hub],
    tmp_path: Path,
) -> None:
    broker = mosquitto()
    assistant = home_assistant(broker.port)
    (tmp_path / "hub0").mkdir()
    files.write(tmp_path / "hub0" / "clip.mp4", full_range=False)
    hub = start_hub([STREET], recorder(), mqtt={"url": broker.url, "discovery": "homeassistant"})
    assistant.wait_until(lambda states: states.get(STATE) == CameraState.STREAMING)
    assistant.wait_until(lambda states: states[DETECTIONS].isdecimal() and states[PERSON] in {"on", "off"})
    hub.kill()
    assistant.wait_until(lambda states: {states[each] for each in (STATE, DETECTIONS, PERSON)} == {"unavailable"})
    hub.start()
    assistant.wait_until(lambda states: states[STATE] == CameraState.STREAMING and states[DETECTIONS].isdecimal())
