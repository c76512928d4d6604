"""The allocator decides like a plain allocator that looks at every camera and every image for each decision."""

from __future__ import annotations

from bisect import insort
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.budget.account_rate import WINDOW_S, AccountRate
from nvision_hub.budget.allocator import NO_RESERVE, Allocator, CameraBudget, SiteBudget
from nvision_hub.budget.fair_queue import MAX_CATCH_UP, MAX_STARVED_S, WEIGHTS, FairQueue, Priority
from nvision_hub.budget.period_budget import Instant
from nvision_hub.budget.periods import Period

if TYPE_CHECKING:
    from collections.abc import Callable

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
CAMERAS = tuple(f"camera{n}" for n in range(8))


class PlainRate(AccountRate):
    """Rate that goes through all images of the last second for each decision."""

    def wait_s(self, now: float, *, is_scarce: bool) -> float:
        self._sent = [at for at in self._sent if now - at < WINDOW_S]
        wait = 0.0
        excess = len(self._sent) + self._unsent - self.limit
        if excess >= 0:
            wait = self._sent[excess] + WINDOW_S - now if excess < len(self._sent) else float("inf")
        return max(0.0, wait, self._due - now if is_scarce else 0.0)

    def on_sent(self, at: float) -> None:
        self._unsent -= 1
        insort(self._sent, at)


@dataclass
class PlainTurn:
    cost: float
    finish: float
    served: float = float("-inf")
    is_waiting: bool = False


class PlainQueue(FairQueue):
    """Queue that compares all waiting cameras for each decision."""

    def __init__(self) -> None:
        self.turns: dict[str, PlainTurn] = {}
        self.virtual = 0.0

    def set_share(self, camera: str, fps: float, priority: Priority, group: str = "") -> None:
        del group
        turn = self.turns.setdefault(camera, PlainTurn(0.0, self.virtual))
        turn.cost = 1.0 / (fps * WEIGHTS[priority])

    def remove(self, camera: str) -> None:
        self.turns.pop(camera, None)

    def add(self, camera: str, now: float) -> None:
        turn = self.turns[camera]
        turn.is_waiting = True
        if turn.served == float("-inf"):
            turn.served = now

    def is_waiting(self, camera: str) -> bool:
        return camera in self.turns and self.turns[camera].is_waiting

    def first(
        self, now: float, is_allowed: Callable[[str], bool], is_open: Callable[[str], bool] = lambda _group: True
    ) -> str | None:
        del is_open

        def order(camera: str) -> tuple[bool, float]:
            turn = self.turns[camera]
            if now - turn.served > MAX_STARVED_S:
                return False, turn.served
            return True, self.start(turn) + turn.cost

        allowed = [camera for camera, turn in self.turns.items() if turn.is_waiting and is_allowed(camera)]
        return min(allowed, key=order, default=None)

    def start(self, turn: PlainTurn) -> float:
        return max(turn.finish, self.virtual - MAX_CATCH_UP * turn.cost)

    def serve(self, camera: str, now: float) -> None:
        turn = self.turns[camera]
        start = self.start(turn)
        if now - turn.served <= MAX_STARVED_S:
            self.virtual = max(self.virtual, start)
        turn.finish, turn.served, turn.is_waiting = start + turn.cost, now, False


class PlainAllocator(Allocator):
    """Allocator that looks at all cameras for each decision."""

    def __init__(self, site: SiteBudget, count: Callable[[str | None, float, float], int], now: Instant) -> None:
        super().__init__(site, count, now)
        self._rates = {service: PlainRate(limit) for service, limit in site.per_second.items()}
        self._queue = self.plain_queue = PlainQueue()
        self.limits: dict[str, str] = {}

    def remove_camera(self, camera: str, now: Instant) -> int:
        self.limits.pop(camera, None)
        return super().remove_camera(camera, now)

    def update(self, now: Instant) -> None:
        fps = {camera: lane.wanted.fps for camera, lane in self._lanes.items()}
        for camera, budgets in list(self._camera_budgets.items()):
            for budget in budgets.values():
                budget.update(now, fps.get(camera, 0.0))
            if camera not in fps and not any(budget.used or budget.hold for budget in budgets.values()):
                del self._camera_budgets[camera]
        for budget in self._budgets.values():
            budget.update(now, sum(fps.values()))

    def grant(self, now: Instant, may_grant: Callable[[str], bool] = lambda _camera: True) -> list[str]:
        self.update(now)
        granted = []
        while (
            camera := self._queue.first(now.mono, lambda name: may_grant(name) and self.wait(name, now)[0] <= 0)
        ) is not None:
            self._queue.serve(camera, now.mono)
            for budget in self._all_budgets(camera):
                budget.spend()
            for rate in self._lanes[camera].rates:
                rate.grant(now.mono)
            self._lanes[camera].lent += 1
            self.limits.pop(camera, None)
            granted.append(camera)
        for name in self.waiting_cameras:
            wait_s, limit = self.wait(name, now)
            self.limits[name] = limit if wait_s > 0 else NO_RESERVE
        return granted

    @property
    def waiting_cameras(self) -> list[str]:
        return [camera for camera, turn in self.plain_queue.turns.items() if turn.is_waiting]

    def wait_s(self, now: Instant) -> float:
        return min((self.wait(camera, now)[0] for camera in self.waiting_cameras), default=float("inf"))

    def limited_by(self, camera: str) -> str | None:
        return self.limits.get(camera)

    def wait(self, camera: str, now: Instant) -> tuple[float, str]:
        own = self._camera_budgets.get(camera, {})
        waits = [(budget.wait_s, f"the camera's images_per_{period}") for period, budget in own.items()]
        waits += [(budget.wait_s, f"the site's images_per_{period}") for period, budget in self._budgets.items()]
        for rate in self._lanes[camera].rates:
            wait_s = rate.wait_s(now.mono, is_scarce=self._demand[rate] > rate.limit)
            waits.append((wait_s, "the site's images_per_second"))
        return max(waits, default=(0.0, ""))


