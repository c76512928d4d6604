"""Run-time overrides: operators' changes to the settings of cameras.yaml, in effect until an operator undoes them.

This module knows neither the hub's processes nor the sender of a request. `override_store` stores the overrides.
"""

from __future__ import annotations

from collections.abc import Mapping  # noqa: TC003 - pydantic reads it at run time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from nvision_hub.config.added_cameras import MAX_ADDED_CAMERAS, added_camera_problem
from nvision_hub.config.load import load
from nvision_hub.config.models import RuntimeSettings
from nvision_hub.errors import ConfigError, DiagnosedError, Diagnostic
from nvision_hub.runtime.messages import AddCamera, CameraFacts, PauseCamera, RemoveCamera, ResumeCamera, SetCamera

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Camera, Config
    from nvision_hub.errors import KeyPath
    from nvision_hub.runtime.messages import CameraRequest


class OverrideRejectedError(DiagnosedError):
    """A request is not allowed or not valid. Paths in `diagnostics` are relative to the values of the request."""


@dataclass(frozen=True, kw_only=True)
class Overrides:
    """Changes by camera id. Changes to a camera that is missing from the file are kept, in case the camera returns."""

    paused: tuple[str, ...] = ()
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # values of `RuntimeSettings`
    added: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # as entries of cameras.yaml
    removed: tuple[str, ...] = ()
    set_aside: Overrides | None = field(default=None, compare=False)  # invalid stored changes, which have no effect

    def __bool__(self) -> bool:
        return bool(self.paused or self.settings or self.added or self.removed)

    @property
    def rejected(self) -> int:
        """Number of changes that are set aside."""
        return 0 if self.set_aside is None else len(self.set_aside.added) + len(self.set_aside.settings)

    def summary(self) -> str:
        """Return the changes as one line of text for people."""
        settings = [
            f"{name} {', '.join(f'{key}={value}' for key, value in values.items())}"
            for name, values in self.settings.items()
        ]
        lists = {"paused": self.paused, "added": tuple(self.added), "removed": self.removed}
        return "; ".join([*settings, *(f"{verb} {', '.join(names)}" for verb, names in lists.items() if names)])

    def configuration(self, path: Path) -> Config:
        """Return the configuration in `path`, changed only by `added` and `removed`. Raises `ConfigError`."""
        config = load(path, also=tuple(self.added.values()))
        return config.model_copy(update={"cameras": tuple(c for c in config.cameras if c.id not in self.removed)})

    def applied_to(self, camera: Camera) -> Camera:
        return camera.tuned(self.settings.get(camera.id, {}))

    def facts(self, camera: Camera, index: int) -> CameraFacts:
        """Return facts for operators about the camera at position `index` in the configuration."""
        return CameraFacts(
            index=index,
            settings=self.applied_to(camera).shown(),
            overrides=dict(self.settings.get(camera.id, {})),
            values_in_file=camera.run_time_values,
            paused=camera.id in self.paused,
            added=camera.id in self.added,
        )

    def apply(self, request: CameraRequest, config: Config) -> Overrides:
        """Return new overrides that include the request. Raises `OverrideRejectedError`."""
        if isinstance(request, AddCamera):
            return self._add(request.entry, config)
        camera_id = request.camera
        try:
            camera = config.camera(camera_id)
        except KeyError:
            raise _rejected("camera_not_found", f"there is no camera {camera_id}") from None
        match request:
            case PauseCamera():
                return replace(self, paused=tuple(sorted({*self.paused, camera_id})))
            case ResumeCamera():
                return replace(self, paused=_without(self.paused, camera_id))
            case SetCamera(values=values):
                return self._set(camera, values)
            case RemoveCamera():
                removed = () if camera_id in self.added else (camera_id,)
                return replace(
                    self,
                    paused=_without(self.paused, camera_id),
                    settings={name: values for name, values in self.settings.items() if name != camera_id},
                    added={name: entry for name, entry in self.added.items() if name != camera_id},
                    removed=tuple(sorted({*self.removed, *removed})),
                )

    def _set(self, camera: Camera, values: Mapping[str, Any]) -> Overrides:
        try:
            given = RuntimeSettings.model_validate(values).given()
        except ValidationError as error:
            raise OverrideRejectedError(
                Diagnostic(code=found["type"], message=found["msg"], path=found["loc"]) for found in error.errors()
            ) from error
        in_file = camera.run_time_values
        wanted = {**self.settings.get(camera.id, {}), **given}
        differing = {name: value for name, value in wanted.items() if value != in_file[name]}
        others = {name: values for name, values in self.settings.items() if name != camera.id}
        return replace(self, settings={**others, camera.id: differing} if differing else others)

    def _add(self, entry: Mapping[str, Any], config: Config) -> Overrides:
        camera_id = entry.get("id")
        if any(camera.id == camera_id for camera in config.cameras):
            message, fix = f"camera {camera_id} already exists", "remove that camera first, or choose another id"
            raise _rejected("duplicate_id", message, ("id",), fix=fix)
        check_added(entry)
        if len(self.added) >= MAX_ADDED_CAMERAS:
            message = f"at most {MAX_ADDED_CAMERAS} cameras may be added at run time"
            raise _rejected("too_many_cameras", message, ("id",), fix="write them into cameras.yaml, or remove one")
        added = {**self.added, str(camera_id): dict(entry)}
        overrides = replace(self, added=added, removed=_without(self.removed, str(camera_id)))
        try:
            overrides.configuration(config.path)
        except ConfigError as error:
            raise OverrideRejectedError(map(relative_to_entry, error.diagnostics)) from error
        return overrides


def check_added(entry: Mapping[str, Any]) -> None:
    """Raise `OverrideRejectedError` for an entry that cameras.yaml may contain but that is not allowed at run time."""
    if (problem := added_camera_problem(entry)) is not None:
        raise OverrideRejectedError([problem])


def _rejected(code: str, message: str, path: KeyPath = (), *, fix: str | None = None) -> OverrideRejectedError:
    return OverrideRejectedError([Diagnostic(code=code, message=message, path=path, fix=fix)])


def _without(names: tuple[str, ...], name: str) -> tuple[str, ...]:
    return tuple(other for other in names if other != name)


def relative_to_entry(found: Diagnostic) -> Diagnostic:
    """Make the path of a diagnostic relative to the added camera's entry, because the entry has no line in the file."""
    if found.path[:1] != ("cameras",) or found.line is not None:
        return found
    return replace(found, path=found.path[2:], file=None)
