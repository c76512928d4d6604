"""Part of cameras.yaml for one group as plain data, for the Kubernetes export and the Ray engine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.cluster.placement import CameraGroup
    from nvision_hub.config.models import Config

SHARED_SECTIONS: Final = ("webhooks", "mqtt")  # one hub runs these for the cameras of all groups
HUB_MILLICORES: Final = 200  # CPU time of the supervisor, and of the relay or the gateway
SERVICE_MILLICORES: Final = 1000  # CPU time of the local service, if a camera of the group uses it
# Rules for label keys and values: https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/ (the same
# in Ray).
_NODE_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


def group_config(data: Mapping[str, Any], config: Config, group: CameraGroup) -> dict[str, Any]:
    """Return the group's part of `data` (`config` as plain data), without placements and shared sections."""
    values = {key: value for key, value in data.items() if key not in (*SHARED_SECTIONS, "elsewhere", "include")}
    values["cameras"] = [
        _without_placement(settings)
        for camera, settings in zip(config.cameras, data["cameras"], strict=True)
        if camera.id in group.cameras
    ]
    if "defaults" in values:
        values["defaults"] = _without_placement(values["defaults"])
    return values


def uses_local_service(config: Config, group: CameraGroup) -> bool:
    return any(config.camera(camera).nvision.url.local for camera in group.cameras)


def hub_millicores(config: Config, group: CameraGroup) -> int:
    """Return the estimated CPU time of the group's cameras and hub, in thousandths of a core."""
    return group.millicores + HUB_MILLICORES + (SERVICE_MILLICORES if uses_local_service(config, group) else 0)


def node_labels(placement: Mapping[str, str]) -> dict[str, str]:
    """Return the labels of a placement that are valid labels of a node, sorted by key."""
    return {
        key: value
        for key, value in sorted(placement.items())
        if _NODE_LABEL.fullmatch(key) and _NODE_LABEL.fullmatch(value)
    }


def _without_placement(settings: Any) -> Any:
    if not isinstance(settings, dict):
        return settings
    return {key: value for key, value in settings.items() if key != "placement"}