LIMITS = st.dictionaries(st.sampled_from(list(Period)), st.integers(1, 40), max_size=2)
SITES = st.builds(
    SiteBudget,
    per_second=st.dictionaries(st.sampled_from(["all", "od", "fd"]), st.integers(1, 8), max_size=3),
    per_period=LIMITS,
    is_even=st.booleans(),
)
WANTED = st.builds(
    CameraBudget,
    service=st.sampled_from(["od", "fd"]),
    fps=st.sampled_from([0.1, 1.0, 5.0, 25.0]),
    priority=st.sampled_from(["low", "normal", "high"]),
    per_period=st.just({}) | LIMITS,
)
CAMERA = st.sampled_from(CAMERAS)
STEP = (
    st.tuples(st.just("want"), CAMERA, WANTED)
    | st.tuples(st.just("leave"), CAMERA)
    | st.tuples(st.just("sent"), CAMERA, st.sampled_from([0.0, 0.2, 2.0]))
    | st.tuples(st.just("returned"), CAMERA)
    | st.tuples(st.just("jump"), st.sampled_from([-7200.0, 3.0, 86_400.0]))
    | st.tuples(st.just("requests"), st.sets(CAMERA, min_size=1), st.none())
)
STEPS = st.lists(
    st.tuples(STEP, st.sampled_from([0.0, 0.001, 0.05, 0.3, 1.0, 20.0, 60.0, 3600.0]), st.sets(CAMERA, max_size=2)),
    max_size=60,
)


class Comparison:
    """Both allocators, which receive the same calls."""

    def __init__(self, site: SiteBudget, wall: float = NOON) -> None:
        self.now = Instant(wall, 1000.0)
        self.rows: Counter[tuple[str, float]] = Counter()  # images by camera and quarter of an hour
        self.fast, self.plain = Allocator(site, self.count, self.now), PlainAllocator(site, self.count, self.now)
        # The last limit that each camera has learned, as in the ledger.
        self.reported: tuple[dict[str, str], dict[str, str]] = ({}, {})

    def count(self, camera: str | None, begin: float, end: float) -> int:
        return sum(n for (name, at), n in self.rows.items() if camera in (None, name) and begin <= at < end)

    def both(self, call: Callable[[Allocator], Any]) -> Any:
        result, expected = call(self.fast), call(self.plain)
        assert result == expected
        return result

    def apply(self, step: tuple[Any, ...]) -> None:
        match step:
            case "want", camera, wanted:
                if camera in self.fast._lanes:  # a camera that changes its service connects again
                    wanted = replace(wanted, service=self.fast._lanes[camera].wanted.service)
                self.both(lambda each: each.set_camera(camera, wanted, self.now))
            case "leave", camera:
                self.both(lambda each: each.remove_camera(camera, self.now))
            case "requests", requested, _:
                for camera in sorted(requested & self.fast._lanes.keys()):
                    self.both(lambda each, camera=camera: each.request(camera, self.now))  # type: ignore[misc]
            case "sent", camera, age_s:
                self.both(lambda each: each.on_sent(camera, self.now.mono - age_s))
            case "returned", camera:
                if self.both(lambda each: each.on_returned(camera)):
                    self.rows[camera, self.now.wall - self.now.wall % 900] -= 1
            case "jump", seconds:
                self.now = self.now._replace(wall=self.now.wall + seconds)

    def grant(self, without_reserve: set[str]) -> None:
        granted = self.both(lambda each: each.grant(self.now, lambda camera: camera not in without_reserve))
        for camera in granted:
            self.rows[camera, self.now.wall - self.now.wall % 900] += 1
            for known in self.reported:
                known.pop(camera, None)
        self.both(lambda each: each.wait_s(self.now))
        for camera in CAMERAS:
            self.both(lambda each, camera=camera: each.limited_by(camera))  # type: ignore[misc]
            self.both(lambda each, camera=camera: each.left(camera))  # type: ignore[misc]
        self.both(lambda each: [(camera, budget.used) for camera, budget in each.budgets()])
        for known, cameras in zip(self.reported, (self.fast.changed, CAMERAS), strict=True):
            for camera in cameras:
                if (limit := self.fast.limited_by(camera)) is not None:
                    known[camera] = limit
        assert self.reported[0] == self.reported[1], "a changed limit is missing in `changed`"


