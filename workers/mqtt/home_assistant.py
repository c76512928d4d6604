"""What Home Assistant is told of a camera: a device with three entities, in its MQTT discovery's form. Pure.

One message a device ("device discovery", Home Assistant 2024.12 and later): its availability stands there once, and an
empty message takes all of it away again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nvision_hub import __version__
from nvision_hub.status import CameraState

if TYPE_CHECKING:
    from nvision_hub.wire import Service
    from workers.mqtt.topics import Topics

_COUNT: Final = "{{ (value_json.detected_objects + value_json.get('detected_faces', [])) | length }}"
_STREAMS: Final = "{{ 'online' if value_json.state == 'streaming' else 'offline' }}"


def device(camera: str, name: str | None, service: Service, topics: Topics) -> dict[str, Any]:
    """The discovery message of one camera; `name` is for people, None where it has none."""
    identifier = topics.device(camera)
    hub = {"topic": topics.availability}
    streaming = {"topic": topics.state(camera), "value_template": _STREAMS}
    # A result is of a moment: an entity made of results is unknown while none come.
    of_results = {"state_topic": topics.results(camera), "availability": [hub, streaming], "availability_mode": "all"}
    return {
        "device": {
            "identifiers": [identifier],
            "name": name or camera,
            "manufacturer": "nvision-hub",
            "model": f"camera of {topics.site}",
            "sw_version": __version__,
        },
        "origin": {"name": "nvision-hub", "sw_version": __version__},
        "availability": [hub],
        "components": {
            f"{identifier}_state": {
                "platform": "sensor",
                "unique_id": f"{identifier}_state",
                "name": "State",
                "device_class": "enum",
                "options": [str(state) for state in CameraState],
                "entity_category": "diagnostic",
                "state_topic": topics.state(camera),
                "value_template": "{{ value_json.state }}",
                "json_attributes_topic": topics.state(camera),
            },
            f"{identifier}_detections": {
                "platform": "sensor",
                "unique_id": f"{identifier}_detections",
                "name": "Detections",
                "state_class": "measurement",
                "value_template": _COUNT,
                **of_results,
            },
            f"{identifier}_presence": {
                "platform": "binary_sensor",
                "unique_id": f"{identifier}_presence",
                "device_class": "occupancy",
                **_presence(service),
                **of_results,
            },
        },
    }


def _presence(service: Service) -> dict[str, str]:
    if service == "face-detection":
        return {"name": "Face", "value_template": "{{ 'ON' if value_json.detected_faces else 'OFF' }}"}
    names = "value_json.detected_objects | map(attribute='name')"
    return {"name": "Person", "value_template": f"{{{{ 'ON' if 'person' in {names} else 'OFF' }}}}"}
