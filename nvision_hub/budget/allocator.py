"""Allocation of images to cameras: which camera may send its next image, and which limit makes the others wait.

Each camera asks for one image at a time, and asks again after it has sent the image. An image counts as used from the
time of its grant. Each method that depends on the time receives it as an argument. This module performs no I/O.

The queue groups the cameras by service, because the same limits of the site apply to all cameras of a service. A grant
therefore costs the same for any number of cameras, except for cameras whose own budgets are scarce.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nvision_hub.budget.account_rate import AccountRate
from nvision_hub.budget.fair_queue import FairQueue, Priority
from nvision_hub.budget.period_budget import JUMP_S, Instant, PeriodBudget, RenewalHold
from nvision_hub.budget.periods import STEP_S, Period, time_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    # Returns the images that a camera (None: all cameras) sent from one wall-clock time up to another.
    ImageCount = Callable[[str | None, float, float], int]
    Holds = Mapping[tuple[str | None, Period], RenewalHold]  # by camera (None: the site) and period


ALL_SERVICES: Final = "all"
NO_RESERVE: Final = "the ledger's disk"
_SWEEP_INTERVAL_S: Final = 0.5  # update all budgets at this interval, so that they notice jumps of the clock


@dataclass(frozen=True, kw_only=True)
class SiteBudget:
    """Limits on all cameras of a site together."""

    per_second: Mapping[str, int] = field(default_factory=dict)  # by service; `ALL_SERVICES` limits all together
    per_period: Mapping[Period, int] = field(default_factory=dict)
    time_zone: str = "UTC"
    is_even: bool = True  # whether the images are spread evenly over the periods


@dataclass(frozen=True, kw_only=True)
class CameraBudget:
    """Limits on one camera, and its share of the site's limits."""

    service: str
    fps: float  # images per second that the camera wants to send at most
    priority: Priority = "normal"
    per_period: Mapping[Period, int] = field(default_factory=dict)


@dataclass(kw_only=True)
class _Lane:
    """A camera that wants to send images."""

    wanted: CameraBudget
    group: str
    rates: Sequence[AccountRate]  # the rate limits that apply to the camera
    lent: int = 0  # images granted and not yet reported as sent
    is_new: bool = True  # whether the camera has begun to wait since the last call of `grant`
    own_limit: str = ""  # the limit that made the camera wait, if the camera's own budgets are scarce


@dataclass(kw_only=True)
class _LimitedGroup:
    """Cameras to which the same limits of the site apply."""

    rates: Sequence[AccountRate]
    new: list[str] = field(default_factory=list)  # cameras that began to wait or changed since the last `grant`
    limit: str = ""  # the limit that makes all other cameras of the group wait


