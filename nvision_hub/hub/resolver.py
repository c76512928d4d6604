"""Reader of the configuration for the supervisor: short-lived processes convert cameras.yaml into sealed settings.

All workers are forks of the supervisor and inherit a copy of its memory, so the supervisor's memory must contain no
secret. Memory files hold the active configuration and the settings of each process, and the supervisor keeps only their
descriptors. A short-lived process reads the active configuration and returns new settings and a `PublicPlan`.
"""

from __future__ import annotations

import itertools
import json
import os
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from nvision_hub.broker.embedded_config import PortClaim
from nvision_hub.config.load import patterns_of
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.active_config import ActiveConfig
from nvision_hub.hub.composition import PublicPlan
from nvision_hub.redaction import known_secrets
from nvision_hub.runtime.forked_call import call_in_child
from nvision_hub.runtime.memory_file import MemoryFile
from nvision_hub.runtime.messages import MessageError, SealedRequest
from nvision_hub.runtime.process_resources import DescriptorReserve, cause_and_fix
from nvision_hub.runtime.sealed_settings import SealedSettings, SecretFinder, change_of_settings, sealed

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from pathlib import Path

    from nvision_hub.cluster.identity import HubIdentity
    from nvision_hub.config.include_pattern import IncludePattern
    from nvision_hub.config.models import Config
    from nvision_hub.hub.runtime_overrides import Overrides
    from nvision_hub.runtime.forked_call import HasDescriptor
    from nvision_hub.runtime.messages import CameraMessage, CameraRequest

T = TypeVar("T")

START_TIMEOUT_S: Final = 60.0
# Descriptors reserved for a reload. A hub at its limit of open files can then still reload, for example to remove
# cameras.
RESERVED_DESCRIPTORS: Final = 16
# While the hub runs. The supervisor's loop waits for both during a reload, and a worker may be silent for at most 15 s.
PATTERNS_TIMEOUT_S: Final = 4.0
TIMEOUT_S: Final = 10.0


@dataclass(frozen=True, kw_only=True, slots=True)
class _NewSettings:
    """Settings in the next memory file received, with the message that applies them to a running child."""

    change: CameraMessage | None


