"""Storage of run-time overrides in the state_dir, and checks of stored overrides when a hub starts.

A stored change may be invalid: an earlier version of the hub accepted it, a user edited the file, or cameras.yaml has
changed since. The hub sets invalid changes aside. They have no effect, but stay in the file for the next start.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter, ValidationError

from nvision_hub.config.added_cameras import MAX_ADDED_CAMERAS
from nvision_hub.config.load import load
from nvision_hub.config.models import RuntimeSettings
from nvision_hub.errors import ConfigError
from nvision_hub.hub.runtime_overrides import OverrideRejectedError, Overrides, check_added, relative_to_entry

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from nvision_hub.config.models import Config

log = logging.getLogger("nvision_hub.config")

FILE: Final = "run-time.json"

_OVERRIDES: Final = TypeAdapter(Overrides)


def read(path: Path) -> tuple[Config, Overrides]:
    """Return the configuration in `path` and the overrides of the last run. Raises `ConfigError`."""
    config = load(path)
    stored = restore(config.state_dir)
    if not stored:
        return config, stored
    settings = {
        camera: valid
        for camera, values in stored.settings.items()
        if (valid := _valid_settings(camera, values)) is not None
    }
    added = _allowed(stored.added)
    overrides = replace(stored, settings=settings, added=added)
    try:
        config = overrides.configuration(path)
    except ConfigError:
        added = {camera: entry for camera, entry in added.items() if _fits(camera, entry, path)}
        overrides = replace(overrides, added=added)
        try:
            config = overrides.configuration(path)
        except ConfigError as error:  # each camera is valid alone, but all cameras together exceed a limit
            _set_aside("the cameras added at run time", error)
            overrides = replace(overrides, added={})
            config = overrides.configuration(path)
    invalid = Overrides(
        settings=_missing(stored.settings, overrides.settings), added=_missing(stored.added, overrides.added)
    )
    return config, replace(overrides, set_aside=invalid or None)


def parse(content: bytes) -> Overrides:
    """Return the unchecked overrides in a file. Raises `ValueError` if the content has another structure."""
    return _OVERRIDES.validate_json(content)


def restore(state_dir: Path) -> Overrides:
    """Return the unchecked stored overrides. If the file is unreadable, log a warning and return no overrides."""
    file = state_dir / FILE
    try:
        return parse(file.read_bytes())
    except FileNotFoundError:
        return Overrides()
    except (OSError, ValueError) as error:
        log.warning(
            "%s cannot be read: %s; run-time overrides are discarded",
            file,
            type(error).__name__,
            extra={"event": "overrides_discarded"},
        )
        return Overrides()


def save(state_dir: Path, overrides: Overrides) -> None:
    """Store the overrides for the next start, including the changes that are set aside. Raises `OSError`."""
    file = state_dir / FILE
    if (invalid := overrides.set_aside) is not None:
        overrides = replace(
            overrides,
            settings={**invalid.settings, **overrides.settings},
            added={**invalid.added, **overrides.added},
            set_aside=None,
        )
    if not overrides:
        file.unlink(missing_ok=True)
        return
    new = file.with_suffix(".new")
    new.write_bytes(_OVERRIDES.dump_json(overrides, exclude={"set_aside"}))
    new.replace(file)


def _valid_settings(camera: str, values: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return a camera's stored settings, converted to their types.

    If they are invalid, log a warning and return None.
    """
    try:
        return RuntimeSettings.model_validate(values).given()
    except ValidationError as error:
        names = ", ".join(dict.fromkeys(str(found["loc"][0]) for found in error.errors() if found["loc"]))
        _set_aside(f"the settings of camera {camera!r}", f"{names} cannot have the stored value")
        return None


def _allowed(stored: Mapping[str, Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    """Return the entries of added cameras that the API would accept now. Log a warning for every other entry."""
    allowed = {camera: entry for camera, entry in stored.items() if _is_allowed(camera, entry)}
    for camera in [*allowed][MAX_ADDED_CAMERAS:]:
        _set_aside(f"camera {camera!r}", f"at most {MAX_ADDED_CAMERAS} cameras may be added at run time")
        del allowed[camera]
    return allowed


def _is_allowed(camera: str, entry: Mapping[str, Any]) -> bool:
    """Return whether the API would accept the entry of an added camera now. If not, log a warning."""
    reason: object = "its entry has another id"
    if entry.get("id") == camera:
        try:
            check_added(entry)
        except OverrideRejectedError as error:
            reason = error
        else:
            return True
    _set_aside(f"camera {camera!r}", reason)
    return False


def _fits(camera: str, entry: Mapping[str, Any], path: Path) -> bool:
    """Return whether the entry of an added camera is valid together with the file `path`. If not, log a warning."""
    try:
        Overrides(added={camera: entry}).configuration(path)
    except ConfigError as error:
        _set_aside(f"camera {camera!r}", OverrideRejectedError(map(relative_to_entry, error.diagnostics)))
        return False
    return True


def _set_aside(change: str, reason: object) -> None:
    log.warning(
        "stored run-time change of %s not restored: %s; it stays in %s without effect",
        change,
        reason,
        FILE,
        extra={"event": "override_set_aside"},
    )


def _missing(stored: Mapping[str, Any], kept: Mapping[str, Any]) -> dict[str, Any]:
    return {camera: change for camera, change in stored.items() if camera not in kept}