class Allocator:
    def __init__(self, site: SiteBudget, count: ImageCount, now: Instant, holds: Holds | None = None) -> None:
        """Create an allocator that continues the `holds` of an earlier allocator."""
        self._site, self._count = site, count
        self._zone = time_zone(site.time_zone)
        self._rates = {service: AccountRate(limit) for service, limit in site.per_second.items()}
        self._demand: dict[AccountRate, float] = {}  # images per second that cameras want to send at most
        self._total_demand = 0.0  # the sum for all cameras
        self._holds = dict(holds or {})  # holds of budgets that do not exist yet
        self._began = now
        self._budgets = self._new_budgets(None, site.per_period, now)
        # Only cameras with budgets of their own. The budgets of a removed camera stay until they are renewed, because
        # they notice jumps of the clock.
        self._camera_budgets: dict[str, dict[Period, PeriodBudget]] = {}
        # Cameras with a budget that may make them wait or that has changed. A grant updates only these.
        self._scarce: dict[str, None] = {}
        self._swept = Instant(float("-inf"), float("-inf"))
        self._queue = FairQueue()
        self._lanes: dict[str, _Lane] = {}
        self._groups: dict[str, _LimitedGroup] = {}
        self._changed: list[str] = []

    def _new_budgets(
        self, camera: str | None, limits: Mapping[Period, int], now: Instant
    ) -> dict[Period, PeriodBudget]:
        def count(begin: float, end: float) -> int:
            return self._count(camera, begin, end)

        budgets = {
            period: PeriodBudget(
                limit,
                period,
                self._zone,
                count=count,
                now=self._began,
                is_even=self._site.is_even,
                hold=self._holds.get((camera, period)),
            )
            for period, limit in limits.items()
        }
        for budget in budgets.values():
            budget.update(now, 0.0)  # notices a jump of the clock since the allocator began
        for period in budgets:
            self._holds.pop((camera, period), None)
        return budgets

    def set_camera(self, camera: str, wanted: CameraBudget, now: Instant) -> None:
        """Add a camera, or change its rate, priority or limits."""
        known = self._camera_budgets.get(camera, {})
        budgets = {period: budget for period, budget in known.items() if period in wanted.per_period}
        added = {period: limit for period, limit in wanted.per_period.items() if period not in budgets}
        budgets |= self._new_budgets(camera, added, now)
        for period, limit in wanted.per_period.items():
            budgets[period].limit = limit
        self._camera_budgets.pop(camera, None)
        self._scarce.pop(camera, None)
        if budgets:
            self._camera_budgets[camera] = budgets
            self._scarce[camera] = None
        lane = self._lanes.get(camera) or self._new_lane(camera, wanted)
        lane.wanted = wanted
        self._queue.set_share(camera, wanted.fps, wanted.priority, lane.group)
        if self._queue.is_waiting(camera):  # the new limits may make the camera wait
            self._groups[lane.group].new.append(camera)
        self._sum_demand()

    def _new_lane(self, camera: str, wanted: CameraBudget) -> _Lane:
        names = [name for name in (ALL_SERVICES, wanted.service) if name in self._rates]
        group = self._groups.setdefault(" ".join(names), _LimitedGroup(rates=[self._rates[name] for name in names]))
        return self._lanes.setdefault(camera, _Lane(wanted=wanted, group=" ".join(names), rates=group.rates))

    def remove_camera(self, camera: str, now: Instant) -> int:
        """Remove a camera that no longer exists, and return the number of its granted images.

        These images count as sent now, because the camera may have sent them.
        """
        lane = self._lanes.pop(camera, None)
        self._queue.remove(camera)
        self._on_budgets_changed(camera)
        if lane is None:
            return 0
        self._sum_demand()
        for rate in lane.rates:
            for _ in range(lane.lent):
                rate.on_sent(now.mono)
        return lane.lent

    def _sum_demand(self) -> None:
        lanes = self._lanes.values()
        self._demand = {
            rate: sum(lane.wanted.fps for lane in lanes if rate in lane.rates) for rate in self._rates.values()
        }
        self._total_demand = sum(lane.wanted.fps for lane in lanes)

    def request(self, camera: str, now: Instant) -> None:
        """Add a camera to those that wait for their next image."""
        if not self._queue.is_waiting(camera):
            lane = self._lanes[camera]
            lane.is_new = True
            self._groups[lane.group].new.append(camera)
            self._queue.add(camera, now.mono)

    def on_sent(self, camera: str, sent_mono: float) -> bool:
        """Count a camera's granted image as sent. Return False if the camera has no granted image."""
        if (lane := self._lanes.get(camera)) is None or not lane.lent:
            return False
        lane.lent -= 1
        for rate in lane.rates:
            rate.on_sent(sent_mono)
        return True

    def on_returned(self, camera: str) -> bool:
        """Count a camera's granted image as never sent. Return False if the camera has no granted image."""
        if (lane := self._lanes.get(camera)) is None or not lane.lent:
            return False
        lane.lent -= 1
        for rate in lane.rates:
            rate.on_returned()
        for budget in self._all_budgets(camera):
            budget.spend(-1)
        self._on_budgets_changed(camera)
        return True

    def update(self, now: Instant) -> None:
        """Advance all budgets to `now`."""
        for camera in list(self._camera_budgets):
            self._update_camera(camera, now)
        for budget in self._budgets.values():
            budget.update(now, self._total_demand)
        self._swept = now

    def _advance(self, now: Instant) -> None:
        """Advance the budgets on which a grant depends. Other budgets need no update: none of their periods begins."""
        wall_s, mono_s = now.wall - self._swept.wall, now.mono - self._swept.mono
        is_same_step = now.wall // STEP_S == self._swept.wall // STEP_S
        if not is_same_step or mono_s >= _SWEEP_INTERVAL_S or abs(wall_s - mono_s) > JUMP_S / 2:
            self.update(now)
            return
        for camera in list(self._scarce):
            self._update_camera(camera, now)
        for budget in self._budgets.values():
            budget.update(now, self._total_demand)

    def _update_camera(self, camera: str, now: Instant) -> None:
        """Advance a camera's own budgets, and find out whether they are scarce."""
        budgets, lane = self._camera_budgets[camera].values(), self._lanes.get(camera)
        for budget in budgets:
            budget.update(now, 0.0 if lane is None else lane.wanted.fps)
        if lane is None and not any(budget.used or budget.hold for budget in budgets):
            del self._camera_budgets[camera]
            self._scarce.pop(camera, None)
        elif not all(budget.is_free for budget in budgets):
            self._scarce[camera] = None
        elif camera in self._scarce:
            del self._scarce[camera]
            if lane is not None and self._queue.is_waiting(camera):  # the camera may now wait for another reason
                self._groups[lane.group].new.append(camera)

    def _on_budgets_changed(self, camera: str) -> None:
        if camera in self._camera_budgets:
            self._scarce[camera] = None

    def grant(self, now: Instant, may_grant: Callable[[str], bool] = lambda _camera: True) -> list[str]:
        """Return the cameras that may send one image each now.

        `may_grant` returns False for a camera that must wait until the disk covers its next image.
        """
        self._advance(now)
        granted = []
        while True:
            waits = {name: self._group_wait(group, now) for name, group in self._groups.items()}
            camera = self._queue.first(
                now.mono,
                lambda name: may_grant(name) and self._has_own(name, now),
                lambda group, waits=waits: waits[group][0] <= 0,  # type: ignore[misc]
            )
            if camera is None:
                break
            self._spend(camera, now)
            granted.append(camera)
        self._explain(waits)
        return granted

    def _spend(self, camera: str, now: Instant) -> None:
        lane = self._lanes[camera]
        self._queue.serve(camera, now.mono)
        for budget in self._all_budgets(camera):
            budget.spend()
        for rate in lane.rates:
            rate.grant(now.mono)
        self._on_budgets_changed(camera)
        lane.lent += 1

    def _has_own(self, camera: str, now: Instant) -> bool:
        """Return whether a camera's own budgets allow an image now."""
        if camera in self._camera_budgets and camera not in self._scarce:
            self._update_camera(camera, now)
        return self._own_wait(camera)[0] <= 0

    def _explain(self, waits: Mapping[str, tuple[float, str]]) -> None:
        """Record why the waiting cameras wait, and for which cameras this reason may have changed."""
        self._changed = []
        for name, group in self._groups.items():
            wait_s, reason = waits[name]
            limit = reason if wait_s > 0 else NO_RESERVE
            self._changed += group.new if limit == group.limit else self._queue.waiting(name)
            for camera in group.new:
                if (lane := self._lanes.get(camera)) is not None:
                    lane.is_new = False
            group.new, group.limit = [], limit
        for camera in self._scarce_waiting():
            lane = self._lanes[camera]
            wait_s, reason = max(self._own_wait(camera), waits[lane.group])
            lane.own_limit = reason if wait_s > 0 else NO_RESERVE
            self._changed.append(camera)

    def wait_s(self, now: Instant) -> float:
        """Return the seconds until a waiting camera may send an image.

        The result is infinite if no camera waits, or if every waiting camera depends on the report of another image.
        """
        waits = {name: self._group_wait(group, now) for name, group in self._groups.items()}
        own = list(self._scarce_waiting())
        counts = Counter(self._lanes[camera].group for camera in own)
        found = [max(self._own_wait(camera), waits[self._lanes[camera].group]) for camera in own]
        found += [wait for name, wait in waits.items() if len(self._queue.waiting(name)) > counts[name]]
        return min((wait_s for wait_s, _ in found), default=float("inf"))

    def limited_by(self, camera: str) -> str | None:
        """Return the limit that makes a camera wait, such as `the site's images_per_day`; None if there is none."""
        lane = self._lanes.get(camera)
        if lane is None or lane.is_new or not self._queue.is_waiting(camera):
            return None
        return lane.own_limit if camera in self._scarce else self._groups[lane.group].limit

    @property
    def changed(self) -> Sequence[str]:
        """Waiting cameras whose `limited_by` may have changed in the last call of `grant`."""
        return self._changed

    def left(self, camera: str) -> int | None:
        """Return the number of images that the budgets still allow the camera; None if there is no limit."""
        return min((budget.limit - budget.used for budget in self._all_budgets(camera)), default=None)

    def budgets(self) -> Iterator[tuple[str | None, PeriodBudget]]:
        """Yield all budgets, each with its camera. The camera is None for the budgets of the site."""
        yield from ((None, budget) for budget in self._budgets.values())
        for camera, budgets in self._camera_budgets.items():
            yield from ((camera, budget) for budget in budgets.values())

    def holds(self, now: Instant) -> Holds:
        """Return the holds that are still in effect."""
        holds = {(camera, budget.period): hold for camera, budget in self.budgets() if (hold := budget.hold)}
        return {key: hold for key, hold in (self._holds | holds).items() if hold.until_mono > now.mono}

    def _all_budgets(self, camera: str) -> Iterable[PeriodBudget]:
        yield from self._budgets.values()
        yield from self._camera_budgets.get(camera, {}).values()

    def _scarce_waiting(self) -> Iterator[str]:
        """Yield the waiting cameras whose own budgets may make them wait."""
        return (camera for camera in self._scarce if self._queue.is_waiting(camera))

    def _own_wait(self, camera: str) -> tuple[float, str]:
        """Return how long a camera's own budgets make it wait, and the name of the budget with the longest wait."""
        own = self._camera_budgets.get(camera, {})
        waits = [(budget.wait_s, f"the camera's images_per_{period}") for period, budget in own.items()]
        return max(waits, default=(0.0, ""))

    def _group_wait(self, group: _LimitedGroup, now: Instant) -> tuple[float, str]:
        """Return how long the limits of the site make a group wait, and the name of the limit with the longest wait."""
        waits = [(budget.wait_s, f"the site's images_per_{period}") for period, budget in self._budgets.items()]
        for rate in group.rates:
            wait_s = rate.wait_s(now.mono, is_scarce=self._demand[rate] > rate.limit)
            waits.append((wait_s, "the site's images_per_second"))
        return max(waits, default=(0.0, ""))
