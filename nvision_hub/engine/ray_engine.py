"""The driver: makes the actors of a Ray cluster into what a cameras.yaml says, and follows that file while it runs.

It may end at any time: the actors are detached, and what they need lies in Redis. Any number of drivers may run.
"""

from __future__ import annotations

import logging
import re
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayError
from redis.exceptions import RedisError

from nvision_hub.broker.lease import lease_key
from nvision_hub.config import load
from nvision_hub.engine import vault
from nvision_hub.engine.cluster import connect
from nvision_hub.engine.cut import Cut, GroupSpec, cut
from nvision_hub.engine.group_actor import GroupActor
from nvision_hub.engine.reconcile import Apply, Create, Remove, Wait, reconcile
from nvision_hub.engine.vault import Seat, Vault
from nvision_hub.errors import ConfigError, HubError, UnavailableError, redact
from nvision_hub.hub import ask_redis
from nvision_hub.hub.renewal import print_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from nvision_hub.config import Config

log = logging.getLogger("nvision_hub.engine")

LOOKS_EVERY_S: Final = 1.0
CHECKS_EVERY_S: Final = 15.0  # whether all groups are still there, though the file is the same
ANSWERS_WITHIN_S: Final = 5.0
APPLIED_WITHIN_S: Final = 20.0  # a worker of Ray's takes seconds to start
DRAINED_WITHIN_S: Final = 30.0
QUIET_WITHIN_S: Final = 20.0  # a lease that nobody gives up runs out by itself
_LABEL: Final = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?")


class Unsettled(Exception):  # noqa: N818 - no error: it is tried again
    """Something could not be done yet."""


def check(config: Config) -> None:
    """Raise `ConfigError` for what several machines cannot share."""
    if config.redis.url.embedded:
        told = (
            "redis.url: embedded is a broker of one machine, and the engine runs cameras on several; name a Redis that "
            "all of them reach, such as redis://10.0.0.5:6379"
        )
        raise ConfigError([f"{config.path.name}: {told}"])


