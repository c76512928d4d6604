"""Driver of the Ray engine: creates the actors for a cameras.yaml and updates them when the file changes.

A driver can end at any time: the actors are detached and keep running, and Redis stores their configurations. Several
drivers can run at the same time.
"""

from __future__ import annotations

import logging
import signal
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import ray
from ray.exceptions import GetTimeoutError, RayError
from redis.exceptions import RedisError

from nvision_hub.broker.client import connect_sync
from nvision_hub.broker.redis_check import check_redis
from nvision_hub.cluster.camera_lease import lease_key
from nvision_hub.cluster.fleet_key import create_fleet_key, read_fleet_key
from nvision_hub.cluster.group_config import node_labels
from nvision_hub.cluster.ray import config_store
from nvision_hub.cluster.ray.config_store import ConfigStore, GroupKey
from nvision_hub.cluster.ray.connection import connect
from nvision_hub.cluster.ray.group_actor import GroupActor
from nvision_hub.cluster.ray.reconcile import GroupAction, reconcile
from nvision_hub.cluster.ray.split_config import GroupSpec, SplitResult, split_config
from nvision_hub.config.include_pattern import file_fingerprint
from nvision_hub.config.load import load, patterns_of
from nvision_hub.errors import ConfigError, Diagnostic, HubError, UnavailableError
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.cluster.ray.group_actor import ActorStatus
    from nvision_hub.config.models import Config
    from nvision_hub.config.value_types import Secret

log = logging.getLogger("nvision_hub.engine")

POLL_INTERVAL_S: Final = 1.0
# The driver looks for lost groups at this interval, even if the file does not change.
RECONCILE_INTERVAL_S: Final = 15.0
REPLY_TIMEOUT_S: Final = 5.0
APPLY_TIMEOUT_S: Final = 20.0  # a Ray worker takes seconds to start
DRAIN_TIMEOUT_S: Final = 30.0
RELEASE_TIMEOUT_S: Final = 20.0  # longer than the time after which an unreleased lease expires


class NotReadyError(Exception):
    """An actor is not ready yet."""


def check(config: Config) -> None:
    """Raise `ConfigError` for settings that do not work on several machines."""
    if config.redis.url.embedded:
        message = "the embedded broker serves one machine, but the engine runs cameras on several machines"
        fix = "use a Redis that all machines can reach, such as redis://10.0.0.5:6379"
        path, file = ("redis", "url"), config.path.name
        raise ConfigError([Diagnostic(code="not_shared", message=message, fix=fix, path=path, file=file)])


