"""A changed cameras.yaml while the hub runs: noticed, checked as a whole, and taken up or refused.

Asked by the supervisor's loop, so it never waits. The file is looked at rather than watched: a ConfigMap changes by
swapping a link somewhere above the file, which resolving its path each time shows and a watch on the file does not.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

from nvision_hub.errors import ConfigError, HubError, UnavailableError
from nvision_hub.hub.composition import plan
from nvision_hub.hub.run_time import RunTime, keep
from nvision_hub.hub.surroundings import check_libraries

if TYPE_CHECKING:
    from collections.abc import Collection

    from nvision_hub.child import ChildSpec
    from nvision_hub.config import Config
    from nvision_hub.hub.composition import Plan
    from nvision_hub.link import Command

log = logging.getLogger("nvision_hub.config")

_Print = tuple[Path, int, int, int] | None


class Renewal:
    """The configuration that runs, its file, and what operators changed since.

    Call it for the children there should be; None means no change.
    """

    def __init__(
        self, config: Config, chosen: Plan, *, only: Collection[str] = (), run_time: RunTime | None = None
    ) -> None:
        self._config = config
        self._chosen = chosen
        self._only = only
        self._run_time = run_time or RunTime()
        self._wished = False
        self._taken = self._seen = print_of(config.path)
        self.refused: str | None = None  # why the last change of the file was not taken up; None where it was
        self.outcomes: Counter[str] = Counter({"taken": 0, "refused": 0})

    @property
    def chosen(self) -> Plan:
        """What runs."""
        return self._chosen

    def __call__(self, asked: bool) -> tuple[ChildSpec, ...] | None:  # noqa: FBT001 - the supervisor's signature
        """Look at the file; read it where it has changed and then kept still for a turn, or where somebody `asked`."""
        before, self._seen = self._seen, print_of(self._config.path)
        settled = self._seen == before and self._seen is not None
        if self._wished:
            self._wished = False
            return self._take_up(self._config)
        if not asked and (not settled or self._seen == self._taken):
            return None
        self._taken = self._seen
        try:
            config = self._run_time.configuration(self._config.path)
            _same_ground(self._config, config)
            children = self._take_up(config)
        except HubError as error:
            log.error("the changed %s is not taken up, what ran runs on:\n%s", self._config.path.name, error)  # noqa: TRY400 - for people
            self.refused = str(error)
            self.outcomes["refused"] += 1
            return None
        self.refused = None
        self.outcomes["taken"] += 1
        log.info("%s is read anew", config.path.name)
        for sentence in self._chosen.warnings:
            log.warning("%s", sentence)
        return children

    def heed(self, wish: Command) -> None:
        """Change what an operator wants changed, from the next call on, and until that is undone.

        Raises `HubError` where it cannot be: nothing is changed then.
        """
        before, after = self._run_time, self._run_time.after(wish, self._config)
        config = self._config
        if (before.added, before.removed) != (after.added, after.removed):
            config = after.configuration(config.path)
        self._plan(config, after)  # raises what would stop it
        try:
            keep(config.state_dir, after)
        except OSError as error:
            raise UnavailableError(
                f"{config.state_dir} cannot be written ({error.strerror}); make room there"
            ) from error
        self._config, self._run_time, self._wished = config, after, True
        log.info("%s %s: asked for", wish.verb, wish.arguments.get("camera", ""))

    def _take_up(self, config: Config) -> tuple[ChildSpec, ...]:
        self._chosen = self._plan(config, self._run_time)
        self._config = config
        return self._chosen.children

    def _plan(self, config: Config, run_time: RunTime) -> Plan:
        chosen = plan(config, only=self._only, places=self._chosen.places, run_time=run_time)
        check_libraries(chosen)
        return chosen


def print_of(path: Path) -> _Print:
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
