"""Allocation of images: rate of the account, budgets of periods, fair shares, and jumps of the clock."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.budget.account_rate import AccountRate
from nvision_hub.budget.allocator import Allocator, CameraBudget, SiteBudget
from nvision_hub.budget.period_budget import Instant, PeriodBudget
from nvision_hub.budget.periods import Period

if TYPE_CHECKING:
    from nvision_hub.budget.fair_queue import Priority

NOON = datetime(2026, 12, 1, 12, tzinfo=UTC).timestamp()
HOUR = 3600.0


@dataclass(kw_only=True)
class Site:
    """Cameras that always have a frame to send, their allocator, and a service that counts by its own clock."""

    site: SiteBudget
    cameras: dict[str, CameraBudget]
    wall: float = NOON
    mono: float = 1000.0
    rows: Counter[tuple[str, float]] = field(default_factory=Counter)  # images by camera and quarter of an hour
    sent: list[tuple[float, str]] = field(default_factory=list)  # monotonic time and camera of each image

    def __post_init__(self) -> None:
        self.ready = {
            name: self.mono + index / 7 / camera.fps for index, (name, camera) in enumerate(self.cameras.items())
        }
        self.restart()

    def restart(self) -> None:
        self.allocator = Allocator(self.site, self.count, self.now)
        for name, camera in self.cameras.items():
            self.allocator.set_camera(name, camera, self.now)

    @property
    def now(self) -> Instant:
        return Instant(self.wall, self.mono)

    def count(self, camera: str | None, begin: float, end: float) -> int:
        return sum(n for (name, at), n in self.rows.items() if camera in (None, name) and begin <= at < end)

    def run(self, seconds: float, step: float = 0.01) -> None:
        end = self.mono + seconds
        while self.mono < end:
            for name, at in self.ready.items():
                if at <= self.mono:
                    self.allocator.request(name, self.now)
            for name in self.allocator.grant(self.now):
                self.rows[name, self.wall - self.wall % 900] += 1
                self.sent.append((self.mono, name))
                self.allocator.on_sent(name, self.mono)
                period = 1 / self.cameras[name].fps
                self.ready[name] += max(1, (self.mono - self.ready[name]) // period + 1) * period
            self.mono += step
            self.wall += step

    def shares(self) -> Counter[str]:
        return Counter(name for _, name in self.sent)


def cameras(number: int, fps: float = 5.0, priority: Priority = "normal") -> dict[str, CameraBudget]:
    return {f"{priority}{n}": CameraBudget(service="od", fps=fps, priority=priority) for n in range(number)}


def test_twelve_cameras_share_the_rate_of_the_account_evenly() -> None:
    site = Site(site=SiteBudget(per_second={"od": 20}), cameras=cameras(12))
    site.run(60)
    times = [at for at, _ in site.sent]
    assert all(later - earlier > 1 for earlier, later in zip(times, times[20:], strict=False))
    assert len(times) > 0.9 * 20 * 60
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert max(gaps) < 0.1  # smooth, not in bursts
    shares = site.shares()
    assert max(shares.values()) - min(shares.values()) <= 0.05 * max(shares.values())


def test_nothing_is_delayed_while_cameras_want_less_than_the_rate_of_the_account() -> None:
    site = Site(site=SiteBudget(per_second={"od": 20}), cameras=cameras(3))
    site.run(60)
    assert site.shares() == Counter(dict.fromkeys(site.cameras, 300))


def test_high_priority_is_served_first_and_nothing_starves() -> None:
    site = Site(
        site=SiteBudget(per_second={"od": 10}),
        cameras={**cameras(1, priority="high"), **cameras(8), **cameras(2, priority="low")},
    )
    site.run(130, step=0.02)
    shares = site.shares()
    assert shares["high0"] > 0.97 * 5 * 130
    normal = [shares[f"normal{n}"] for n in range(8)]
    assert max(normal) - min(normal) <= 0.05 * max(normal)
    assert min(shares["low0"], shares["low1"]) >= 2


def test_services_have_separate_rates() -> None:
    faces = {"door": CameraBudget(service="faces", fps=5.0)}
    site = Site(site=SiteBudget(per_second={"od": 1}), cameras={**cameras(3), **faces})
    site.run(20)
    assert site.shares()["door"] == 100
    assert sum(site.shares().values()) - 100 <= 20


def test_a_camera_that_is_gone_keeps_its_granted_image_in_the_rate() -> None:
    now = Instant(NOON, 0.0)
    allocator = Allocator(SiteBudget(per_second={"od": 1}), lambda *_: 0, now)
    for name in ("a", "b"):
        allocator.set_camera(name, CameraBudget(service="od", fps=1.0), now)
        allocator.request(name, now)
    assert allocator.grant(now) == ["a"]
    later = Instant(NOON + 9, 9.0)
    assert allocator.grant(later) == []  # the image may still leave
    assert allocator.limited_by("b") == "the site's images_per_second"
    assert allocator.remove_camera("a", later) == 1
    assert allocator.grant(Instant(NOON + 10, 10.0)) == []
    assert allocator.grant(Instant(NOON + 10.06, 10.06)) == ["b"]


@given(
    limit=st.integers(1, 30),
    delays=st.lists(st.floats(0, 0.5), min_size=1, max_size=40),
    is_scarce=st.booleans(),
)
def test_no_second_has_more_images_than_the_rate_however_late_they_leave(
    limit: int,
    delays: list[float],
    is_scarce: bool,  # noqa: FBT001 - drawn
) -> None:
    rate, now, leaving, sent = AccountRate(limit), 0.0, list[float](), list[float]()
    for delay in delays * 3:
        while (wait := rate.wait_s(now, is_scarce=is_scarce)) > 0:
            now = min([now + wait, *leaving])
            for at in [at for at in leaving if at <= now]:
                leaving.remove(at)
                rate.on_sent(at)
                sent.append(at)
        rate.grant(now)
        leaving.append(now + delay)
    times = sorted([*sent, *leaving])
    assert all(later - earlier > 1 for earlier, later in zip(times, times[limit:], strict=False))


def test_an_even_budget_lasts_until_the_end_of_the_hour() -> None:
    site = Site(site=SiteBudget(per_period={Period.HOUR: 600}), cameras=cameras(2, fps=1.0))
    site.run(HOUR, step=0.5)
    assert len(site.sent) == 600
    assert site.sent[-1][0] - 1000.0 > 0.99 * HOUR
    halves = sum(1 for at, _ in site.sent if at - 1000.0 < HOUR / 2)
    assert halves == pytest.approx(300, abs=15)
    shares = site.shares()
    assert abs(shares["normal0"] - shares["normal1"]) <= 0.05 * 300


def test_without_pacing_the_budget_is_used_up_first_come_first_served() -> None:
    site = Site(site=SiteBudget(per_period={Period.HOUR: 600}, is_even=False), cameras=cameras(2, fps=1.0))
    site.run(400, step=0.5)
    assert len(site.sent) == 600
    assert site.sent[-1][0] - 1000.0 < 301
    assert site.allocator.limited_by("normal0") == "the site's images_per_hour"
    assert site.allocator.wait_s(site.now) == pytest.approx(HOUR - 400, abs=1)


def test_a_budget_that_is_enough_withholds_nothing() -> None:
    plenty, none = SiteBudget(per_period={Period.HOUR: 7200, Period.DAY: 180_000}), SiteBudget()
    runs = [Site(site=each, cameras=cameras(2, fps=1.0)) for each in (plenty, none)]
    for run in runs:
        run.run(HOUR, step=0.25)
    assert runs[0].sent == runs[1].sent


def test_a_camera_has_a_budget_of_its_own() -> None:
    limited = CameraBudget(service="od", fps=1.0, per_period={Period.DAY: 30})
    site = Site(site=SiteBudget(is_even=False), cameras={"dock": limited, **cameras(1, fps=1.0)})
    site.run(100, step=0.5)
    assert site.shares() == Counter({"dock": 30, "normal0": 100})
    assert site.allocator.limited_by("dock") == "the camera's images_per_day"


def test_an_image_that_was_never_sent_is_given_back() -> None:
    now = Instant(NOON, 0.0)
    allocator = Allocator(SiteBudget(per_period={Period.DAY: 1}, is_even=False), lambda *_: 0, now)
    allocator.set_camera("a", CameraBudget(service="od", fps=1.0), now)
    for _ in range(3):
        allocator.request("a", now)
        assert allocator.grant(now) == ["a"]
        allocator.on_returned("a")


def test_a_camera_that_waits_only_for_its_reserve_shows_no_limit_of_images() -> None:
    now = Instant(NOON, 0.0)
    allocator = Allocator(SiteBudget(per_period={Period.DAY: 9}, is_even=False), lambda *_: 0, now)
    allocator.set_camera("a", CameraBudget(service="od", fps=1.0), now)
    allocator.request("a", now)
    assert allocator.grant(now, lambda _camera: False) == []
    assert allocator.limited_by("a") == "the ledger's disk"
    assert allocator.grant(now) == ["a"]
    assert allocator.limited_by("a") is None


@pytest.mark.parametrize("wall_s", [2 * HOUR, 9 * HOUR])
def test_a_period_whose_usage_cannot_be_read_begins_with_the_next_update(wall_s: float) -> None:
    """Either the hour ends, or the clock jumps."""
    images = [5]
    budget = PeriodBudget(9, Period.HOUR, UTC, count=lambda *_: images.pop(), now=Instant(NOON, 0.0))
    later = Instant(NOON + wall_s, 2 * HOUR)
    with pytest.raises(IndexError):
        budget.update(later, 0.0)
    assert (budget.used, budget.span.begin) == (5, NOON)
    images.append(7)
    budget.update(later, 0.0)
    assert (budget.used, budget.span.begin) == (7, NOON + wall_s)


def used_up_before_a_jump() -> tuple[Allocator, Instant]:
    """Return an allocator whose camera has used up its day when the clock jumps to the next day."""
    now = Instant(NOON, 0.0)
    allocator = Allocator(SiteBudget(is_even=False), lambda *_: 0, now)
    allocator.set_camera("dock", CameraBudget(service="od", fps=1.0, per_period={Period.DAY: 1}), now)
    allocator.request("dock", now)
    assert allocator.grant(now) == ["dock"]
    later = Instant(NOON + 24 * HOUR, 1.0)
    allocator.update(later)
    return allocator, later


def test_a_restart_after_a_jump_of_the_clock_renews_no_budget() -> None:
    allocator, now = used_up_before_a_jump()
    wanted = CameraBudget(service="od", fps=1.0, per_period={Period.DAY: 1})
    for _ in range(2):  # the second restart comes before the camera
        allocator = Allocator(SiteBudget(is_even=False), lambda *_: 0, now, allocator.holds(now))
    allocator.set_camera("dock", wanted, now)
    allocator.request("dock", now)
    assert allocator.grant(now) == []
    assert allocator.grant(Instant(NOON + 36 * HOUR + 1, 12 * HOUR + 2)) == ["dock"]


def test_a_jump_of_the_clock_before_a_camera_connects_renews_no_budget() -> None:
    def count(_camera: str | None, begin: float, end: float) -> int:
        return int(begin <= NOON < end)

    allocator, now = Allocator(SiteBudget(is_even=False), count, Instant(NOON, 0.0)), Instant(NOON + 24 * HOUR, 1.0)
    allocator.set_camera("dock", CameraBudget(service="od", fps=1.0, per_period={Period.DAY: 1}), now)
    assert allocator.left("dock") == 0


def test_a_jump_of_the_clock_that_is_soon_undone_is_noticed_by_every_budget() -> None:
    """Grants do not update the budget of a camera that waits for nothing, except after a jump of the clock."""
    allocator = Allocator(SiteBudget(), lambda *_: 0, Instant(NOON, 0.0))
    wanted = CameraBudget(service="od", fps=1.0, per_period={Period.HOUR: 10**6})
    allocator.set_camera("dock", wanted, Instant(NOON, 0.0))
    for wall_s, mono_s in ((0.0, 0.0), (60.1, 0.1), (0.2, 0.2)):
        allocator.grant(Instant(NOON + wall_s, mono_s))
    assert allocator.holds(Instant(NOON + 0.2, 0.2)).keys() == {("dock", Period.HOUR)}


def test_a_changed_limit_after_a_jump_of_the_clock_renews_no_budget() -> None:
    allocator, now = used_up_before_a_jump()
    limits = {Period.DAY: 2, Period.HOUR: 9}
    allocator.set_camera("dock", CameraBudget(service="od", fps=1.0, per_period=limits), now)
    assert allocator.left("dock") == 1


def test_the_budgets_of_an_absent_camera_go_when_they_are_renewed() -> None:
    allocator, now = used_up_before_a_jump()
    allocator.remove_camera("dock", now)
    allocator.update(Instant(now.wall + HOUR, now.mono + HOUR))
    assert [camera for camera, _ in allocator.budgets()] == ["dock"]
    allocator.update(Instant(now.wall + 24 * HOUR, now.mono + 24 * HOUR))
    assert not list(allocator.budgets())


def test_a_budget_remembers_two_periods() -> None:
    budget = PeriodBudget(10**6, Period.HOUR, UTC, count=lambda *_: 0, now=Instant(NOON, 0.0))
    for minute in range(1, 600):
        budget.update(Instant(NOON + 60 * minute, 60.0 * minute), 0.0)
        budget.spend()
    assert len(budget._recent) <= 122


def test_a_restarted_allocator_continues_with_the_recorded_usage() -> None:
    site = Site(site=SiteBudget(per_period={Period.HOUR: 100}, is_even=False), cameras=cameras(1))
    for _ in range(10):
        site.run(5)
        site.restart()
    assert len(site.sent) == 100


@given(
    jumps=st.lists(
        st.tuples(st.floats(1, 2000), st.sampled_from([-HOUR, HOUR, -900, 86400, -86400, 1800])), max_size=6
    ),
    period=st.sampled_from([Period.HOUR, Period.DAY]),
    is_even=st.booleans(),
)
def test_no_jump_of_the_clock_renews_a_budget_early(
    jumps: list[tuple[float, float]],
    period: Period,
    is_even: bool,  # noqa: FBT001 - drawn
) -> None:
    """The service's clock is the one from before all jumps."""
    site = Site(site=SiteBudget(per_period={period: 50}, is_even=is_even), cameras=cameras(1, fps=0.1))
    begun = site.wall - site.mono
    for seconds, jump in jumps:
        site.run(seconds, step=20)
        site.wall += jump
    site.run(2 * HOUR, step=20)
    length = HOUR if period is Period.HOUR else 24 * HOUR
    first_end = NOON + HOUR if period is Period.HOUR else NOON + 12 * HOUR
    by_service = Counter((at + begun - first_end) // length for at, _ in site.sent)
    assert by_service[-1] <= 50
