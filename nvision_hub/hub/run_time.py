"""What operators change while the hub runs: a layer over cameras.yaml, kept in the state_dir until it is undone.

Pure values: a `RunTime` and a wish in, another `RunTime` out. Who asks, and what then becomes of the processes, is
not known here.
"""

from __future__ import annotations

import json
import logging
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError

from nvision_hub.config import RunTimeSettings, load, run_time_values, tuned
from nvision_hub.errors import ConfigError, HubError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvision_hub.config import Camera, Config
    from nvision_hub.link import Command

log = logging.getLogger("nvision_hub.config")

FILE: Final = "run-time.json"


class RefusedError(HubError):
    """What was asked for cannot be done."""


@dataclass(frozen=True, kw_only=True)
class RunTime:
    """Changes by camera id. Those of cameras that the file no longer has wait for their return."""

    paused: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # of `RunTimeSettings`
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # as entries of cameras.yaml
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.paused or self.settings or self.added or self.removed)

    def told(self) -> str:
        """For people: what differs from the file."""
        told = [f"{name} {', '.join(f'{k}={v}' for k, v in values.items())}" for name, values in self.settings.items()]
        lists = {"paused": self.paused, "added": tuple(self.added), "removed": self.removed}
        return "; ".join([*told, *(f"{what} {', '.join(names)}" for what, names in lists.items() if names)])

    def configuration(self, path: Path) -> Config:
        """The file at `path` with the cameras that were added and without those removed, at the file's settings.

        Raises `ConfigError`.
        """
        config = load(path, also=tuple(self.added.values()))
        return config.model_copy(update={"cameras": tuple(c for c in config.cameras if c.id not in self.removed)})

    def camera(self, camera: Camera) -> Camera:
        """A camera with the settings that were asked for."""
        return tuned(camera, dict(self.settings.get(camera.id, {})))

    def facts(self, camera: Camera) -> dict[str, Any]:
        """What operators may know of a camera of the configuration: JSON, no secrets."""
        return {
            "camera": self.camera(camera).shown(),
            "run_time": {
                "paused": camera.id in self.paused,
                "set": dict(self.settings.get(camera.id, {})),
                "file": run_time_values(camera),
                "added": camera.id in self.added,
            },
        }

    def after(self, wish: Command, config: Config) -> RunTime:
        """What it becomes once a wish of an overseer has come true. Raises `RefusedError` where it cannot."""
        match wish.verb, wish.arguments.get("camera"):
            case "add", dict(entry):
                return self._with(entry, config)
            case verb, str(camera_id):
                return self._changed(verb, _known(camera_id, config), wish.arguments.get("values", {}))
        raise RefusedError(f"{wish.verb}: names no camera")

    def _changed(self, verb: str, camera: Camera, values: Mapping[str, Any]) -> RunTime:
        match verb:
            case "pause":
                return replace(self, paused=tuple(sorted({*self.paused, camera.id})))
            case "resume":
                return replace(self, paused=_without(self.paused, camera.id))
            case "set":
                return self._set(camera, values)
            case "remove":
                settings = {name: kept for name, kept in self.settings.items() if name != camera.id}
                if camera.id in self.added:
                    added = {name: kept for name, kept in self.added.items() if name != camera.id}
                    return replace(self, paused=_without(self.paused, camera.id), settings=settings, added=added)
                removed = tuple(sorted({*self.removed, camera.id}))
                return replace(self, paused=_without(self.paused, camera.id), settings=settings, removed=removed)
        raise RefusedError(f"a hub cannot {verb} a camera")

    def _set(self, camera: Camera, values: Mapping[str, Any]) -> RunTime:
        try:
            asked = RunTimeSettings.model_validate(values).given()
        except ValidationError as error:
            told = "; ".join(f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors())
            raise RefusedError(told) from error
        of_file = run_time_values(camera)
        now = {**self.settings.get(camera.id, {}), **asked}
        differing = {name: value for name, value in now.items() if value != of_file[name]}
        others = {name: kept for name, kept in self.settings.items() if name != camera.id}
        return replace(self, settings={**others, camera.id: differing} if differing else others)

    def _with(self, entry: Mapping[str, Any], config: Config) -> RunTime:
        camera_id = entry.get("id")
        if any(camera.id == camera_id for camera in config.cameras):
            raise RefusedError(f"there is a camera {camera_id} already; remove it first, or give this one another id")
        if str(entry.get("url", "")).startswith("file:"):
            raise RefusedError("url: a file: camera can only be added in cameras.yaml")
        after = replace(self, added={**self.added, str(camera_id): dict(entry)})
        after = replace(after, removed=_without(after.removed, str(camera_id)))
        try:
            after.configuration(config.path)
        except ConfigError as error:
            # It comes last, so what is wrong with it is told of the last camera; the rest is the file's own trouble.
            raise RefusedError("\n".join(_of_the_last(error.problems))) from error
        return after


def _known(camera_id: str, config: Config) -> Camera:
    for camera in config.cameras:
        if camera.id == camera_id:
            return camera
    raise RefusedError(f"there is no camera {camera_id}")


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def _of_the_last(problems: list[str]) -> list[str]:
    shortened = [problem.partition("cameras[")[2].partition("]")[2].lstrip(".: ") for problem in problems]
    return [short or problem for short, problem in zip(shortened, problems, strict=True)]


def read(path: Path) -> tuple[Config, RunTime]:
    """The configuration in `path`, and what was changed at run time before its hub last ended. Raises `ConfigError`."""
    config = load(path)
    run_time = restore(config.state_dir)
    if not run_time:
        return config, run_time
    try:
        config = run_time.configuration(path)
    except ConfigError as error:  # the file has changed since, and is the one to trust
        log.warning("the cameras that were added at run time are left out, for they no longer fit the file: %s", error)
        run_time = replace(run_time, added={})
        config = run_time.configuration(path)
    return config, run_time


def restore(state_dir: Path) -> RunTime:
    """What was changed before the hub was last ended. A file that cannot be read is set aside, and told."""
    file = state_dir / FILE
    try:
        fields = json.loads(file.read_text(encoding="utf-8"))
        return RunTime(
            paused=tuple(fields["paused"]),
            settings=dict(fields["settings"]),
            added=dict(fields["added"]),
            removed=tuple(fields["removed"]),
        )
    except FileNotFoundError:
        return RunTime()
    except (OSError, ValueError, TypeError, KeyError) as error:
        log.warning("%s cannot be read (%s); what was changed at run time is forgotten", file, type(error).__name__)
        return RunTime()


def keep(state_dir: Path, run_time: RunTime) -> None:
    """Leave it for the next start. Raises `OSError`."""
    file = state_dir / FILE
    if not run_time:
        file.unlink(missing_ok=True)
        return
    beside = file.with_suffix(".new")
    beside.write_text(json.dumps(asdict(run_time)), encoding="utf-8")
    beside.replace(file)