class RayDriver:
    """Driver of the actors for one cameras.yaml."""

    def __init__(self, path: Path, config: Config) -> None:
        self._path = path
        self._site = config.site
        self._prefix = config.redis.prefix
        self._redis_url = config.redis.dial()
        self._client = connect_sync(self._redis_url)
        self._split: SplitResult | None = None
        self._warned: set[str] = set()

    def load(self) -> None:
        """Load the file. Raises `HubError`, and keeps the previous configuration, if loading fails."""
        try:
            previous = config_store.get_assignment(self._client, self._prefix)
            split = split_config(self._path, previous, self._default_key)
            check(split.config)
            redis = split.config.redis
            if (split.config.site, redis.prefix, redis.dial()) != (self._site, self._prefix, self._redis_url):
                message = "site, redis.url and redis.prefix cannot change while groups run"
                fix = "drain the groups first"
                raise ConfigError([Diagnostic(code="restart_required", message=message, fix=fix, file=self._path.name)])
            config_store.put_assignment(self._client, self._prefix, split.groups)
        except (RedisError, OSError) as error:
            raise UnavailableError(f"Redis does not answer ({type(error).__name__}); check redis.url") from error
        except RayError as error:
            raise UnavailableError(f"the Ray cluster does not answer: {_first_line(error)}") from error
        self._split = split

    def _default_key(self, config: Config) -> Secret:
        """Return the key in the state_dir, or create a key if no group runs yet. Raises `UnavailableError`."""
        key = read_fleet_key(config)
        if key is None and self._groups():
            # Another driver created the groups with its own key. Two drivers with different keys would repeatedly
            # replace each other's configurations.
            raise UnavailableError(
                f"groups of {self._site} already run, but state_dir {config.state_dir} has no fleet key; set the same "
                "redis.fleet_key in every copy of cameras.yaml, or run this command with the state_dir of the first "
                "driver"
            )
        return key or create_fleet_key(config.state_dir)

    def reconcile(self) -> bool:
        """Perform the actions that are due. Return whether every group runs its current configuration."""
        assert self._split is not None  # noqa: S101 - callers call `load` first
        specs = self._split.specs
        try:
            actions = reconcile({name: spec.digest for name, spec in specs.items()}, self._digests())
        except RayError as error:  # a failure of the cluster's head node, not of a group
            log.warning("the Ray cluster does not answer: %s; existing groups keep running", _first_line(error),
                        extra={"event": "ray_unavailable"})  # fmt: skip
            return False
        settled = True
        for action, group in actions:
            try:
                if action is GroupAction.REMOVE:
                    self._remove(group)
                elif action is GroupAction.AWAIT:
                    settled = False
                else:
                    if action is GroupAction.CREATE:
                        self._create(specs[group])
                    self._apply(specs[group])
            except (RayError, NotReadyError) as error:
                log.warning("action %s failed for group %s: %s; retrying", action, group, _first_line(error),
                            extra={"event": "group_action_failed"})  # fmt: skip
                settled = False
        return settled

    def drain(self) -> None:
        """End all groups of the site, and return when no hub streams a camera. Raises `UnavailableError`."""
        deadline = time.monotonic() + DRAIN_TIMEOUT_S
        while left := self._groups():
            for group in left:
                try:
                    self._remove(group)
                except (RayError, NotReadyError) as error:
                    log.warning("group %s not drained: %s; retrying", group, _first_line(error),
                                extra={"event": "group_drain_failed"})  # fmt: skip
                    if time.monotonic() > deadline:
                        self._kill(group)  # the actor's hub also dies, and its leases expire
        self._wait_for_leases()

    def _wait_for_leases(self) -> None:
        """Wait until no lease is held: a killed hub releases no lease, and a hub on a lost node may still stream."""
        try:
            cameras = [*config_store.get_assignment(self._client, self._prefix)]
            deadline = time.monotonic() + RELEASE_TIMEOUT_S
            while held := [it for it in cameras if self._client.exists(lease_key(self._prefix, it))]:
                if time.monotonic() > deadline:
                    raise UnavailableError(
                        f"a hub outside this cluster still streams {', '.join(held)}; find that hub and stop it"
                    )
                time.sleep(POLL_INTERVAL_S / 4)
        except (RedisError, OSError) as error:
            raise UnavailableError(
                f"all groups ended, but Redis does not answer ({type(error).__name__}), so a camera may still be "
                "streamed; drain again when Redis is available"
            ) from error

    def _groups(self) -> list[str]:
        """Return the groups of this site that have an actor."""
        prefix = f"{self._site}/"
        names = ray.util.list_named_actors()
        return [name.removeprefix(prefix) for name in names if isinstance(name, str) and name.startswith(prefix)]

    def _digests(self) -> dict[str, str | None]:
        replies = {
            group: actor.status.remote() for group in self._groups() if (actor := self._actor(group)) is not None
        }
        if replies:
            ray.wait([*replies.values()], num_returns=len(replies), timeout=REPLY_TIMEOUT_S)
        return {group: _digest(reply) for group, reply in replies.items()}

    def _actor(self, group: str) -> Any:
        try:
            return ray.get_actor(f"{self._site}/{group}")
        except ValueError:  # the actor has ended
            return None

    def _create(self, spec: GroupSpec) -> None:
        key = GroupKey(site=self._site, group=spec.name, redis_url=self._redis_url, prefix=self._prefix)
        selector = self._selector(spec)
        options: dict[str, Any] = {"label_selector": selector, "fallback_strategy": [{"label_selector": {}}]}
        ray.remote(GroupActor).options(
            name=key.actor,
            lifetime="detached",
            get_if_exists=True,
            max_restarts=-1,
            max_concurrency=4,
            num_cpus=spec.millicores / 1000,
            **(options if selector else {}),
        ).remote(key, ConfigStore.new_key())
        log.info("group %s created: %.1f cores", spec.name, spec.millicores / 1000, extra={"event": "group_created"})

    def _selector(self, spec: GroupSpec) -> dict[str, str]:
        """Return the node labels of the group's placement, and warn about labels that no node has."""
        selector = node_labels(spec.placement)
        nodes = [node.get("Labels", {}) for node in ray.nodes() if node["Alive"]]  # type: ignore[no-untyped-call]
        if len(selector) < len(spec.placement):
            self._warn_once(f"placement of group {spec.name}: labels that no Ray node can have are ignored")
        if selector and not any(selector.items() <= labels.items() for labels in nodes):
            shown = ", ".join(f"{key}={value}" for key, value in selector.items())
            self._warn_once(
                f"no node has the labels of group {spec.name}, so the group runs on any node; start a matching node "
                f"with `ray start --labels '{shown}'`"
            )
        return selector

    def _warn_once(self, sentence: str) -> None:
        if sentence not in self._warned:
            self._warned.add(sentence)
            log.warning("%s", sentence, extra={"event": "placement_unmatched"})

    def _apply(self, spec: GroupSpec) -> None:
        if (actor := self._actor(spec.name)) is None:
            raise NotReadyError("its actor has ended")
        _wait(actor.apply.remote(spec.text), APPLY_TIMEOUT_S)
        log.info("group %s runs %s", spec.name, self._path.name, extra={"event": "group_config_applied"})

    def _remove(self, group: str) -> None:
        if (actor := self._actor(group)) is not None:
            _wait(actor.drain.remote(), DRAIN_TIMEOUT_S)
            self._kill(group)

    def _kill(self, group: str) -> None:
        if (actor := self._actor(group)) is not None:
            ray.kill(actor, no_restart=True)
            log.info("group %s removed", group, extra={"event": "group_removed"})