class Resolver:
    """Short-lived processes that read the configuration of one hub.

    `variables` is a memory file with environment variables as JSON, from `secret_variables`.
    """

    def __init__(
        self,
        path: Path,
        *,
        only: Collection[str] = (),
        identity: HubIdentity | None = None,
        variables: MemoryFile | None = None,
    ) -> None:
        self._variables = variables
        self._first = partial(ActiveConfig.first, path, only=only, identity=identity)
        self._active: SealedSettings | None = None  # an `ActiveConfig`; None before `start`
        self._settings: dict[str, SealedSettings] = {}  # by the name of the process
        self._revisions = itertools.count()
        self._claims: list[PortClaim] = []
        self._reserve = DescriptorReserve(RESERVED_DESCRIPTORS)

    def start(
        self,
        check: Callable[[Config, Overrides], object] = lambda _config, _overrides: None,
        *,
        passed_errors: tuple[type[Exception], ...] = (HubError,),
    ) -> PublicPlan:
        """Read the configuration for the first time, pass it and the stored overrides to `check`, and return the plan.

        Raises `HubError`, and those errors from `check` that are instances of `passed_errors`.
        """
        return self._replace(lambda _none: self._first(check=check), START_TIMEOUT_S, passed_errors)

    def include_patterns(self, path: Path) -> tuple[IncludePattern, ...] | None:
        """Return the patterns of `include` in cameras.yaml; None if the file is unreadable. Raises `HubError`."""
        patterns: tuple[IncludePattern, ...] | None
        with self._reserve.released():
            patterns, _ = call_in_child(lambda: (patterns_of(path), ()), timeout_s=PATTERNS_TIMEOUT_S)
        return patterns

    def reload(self) -> PublicPlan:
        """Read the file again and return the new plan. If this fails, raises `HubError` and changes nothing."""
        return self._replace(ActiveConfig.reloaded, TIMEOUT_S)

    def apply(self, request: CameraRequest | SealedRequest) -> PublicPlan:
        """Perform an operator's request and return the new plan. If this fails, raises `HubError` and changes nothing.

        A request that takes too long may still take effect at the next start of the hub.
        """

        def requested(active: ActiveConfig) -> ActiveConfig:
            try:
                return active.with_request(request.read() if isinstance(request, SealedRequest) else request)
            except MessageError as error:
                raise HubError(f"the request cannot be read: {error}") from error

        return self._replace(requested, TIMEOUT_S)

    def inspect(self, function: Callable[[ActiveConfig], T]) -> T:
        """Call `function` with the active configuration, and return its result, which must contain no secret.

        Raises `HubError`.
        """
        result: T

        def call() -> tuple[T, tuple[()]]:
            active = self._current()
            assert active is not None  # noqa: S101 - `start` comes first
            return function(active), ()

        result, _ = call_in_child(call, timeout_s=START_TIMEOUT_S)
        return result

    def _replace(
        self,
        function: Callable[[Any], ActiveConfig],
        timeout_s: float,
        passed_errors: tuple[type[Exception], ...] = (HubError,),
    ) -> PublicPlan:
        plan: PublicPlan
        with self._reserve.released():
            (plan, ports), descriptors = call_in_child(
                lambda: self._resolved(function), timeout_s=timeout_s, passed_errors=passed_errors
            )
        received = iter(descriptors)
        self._active = self._sealed(next(received))
        before, self._settings = self._settings, {}
        children = []
        for spec in plan.children:
            settings = before.get(spec.name)
            if isinstance(spec.settings, _NewSettings):
                replaces = None if settings is None else settings.revision
                settings = self._sealed(next(received), replaces=replaces, change=spec.settings.change)
            assert settings is not None  # noqa: S101 - `_resolved` omits only settings that are in `before`
            self._settings[spec.name] = settings
            children.append(replace(spec, settings=settings))
        self._claims += [PortClaim(port, next(received)) for port in ports]
        endpoints = replace(plan.endpoints, pid=os.getpid())
        return replace(plan, children=tuple(children), endpoints=endpoints)

    def _sealed(self, descriptor: int, **more: Any) -> SealedSettings:
        return SealedSettings(file=MemoryFile(descriptor), revision=next(self._revisions), **more)

    def _current(self) -> ActiveConfig | None:
        """Return the active configuration; None if there is none yet. Runs in a short-lived process."""
        if self._variables is not None:
            os.environ.update(json.loads(self._variables.read()))
        return None if self._active is None else self._active.reveal()

    def _resolved(self, function: Callable[[Any], ActiveConfig]) -> tuple[object, Sequence[HasDescriptor]]:
        """Return the public plan and the claimed ports, with their descriptors. Runs in a short-lived process."""
        before = self._current()
        after = function(before)
        old_specs = {} if before is None else {spec.name: spec for spec in before.plan.children}
        files: list[HasDescriptor] = [_sealed(after, known_secrets())]
        finder = SecretFinder(known_secrets())
        children = []
        for spec in after.plan.children:
            old, new = old_specs.get(spec.name), None
            if old != spec:
                files.append(_sealed(spec.settings, finder.secrets_in(spec.settings)))
                new = _NewSettings(change=None if old is None else old.reconfigure(old.settings, spec.settings))
            children.append(replace(spec, settings=new, reconfigure=change_of_settings))
        claims = [claim for claim in after.plan.resources.ports.values() if claim.is_held]
        plan = PublicPlan(
            path=after.config.path,
            include=after.config.include,
            state_dir=after.config.state_dir,
            children=tuple(children),
            endpoints=after.plan.endpoints,
            has_usb=after.plan.has_usb,
            warnings=after.plan.warnings,
            rejected_overrides=after.overrides.rejected,
        )
        return (plan, [claim.port for claim in claims]), [*files, *claims]


def _sealed(settings: object, secrets: Iterable[str]) -> MemoryFile:
    """Call `sealed` and return its memory file. Raises `UnavailableError` if a system limit is reached."""
    try:
        return sealed(settings, secrets)
    except OSError as error:
        raise UnavailableError(f"the settings of the processes cannot be stored: {cause_and_fix(error)}") from error