@given(site=SITES, wanted=st.lists(WANTED, min_size=len(CAMERAS), max_size=len(CAMERAS)), steps=STEPS)
def test_all_decisions_are_those_of_the_plain_allocator(
    site: SiteBudget, wanted: list[CameraBudget], steps: list[tuple[tuple[Any, ...], float, set[str]]]
) -> None:
    compared = Comparison(site)
    for camera, each in zip(CAMERAS, wanted, strict=True):
        compared.apply(("want", camera, each))
    for step, seconds, without_reserve in steps:
        compared.now = Instant(compared.now.wall + seconds, compared.now.mono + seconds)
        compared.apply(step)
        compared.grant(without_reserve)


@pytest.mark.parametrize("seed", range(8))
def test_decisions_while_images_are_scarce_are_those_of_the_plain_allocator(seed: int) -> None:
    """The cameras always want more images than there are. Some change their rate, or send nothing for a while."""
    rng = Random(seed)  # noqa: S311 - determines steps, not secrets
    per_period = {Period.DAY: 150_000} if seed % 2 else {}
    site = SiteBudget(per_second={"od": 6, "fd": 3}, per_period=per_period, is_even=seed % 3 > 0)
    compared = Comparison(site, NOON - 30)  # an hour begins soon
    idle_until: Counter[str] = Counter()
    limits = [{}, {Period.HOUR: 100}, {Period.HOUR: 90_000}]
    for camera in CAMERAS:
        priority: Priority = rng.choice(["low", "normal", "normal", "high"])
        wanted = CameraBudget(
            service=rng.choice(["od", "od", "fd"]), fps=5.0, priority=priority, per_period=rng.choice(limits)
        )
        compared.apply(("want", camera, wanted))
    for step in range(1200):
        seconds = rng.choice([0.01, 0.05, 0.1, 0.2])
        compared.now = Instant(compared.now.wall + seconds, compared.now.mono + seconds)
        camera = rng.choice(CAMERAS)
        match rng.randrange(12):
            case 0:
                wanted = replace(compared.fast._lanes[camera].wanted, fps=rng.choice([0.2, 1.0, 5.0, 25.0]))
                compared.apply(("want", camera, wanted))
            case 1:
                idle_until[camera] = step + rng.choice([20, 300])
            case 2:
                compared.apply(("returned", camera))
            case 3 if seed > 3 and step % 50 == 0:
                compared.apply(("jump", rng.choice([-3600.0, 3.0, 900.0])))
        for each in CAMERAS:
            if compared.fast._lanes[each].lent and rng.random() < 0.8:
                compared.apply(("sent", each, rng.choice([0.0, 0.05, 0.3])))
        compared.apply(("requests", {each for each in CAMERAS if idle_until[each] <= step}, None))
        compared.grant({camera} if rng.random() < 0.1 else set())
    assert sum(compared.rows.values()) > 100


class CountingAllocator(Allocator):
    """Allocator that counts how often it computes a wait."""

    waits = 0

    def _own_wait(self, camera: str) -> tuple[float, str]:
        self.waits += 1
        return super()._own_wait(camera)

    def _group_wait(self, *arguments: Any) -> tuple[float, str]:
        self.waits += 1
        return super()._group_wait(*arguments)


def test_a_grant_costs_the_same_for_any_number_of_cameras() -> None:
    costs = []
    for number in (10, 200):
        now = Instant(NOON, 1000.0)
        site = SiteBudget(per_second={"od": 20}, per_period={Period.DAY: 10**6})
        allocator = CountingAllocator(site, lambda *_: 0, now)
        for n in range(number):
            allocator.set_camera(f"camera{n}", CameraBudget(service="od", fps=5.0), now)
            allocator.request(f"camera{n}", now)
        granted = 0
        allocator.waits = 0
        while granted < 100:
            for camera in allocator.grant(now):
                allocator.on_sent(camera, now.mono)
                allocator.request(camera, now)
                granted += 1
            now = Instant(now.wall + 0.01, now.mono + 0.01)
        costs.append(allocator.waits)
    assert costs[1] <= 1.1 * costs[0], costs
