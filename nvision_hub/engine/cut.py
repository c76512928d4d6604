"""One cameras.yaml cut into those of its groups, each whole: variables replaced, secrets in it.

Pure but for reading the file: which of them run, and where, is not known here.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub import grouping
from nvision_hub.config import load
from nvision_hub.config.load import resolved
from nvision_hub.engine.group_actor import digest
from nvision_hub.part import CONTROL

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvision_hub.config import Config
    from nvision_hub.grouping import Group

HUB_MILLICORES: Final = 200  # supervisor, relay or gateway
SERVICE_MILLICORES: Final = 1000  # the local service, where a camera of the group uses it
_ONCE: Final = ("gateway", "webhooks", "mqtt")  # done once for all, by the control group
_ELSEWHERE: Final = "rtsp://elsewhere.invalid"  # the control group streams no camera, and need not know how


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """What one group is to run."""

    name: str
    text: str = field(repr=False)  # its cameras.yaml, with secrets
    placement: Mapping[str, str]
    millicores: int

    @property
    def digest(self) -> str:
        """Changes with the text."""
        return digest(self.text)


@dataclass(frozen=True, kw_only=True)
class Cut:
    """A configuration and its groups, the control group among them where there is something for it to do."""

    config: Config
    groups: tuple[Group, ...]
    specs: Mapping[str, GroupSpec]  # by name


def cut(path: Path, former: Mapping[str, str]) -> Cut:
    """Cut the file; `former` is which camera was in which group before. Raises `ConfigError`."""
    config = load(path)
    tree: dict[str, Any] = resolved(path).plain()
    groups = grouping.group(config.cameras, former=former)
    specs = [_of_cameras(tree, config, group) for group in groups]
    if not config.gateway.listen.off or config.webhooks or config.mqtt.url is not None:
        specs.append(_control(tree, config))
    return Cut(config=config, groups=groups, specs={spec.name: spec for spec in specs})


def _of_cameras(tree: Mapping[str, Any], config: Config, group: Group) -> GroupSpec:
    values = {key: value for key, value in tree.items() if key not in (*_ONCE, "elsewhere", "state_dir")}
    values["gateway"] = {"listen": "none"}
    ids = [camera.id for camera in config.cameras]
    values["cameras"] = [
        _placed_already(entry)
        for camera_id, entry in zip(ids, tree["cameras"], strict=True)
        if camera_id in group.cameras
    ]
    if isinstance(values.get("defaults"), dict):
        values["defaults"] = _placed_already(values["defaults"])
    local = any(config.camera(camera_id).nvision.url.local for camera_id in group.cameras)
    return GroupSpec(
        name=group.name,
        text=_text(values),
        placement=dict(group.placement),
        millicores=group.millicores + HUB_MILLICORES + (SERVICE_MILLICORES if local else 0),
    )


def _control(tree: Mapping[str, Any], config: Config) -> GroupSpec:
    values = {key: value for key, value in tree.items() if key in (*_ONCE, "version", "site", "redis", "elsewhere")}
    values["nvision"] = {"url": "local"}
    values["cameras"] = [{"id": camera.id, "url": _ELSEWHERE} for camera in config.cameras]
    return GroupSpec(name=CONTROL, text=_text(values), placement={}, millicores=HUB_MILLICORES)


def _placed_already(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Without the labels that have led here."""
    return {key: value for key, value in settings.items() if key != "placement"}


def _text(values: Mapping[str, Any]) -> str:
    """As a cameras.yaml, for JSON is YAML. What was a variable must not be taken for one again."""
    return json.dumps({"state_dir": "state", **values}, indent=1, ensure_ascii=False).replace("${", "$${")