class Driver:
    """One cameras.yaml and the actors of its site."""

    def __init__(self, path: Path, config: Config) -> None:
        self._path = path
        self._site = config.site
        self._prefix = config.redis.prefix
        self._redis_url = config.redis.url.dial()
        self._client = vault.client_of(self._redis_url)
        self._cut: Cut | None = None
        self._warned: set[str] = set()

    def read(self) -> None:
        """Take up the file as it is now. Raises `HubError`, and goes by what it had before."""
        try:
            former = vault.former(self._client, self._prefix)
            found = cut(self._path, former)
            self._same_ground(found.config)
            vault.keep(self._client, self._prefix, found.groups)
        except (RedisError, OSError) as error:
            raise UnavailableError(f"Redis does not answer ({type(error).__name__})") from error
        self._cut = found

    def _same_ground(self, config: Config) -> None:
        check(config)
        ground = config.site, config.redis.prefix, config.redis.url.dial()
        if ground != (self._site, self._prefix, self._redis_url):
            told = "site, redis.url and redis.prefix cannot change while groups run; drain them first"
            raise ConfigError([f"{self._path.name}: {told}"])

    def turn(self) -> bool:
        """Do what is due; whether all is as it should be."""
        assert self._cut is not None  # noqa: S101 - `read` comes first
        specs = self._cut.specs
        settled = True
        for action in reconcile({name: spec.digest for name, spec in specs.items()}, self._running()):
            try:
                match action:
                    case Create(group):
                        self._create(specs[group])
                        self._apply(specs[group])
                    case Apply(group):
                        self._apply(specs[group])
                    case Remove(group):
                        self._remove(group)
                    case Wait(group):
                        settled = False
            except (RayError, Unsettled) as error:
                log.warning("%s %s: not done yet (%s)", type(action).__name__.lower(), action.group, _told(error))
                settled = False
        return settled

    def drain(self) -> None:
        """End every group of the site; returns when no camera is streamed any more. Raises `UnavailableError`."""
        deadline = time.monotonic() + DRAINED_WITHIN_S
        while left := self._actors():
            for group in left:
                try:
                    self._remove(group)
                except (RayError, Unsettled) as error:
                    log.warning("%s: not drained yet (%s)", group, _told(error))
                    if time.monotonic() > deadline:
                        self._end(group)  # its hub dies with it, and its leases run out
        self._quiet()

    def _quiet(self) -> None:
        """Wait until no lease is held: what was killed could not say goodbye, and may live where nobody sees it."""
        try:
            cameras = [*vault.former(self._client, self._prefix)]
            deadline = time.monotonic() + QUIET_WITHIN_S
            while held := [it for it in cameras if self._client.exists(lease_key(self._prefix, it))]:
                if time.monotonic() > deadline:
                    raise UnavailableError(f"somebody still streams {', '.join(held)}; look for hubs that nobody ended")
                time.sleep(LOOKS_EVERY_S / 4)
        except (RedisError, OSError) as error:
            raise UnavailableError(
                f"all groups are ended, but Redis does not say whether that is so ({type(error).__name__})"
            ) from error

    def _actors(self) -> list[str]:
        """The groups of this site that have an actor."""
        prefix = f"{self._site}/"
        names = ray.util.list_named_actors()
        return [name.removeprefix(prefix) for name in names if isinstance(name, str) and name.startswith(prefix)]

    def _running(self) -> dict[str, str | None]:
        asked = {group: actor.told.remote() for group in self._actors() if (actor := self._actor(group)) is not None}
        if not asked:
            return {}
        ray.wait([*asked.values()], num_returns=len(asked), timeout=ANSWERS_WITHIN_S)
        return {group: _digest(answer) for group, answer in asked.items()}

    def _actor(self, group: str) -> Any:
        try:
            return ray.get_actor(f"{self._site}/{group}")
        except ValueError:  # it has gone meanwhile
            return None

    def _create(self, spec: GroupSpec) -> None:
        seat = Seat(site=self._site, group=spec.name, redis_url=self._redis_url, prefix=self._prefix)
        selector = self._selector(spec)
        options: dict[str, Any] = {"label_selector": selector, "fallback_strategy": [{"label_selector": {}}]}
        ray.remote(GroupActor).options(
            name=seat.actor,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=4,
            num_cpus=spec.millicores / 1000,
            **(options if selector else {}),
        ).remote(seat, Vault.new_key())
        log.info("%s is new, with %.1f cores", spec.name, spec.millicores / 1000)

    def _selector(self, spec: GroupSpec) -> dict[str, str]:
        """The node labels that it is placed by; those that no node can have are left out, and told."""
        fit = {key: value for key, value in spec.placement.items() if _LABEL.fullmatch(key) and _LABEL.fullmatch(value)}
        nodes = [node.get("Labels", {}) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if len(fit) < len(spec.placement):
            self._warn(f"{spec.name}: no node of Ray's can have its placement as labels; what does not fit is left out")
        if fit and not any(fit.items() <= labels.items() for labels in nodes):
            shown = ", ".join(f"{key}={value}" for key, value in fit.items())
            self._warn(f"{spec.name}: no node has the labels {shown}; it runs on any (ray start --labels '{shown}')")
        return fit

    def _warn(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.warning("%s", sentence)

    def _apply(self, spec: GroupSpec) -> None:
        actor = self._actor(spec.name)
        if actor is None:
            raise Unsettled("its actor has gone")
        _within(APPLIED_WITHIN_S, actor.apply.remote(spec.text))
        log.info("%s runs what %s says", spec.name, self._path.name)

    def _remove(self, group: str) -> None:
        actor = self._actor(group)
        if actor is not None:
            _within(DRAINED_WITHIN_S, actor.drain.remote())
            self._end(group)

    def _end(self, group: str) -> None:
        actor = self._actor(group)
        if actor is not None:
            ray.kill(actor, no_restart=True)
            log.info("%s has ended", group)


def run(path: Path, address: str | None, *, insecure: bool) -> signal.Signals:
    """Bring the groups about and follow the file until SIGTERM or SIGINT, which leave them running."""
    driver = _driver(path, address, insecure=insecure)
    driver.read()
    ended = _Ended()
    seen = taken = print_of(path)
    settled, checked = False, float("-inf")
    while not ended.wait(LOOKS_EVERY_S if settled else LOOKS_EVERY_S / 4):
        before, seen = seen, print_of(path)
        if seen is not None and seen == before and seen != taken:
            taken = seen
            settled = not _taken_up(driver.read, path)
        if not settled or time.monotonic() - checked > CHECKS_EVERY_S:
            was_settled, settled, checked = settled, _turned(driver), time.monotonic()
            if settled and not was_settled:
                log.info("all groups are as %s says; they go on without this program", path.name)
    return ended.by


def drain(path: Path, address: str | None, *, insecure: bool) -> None:
    """End all groups; returns when nothing is sent any more."""
    _driver(path, address, insecure=insecure).drain()


def _driver(path: Path, address: str | None, *, insecure: bool) -> Driver:
    config = load(path)
    check(config)
    ask_redis(config)
    connect(address, insecure=insecure)
    return Driver(path, config)


def _taken_up(read: Callable[[], None], path: Path) -> bool:
    try:
        read()
    except HubError as error:
        log.error("the changed %s is not taken up, what ran runs on:\n%s", path.name, error)  # noqa: TRY400 - for people
        return False
    log.info("%s is read anew", path.name)
    return True


def _turned(driver: Driver) -> bool:
    try:
        return driver.turn()
    except RayError as error:  # of the cluster's head, and of no one group
        log.warning("the Ray cluster does not answer (%s); what runs there runs on", _told(error))
        return False


class _Ended:
    """SIGTERM or SIGINT, as something to wait for."""

    def __init__(self) -> None:
        self._event = threading.Event()
        self.by = signal.SIGTERM
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._note)

    def _note(self, number: int, _frame: object) -> None:
        self.by = signal.Signals(number)
        self._event.set()

    def wait(self, seconds: float) -> bool:
        return self._event.wait(seconds)


def _digest(answer: Any) -> str | None:
    try:
        told: Mapping[str, Any] = ray.get(answer, timeout=0)
    except RayError:
        return None
    return str(told["digest"])


def _within(seconds: float, answer: Any) -> None:
    try:
        ray.get(answer, timeout=seconds)
    except GetTimeoutError as error:
        raise Unsettled("it does not answer; perhaps no machine has room for it") from error
    except (RedisError, OSError) as error:
        raise Unsettled(f"it cannot reach what it needs: {type(error).__name__}") from error


def _told(error: Exception) -> str:
    lines: Iterable[str] = str(error).strip().splitlines()[:1]
    return redact(" ".join(lines)) or type(error).__name__
