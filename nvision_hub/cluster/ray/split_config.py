"""Split a cameras.yaml into a complete configuration for each group, with variables resolved and secrets included."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.cluster.group_config import HUB_MILLICORES, SHARED_SECTIONS, group_config, hub_millicores
from nvision_hub.cluster.identity import CONTROL
from nvision_hub.cluster.placement import group_cameras
from nvision_hub.config.load import load, resolved
from nvision_hub.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from nvision_hub.cluster.placement import CameraGroup
    from nvision_hub.config.models import Config
    from nvision_hub.config.value_types import Secret

_CONTROL_SECTIONS: Final = ("version", "site", "redis", "elsewhere", "gateway", *SHARED_SECTIONS)
_STAND_IN_URL: Final = "rtsp://elsewhere.invalid"  # the control group streams no camera and needs no camera addresses


def config_digest(text: str) -> str:
    """Return a digest that identifies a cameras.yaml but does not reveal its content."""
    return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, kw_only=True)
class GroupSpec:
    """Configuration and resources of one group."""

    name: str
    text: str = field(repr=False)  # cameras.yaml of the group, with secrets
    placement: Mapping[str, str]
    millicores: int

    @property
    def digest(self) -> str:
        return config_digest(self.text)


@dataclass(frozen=True, kw_only=True)
class SplitResult:
    """A configuration and its groups. `specs` includes the control group only if that group has work to do."""

    config: Config
    groups: tuple[CameraGroup, ...]
    specs: Mapping[str, GroupSpec]  # by group name


def split_config(
    path: Path, previous: Mapping[str, str], default_key: Callable[[Config], Secret] | None = None
) -> SplitResult:
    """Split the file by group. `previous` is the stored assignment of cameras to groups. Raises `ConfigError`.

    `default_key` returns the fleet key if the file contains none.
    """
    config = load(path)
    if not config.cameras:
        message = "no file that `include` names contains a camera, so there is no group to run"
        raise ConfigError([Diagnostic(code="missing_key", message=message, path=("cameras",), file=str(path))])
    data: dict[str, Any] = resolved(path).plain()
    if config.redis.fleet_key is None and default_key is not None:
        data["redis"] = {**(data.get("redis") or {}), "fleet_key": default_key(config).reveal()}
    if config.redis.tls is not None:  # make the paths absolute, because each group has its own folder
        data["redis"] = {**data["redis"], "tls": config.redis.tls.model_dump(mode="json", exclude_none=True)}
    groups = group_cameras(config.cameras, previous=previous)
    specs = [
        GroupSpec(
            name=group.name,
            text=_yaml_text({**group_config(data, config, group), "gateway": {"listen": "none"}}),
            placement=dict(group.placement),
            millicores=hub_millicores(config, group),
        )
        for group in groups
    ]
    if not config.gateway.listen.off or config.webhooks or config.mqtt.url is not None:
        values = {key: value for key, value in data.items() if key in _CONTROL_SECTIONS}
        values["nvision"] = {"url": "local"}
        values["cameras"] = [{"id": camera.id, "url": _STAND_IN_URL} for camera in config.cameras]
        specs.append(GroupSpec(name=CONTROL, text=_yaml_text(values), placement={}, millicores=HUB_MILLICORES))
    return SplitResult(config=config, groups=groups, specs={spec.name: spec for spec in specs})


def _yaml_text(values: Mapping[str, Any]) -> str:
    """Return `values` as JSON, which is also valid YAML. Escapes `${`, because variables must not be resolved again."""
    return json.dumps({**values, "state_dir": "state"}, indent=1, ensure_ascii=False).replace("${", "$${")
