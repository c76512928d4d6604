"""A changed cameras.yaml while the hub runs: noticed, checked as a whole, and taken up or refused.

Asked by the supervisor's loop, so it never waits. The file is looked at rather than watched: a ConfigMap changes by
swapping a link somewhere above the file, which resolving its path each time shows and a watch on the file does not.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING

from nvision_hub.config import load
from nvision_hub.errors import ConfigError, HubError
from nvision_hub.hub.composition import plan
from nvision_hub.hub.surroundings import check_libraries

if TYPE_CHECKING:
    from collections.abc import Collection

    from nvision_hub.child import ChildSpec
    from nvision_hub.config import Config
    from nvision_hub.hub.composition import Places

log = logging.getLogger("nvision_hub.config")

_Print = tuple[Path, int, int, int] | None


class Renewal:
    """The configuration that runs, and its file. Call it for the children there should be; None means no change."""

    def __init__(self, config: Config, places: Places, *, only: Collection[str] = ()) -> None:
        self._config = config
        self._places = places
        self._only = only
        self._taken = self._seen = _print_of(config.path)

    def __call__(self, asked: bool) -> tuple[ChildSpec, ...] | None:  # noqa: FBT001 - the supervisor's signature
        """Look at the file; read it where it has changed and then kept still for a turn, or where somebody `asked`."""
        before, self._seen = self._seen, _print_of(self._config.path)
        settled = self._seen == before and self._seen is not None
        if not asked and (not settled or self._seen == self._taken):
            return None
        self._taken = self._seen
        try:
            config = load(self._config.path)
            _same_ground(self._config, config)
            chosen = plan(config, only=self._only, places=self._places)
            check_libraries(chosen)
        except HubError as error:
            log.error("the changed %s is not taken up, what ran runs on:\n%s", self._config.path.name, error)  # noqa: TRY400 - for people
            return None
        self._config = config
        log.info("%s is read anew", config.path.name)
        for sentence in chosen.warnings:
            log.warning("%s", sentence)
        return chosen.children


def _print_of(path: Path) -> _Print:
    """What tells one content of the file from another without reading it; None while it is not there."""
    try:
        real = path.resolve()
        facts = real.stat()
    except OSError:
        return None
    return real, facts.st_ino, facts.st_mtime_ns, facts.st_size


def _same_ground(old: Config, new: Config) -> None:
    """Raise `ConfigError` for what cannot change while the hub stands on it."""
    if new.state_dir != old.state_dir:
        raise ConfigError([f"{new.path.name}: state_dir: cannot change while the hub runs; start it anew for that"])
