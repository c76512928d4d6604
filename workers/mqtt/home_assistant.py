"""MQTT discovery message of a camera for Home Assistant, as one device with three entities. Performs no I/O.

The message describes a whole device ("device discovery", Home Assistant 2024.12 and later). An empty message removes
the device and its entities.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from nvision_hub import __version__
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from nvision_hub.config.value_types import ServiceName
    from workers.mqtt.topics import Topics

_COUNT: Final = "{{ (value_json.detected_objects + value_json.get('detected_faces', [])) | length }}"
_STREAMS: Final = "{{ 'online' if value_json.state == 'streaming' else 'offline' }}"
_PRESENCE: Final = {
    "object-detection": {
        "name": "Person",
        "value_template": "{{ 'ON' if 'person' in value_json.detected_objects | map(attribute='name') else 'OFF' }}",
    },
    "face-detection": {"name": "Face", "value_template": "{{ 'ON' if value_json.detected_faces else 'OFF' }}"},
}


def device(camera: str, name: str | None, service: ServiceName, topics: Topics) -> dict[str, Any]:
    """Return the discovery message of one camera. If `name` is None, the id is the display name."""
    identifier = topics.device(camera)
    hub = {"topic": topics.availability}
    streaming = {"topic": topics.state(camera), "value_template": _STREAMS}
    # A result describes one moment. Entities based on results are therefore unavailable while the camera is not
    # streaming.
    of_results = {"state_topic": topics.results(camera), "availability": [hub, streaming], "availability_mode": "all"}
    entities: dict[str, dict[str, Any]] = {
        "state": {
            "platform": "sensor",
            "name": "State",
            "device_class": "enum",
            "options": [str(state) for state in CameraState],
            "entity_category": "diagnostic",
            "state_topic": topics.state(camera),
            "value_template": "{{ value_json.state }}",
            "json_attributes_topic": topics.state(camera),
        },
        "detections": {
            "platform": "sensor",
            "name": "Detections",
            "state_class": "measurement",
            "value_template": _COUNT,
            **of_results,
        },
        "presence": {
            "platform": "binary_sensor",
            "device_class": "occupancy",
            **_PRESENCE[service],
            **of_results,
        },
    }
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
            f"{identifier}_{key}": {"unique_id": f"{identifier}_{key}", **entity} for key, entity in entities.items()
        },
    }