def run(path: Path, address: str | None, *, insecure: bool) -> signal.Signals:
    """Create the groups, then update them whenever the file changes, until SIGTERM or SIGINT arrives."""
    driver = _connected_driver(path, address, insecure=insecure)
    include = patterns_of(path) or ()
    seen = loaded = file_fingerprint(path, include)
    driver.load()
    stop = threading.Event()
    received = [signal.SIGTERM]

    def on_signal(number: int, _frame: object) -> None:
        received.append(signal.Signals(number))
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, on_signal)
    settled, reconciled_at = False, float("-inf")
    while not stop.wait(POLL_INTERVAL_S if settled else POLL_INTERVAL_S / 4):
        before, seen = seen, file_fingerprint(path, include)
        if seen is not None and seen == before and seen != loaded:
            if (patterns := patterns_of(path)) is not None:
                include = patterns
            seen = loaded = file_fingerprint(path, include)
            settled = not _reload(driver, path)
        if not settled or time.monotonic() - reconciled_at > RECONCILE_INTERVAL_S:
            was_settled, settled, reconciled_at = settled, driver.reconcile(), time.monotonic()
            if settled and not was_settled:
                log.info("all groups run %s; they keep running without this program", path.name,
                         extra={"event": "groups_settled"})  # fmt: skip
    return received[-1]


def drain(path: Path, address: str | None, *, insecure: bool) -> None:
    """End all groups, and return when no hub streams a camera."""
    _connected_driver(path, address, insecure=insecure).drain()


def _connected_driver(path: Path, address: str | None, *, insecure: bool) -> RayDriver:
    config = load(path)
    check(config)
    check_redis(config.redis)
    connect(address, insecure=insecure)
    return RayDriver(path, config)


def _reload(driver: RayDriver, path: Path) -> bool:
    try:
        driver.load()
    except HubError as error:
        log.error("reload of %s rejected; the previous configuration stays active:\n%s", path.name, error,  # noqa: TRY400 - a traceback would not help the user
                  extra={"event": "reload_rejected"})  # fmt: skip
        return False
    log.info("%s reloaded", path.name, extra={"event": "config_reloaded"})
    return True


def _digest(reply: Any) -> str | None:
    try:
        status: ActorStatus = ray.get(reply, timeout=0)
    except RayError:
        return None
    return status.digest


def _wait(reply: Any, timeout_s: float) -> None:
    try:
        ray.get(reply, timeout=timeout_s)
    except GetTimeoutError as error:
        raise NotReadyError("its actor does not answer; check whether a node has enough free CPUs") from error
    except (RedisError, OSError) as error:
        raise NotReadyError(f"its actor cannot use Redis or the disk: {type(error).__name__}") from error


def _first_line(error: Exception) -> str:
    return redact(" ".join(str(error).strip().splitlines()[:1])) or type(error).__name__
