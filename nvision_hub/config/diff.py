"""What differs between two configurations, and which of it a running camera can take up without a restart."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.models import CameraSettings, Config, Section

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

RUN_TIME_SETTINGS: Final = frozenset({"fps", "jpeg_quality", "max_width", "nvision.confidence_threshold"})

# Cameras are compared as they run, with `defaults` merged; so `defaults` itself makes no difference to anything.
_CAMERA_SECTIONS: Final = frozenset({"cameras", "defaults"})


@dataclass(frozen=True, kw_only=True, slots=True)
class Diff:
    """Cameras by id, in the order of their file; settings by name, those inside a section as `nvision.service`.

    `hub` names the top-level sections that changed besides the cameras; a changed `nvision` there says nothing of
    cameras, which show it among their own settings.
    """

    added: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    changed: Mapping[str, frozenset[str]] = field(default_factory=dict)
    hub: frozenset[str] = frozenset()

    def __bool__(self) -> bool:
        return bool(self.added or self.removed or self.changed or self.hub)

    @property
    def restarted(self) -> tuple[str, ...]:
        """Cameras whose change needs a new worker."""
        return tuple(camera for camera, settings in self.changed.items() if not settings <= RUN_TIME_SETTINGS)

    @property
    def tuned(self) -> tuple[str, ...]:
        """Cameras whose worker can take up the change while it runs."""
        return tuple(camera for camera, settings in self.changed.items() if settings <= RUN_TIME_SETTINGS)


def diff(old: Config, new: Config) -> Diff:
    """What becomes different when `new` takes the place of `old`."""
    before = {camera.id: camera for camera in old.cameras}
    after = {camera.id: camera for camera in new.cameras}
    both = {name: frozenset(_differences(before[name], after[name])) for name in after if name in before}
    return Diff(
        added=tuple(name for name in after if name not in before),
        removed=tuple(name for name in before if name not in after),
        changed={name: settings for name, settings in both.items() if settings},
        hub=frozenset(
            name
            for name in Config.model_fields
            if name not in _CAMERA_SECTIONS and getattr(old, name) != getattr(new, name)
        ),
    )


def run_time_values(camera: CameraSettings) -> dict[str, Any]:
    """The settings that may change while the camera runs, as the arguments of a `set` command."""
    return {name.rpartition(".")[2]: _value(camera, name) for name in sorted(RUN_TIME_SETTINGS)}


def _differences(old: Section, new: Section) -> Iterator[str]:
    for name in type(new).model_fields:
        was, becomes = getattr(old, name), getattr(new, name)
        if isinstance(becomes, Section):
            yield from (f"{name}.{inner}" for inner in _differences(was, becomes))
        elif was != becomes:
            yield name


def _value(section: Section, name: str) -> Any:
    value: Any = section
    for part in name.split("."):
        value = getattr(value, part)
    return value
