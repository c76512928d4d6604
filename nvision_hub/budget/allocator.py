"""Allocation of images to cameras: which camera may send its next image, and which limit makes the others wait.

Each camera asks for one image at a time, and asks again once the image has left. An image counts as used from its grant
on. All methods take the current time, and perform no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from nvision_hub.budget.account_rate import AccountRate
from nvision_hub.budget.fair_queue import FairQueue, Priority
from nvision_hub.budget.period_budget import Instant, PeriodBudget, RenewalHold
from nvision_hub.budget.periods import Period, time_zone

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    # Returns the images of a camera, or of all cameras (None), from one wall-clock time up to another.
    ImageCount = Callable[[str | None, float, float], int]
    Holds = Mapping[tuple[str | None, Period], RenewalHold]  # by camera (None: the site) and period


ALL_SERVICES: Final = "all"
NO_RESERVE: Final = "the ledger's disk"


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
    rates: Sequence[AccountRate]  # limits that apply to the camera
    lent: int = 0  # images granted and not yet reported as sent


class Allocator:
    def __init__(self, site: SiteBudget, count: ImageCount, now: Instant, holds: Holds | None = None) -> None:
        """Continue the `holds` of an earlier allocator."""
        self._site, self._count = site, count
        self._zone = time_zone(site.time_zone)
        self._rates = {service: AccountRate(limit) for service, limit in site.per_second.items()}
        self._demand: dict[AccountRate, float] = {}  # images per second that cameras want to send at most
        self._holds = dict(holds or {})  # of budgets that do not exist yet
        self._began = now
        self._budgets = self._new_budgets(None, site.per_period, now)
        # The budgets of a camera that is gone are kept until they are renewed, because they notice jumps of the clock.
        self._camera_budgets: dict[str, dict[Period, PeriodBudget]] = {}
        self._queue = FairQueue()
        self._lanes: dict[str, _Lane] = {}
        self._limited_by: dict[str, str] = {}

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
        self._camera_budgets[camera] = budgets
        rates = [self._rates[name] for name in (ALL_SERVICES, wanted.service) if name in self._rates]
        lane = self._lanes.setdefault(camera, _Lane(wanted=wanted, rates=rates))
        lane.wanted = wanted
        self._queue.set_share(camera, wanted.fps, wanted.priority)
        self._sum_demand()

    def remove_camera(self, camera: str, now: Instant) -> int:
        """Remove a camera that is gone, and return the number of its granted images.

        These images count as sent now, because the camera may have sent them.
        """
        lane = self._lanes.pop(camera, None)
        self._queue.remove(camera)
        self._limited_by.pop(camera, None)
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

    def request(self, camera: str, now: Instant) -> None:
        """Let a camera wait for its next image."""
        self._queue.add(camera, now.mono)

    def on_sent(self, camera: str, sent_mono: float) -> bool:
        """Count a camera's granted image as sent. Returns False if the camera has no granted image."""
        if (lane := self._lanes.get(camera)) is None or not lane.lent:
            return False
        lane.lent -= 1
        for rate in lane.rates:
            rate.on_sent(sent_mono)
        return True

    def on_returned(self, camera: str) -> bool:
        """Count a camera's granted image as never sent. Returns False if the camera has no granted image."""
        if (lane := self._lanes.get(camera)) is None or not lane.lent:
            return False
        lane.lent -= 1
        for rate in lane.rates:
            rate.on_returned()
        for budget in self._all_budgets(camera):
            budget.spend(-1)
        return True

    def update(self, now: Instant) -> None:
        """Advance all budgets to `now`."""
        fps = {camera: lane.wanted.fps for camera, lane in self._lanes.items()}
        for camera, budgets in list(self._camera_budgets.items()):
            for budget in budgets.values():
                budget.update(now, fps.get(camera, 0.0))
            if camera not in fps and not any(budget.used or budget.hold for budget in budgets.values()):
                del self._camera_budgets[camera]
        demand = sum(fps.values())
        for budget in self._budgets.values():
            budget.update(now, demand)

    def grant(self, now: Instant, may_grant: Callable[[str], bool] = lambda _camera: True) -> list[str]:
        """Return the cameras that may send one image each now.

        `may_grant` returns False for a camera whose next image the disk does not cover yet. This camera waits.
        """
        self.update(now)
        granted = []
        while (
            camera := self._queue.first(now.mono, lambda name: may_grant(name) and self._wait(name, now)[0] <= 0)
        ) is not None:
            lane = self._lanes[camera]
            self._queue.serve(camera, now.mono)
            for budget in self._all_budgets(camera):
                budget.spend()
            for rate in lane.rates:
                rate.grant(now.mono)
            lane.lent += 1
            self._limited_by.pop(camera, None)
            granted.append(camera)
        for name in self._queue.waiting:
            wait_s, limit = self._wait(name, now)
            self._limited_by[name] = limit if wait_s > 0 else NO_RESERVE
        return granted

    def wait_s(self, now: Instant) -> float:
        """Return the seconds until a waiting camera may send an image.

        Infinite if no camera waits, or if every waiting camera depends on the report of another image.
        """
        return min((self._wait(camera, now)[0] for camera in self._queue.waiting), default=float("inf"))

    def limited_by(self, camera: str) -> str | None:
        """Return the limit that makes a camera wait, such as `the site's images_per_day`; None if it does not wait."""
        return self._limited_by.get(camera)

    def left(self, camera: str) -> int | None:
        """Return the number of images that the budgets still allow the camera; None if there is no limit."""
        return min((budget.limit - budget.used for budget in self._all_budgets(camera)), default=None)

    def budgets(self) -> Iterator[tuple[str | None, PeriodBudget]]:
        """Yield all budgets, each with its camera; None for the budgets of the site."""
        yield from ((None, budget) for budget in self._budgets.values())
        for camera, budgets in self._camera_budgets.items():
            yield from ((camera, budget) for budget in budgets.values())

    def holds(self, now: Instant) -> Holds:
        """Return the holds that continue now."""
        holds = {(camera, budget.period): hold for camera, budget in self.budgets() if (hold := budget.hold)}
        return {key: hold for key, hold in (self._holds | holds).items() if hold.until_mono > now.mono}

    def _all_budgets(self, camera: str) -> Iterable[PeriodBudget]:
        yield from self._budgets.values()
        yield from self._camera_budgets.get(camera, {}).values()

    def _wait(self, camera: str, now: Instant) -> tuple[float, str]:
        """Return the seconds until a camera may send an image, and the limit that causes the longest wait."""
        own = self._camera_budgets.get(camera, {})
        waits = [(budget.wait_s, f"the camera's images_per_{period}") for period, budget in own.items()]
        waits += [(budget.wait_s, f"the site's images_per_{period}") for period, budget in self._budgets.items()]
        for rate in self._lanes[camera].rates:
            wait_s = rate.wait_s(now.mono, is_scarce=self._demand[rate] > rate.limit)
            waits.append((wait_s, "the site's images_per_second"))
        return max(waits, default=(0.0, ""))
