"""Simulate 100,000 cameras: their groups, and their reconnects after an outage of the service.

The simulation starts no processes. It runs the project's own placement, backoff, reconnect turns and error
classification on a simulated clock, which takes about a minute. This file models the sites, settings and service.
"""

from __future__ import annotations

import heapq
import itertools
import random
import statistics
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol

from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from nvision_hub.backoff import Backoff
from nvision_hub.cluster import placement
from nvision_hub.config.models import Camera
from nvision_hub.config.value_types import Labels
from nvision_hub.nvision.connection import ClientTimeouts
from nvision_hub.nvision.errors import classify
from nvision_hub.supervisor.connection_turns import ReconnectTurns
from tests.bench.report import Goal, Report

if TYPE_CHECKING:
    from collections.abc import Sequence

FLEETS: Final = (10, 1_000, 100_000)
QUICK_FLEETS: Final = (10, 1_000, 5_000)
CAMERAS_A_SITE: Final = 50
# Keys are frames per second. Values are how many of a hundred cameras use that rate.
RATES: Final = {0.5: 25, 1.0: 60, 2.0: 10, 5.0: 5}
FRAME_BYTES: Final = 70_000  # 1280 pixels wide, quality 85
SHARE_CHANGED: Final = 0.01  # share of the fleet that leaves; as many cameras join
AWAY_S: Final = 60.0
ROUND_TRIP_S: Final = 0.02  # duration of a rejected handshake
ADMITTED: Final = 0.01  # share of the fleet admitted per second; the others get 503 with `RETRY_AFTER_S`
RETRY_AFTER_S: Final = 10
GIVE_UP_TIMEOUT_S: Final = 3600.0
MAX_SURGE: Final = 1.25
SEED: Final = 7


def run(*, quick: bool) -> Report:
    """Assign each fleet's cameras to groups, replace some cameras, and disconnect all cameras."""
    fleets = QUICK_FLEETS if quick else FLEETS
    columns = [_column(count) for count in fleets]
    report = Report(name="storm", columns=["", *(f"{count:,} cameras" for count in fleets)])
    report.rows = [[name, *(column.rows[name] for column in columns)] for name in columns[0].rows]
    for count, column in zip(fleets, columns, strict=True):
        report.goals += [
            Goal(what=f"{count:,}: cameras moved by others that join and leave", value=column.moved, at_most=0),
            Goal(what=f"{count:,}: groups above their limit", value=column.overweight, at_most=0),
        ]
        if count >= CAMERAS_A_SITE:  # in a smaller fleet, a few handshakes would exceed the limit without harm
            what = f"{count:,}: busiest second of the return / handshakes per second before"
            report.goals.append(Goal(what=what, value=column.surge, at_most=MAX_SURGE))
    return report


@dataclass(kw_only=True)
class _Column:
    """One fleet's results."""

    rows: dict[str, str] = field(default_factory=dict)
    moved: int = 0
    overweight: int = 0
    surge: float = 0.0


def _column(count: int) -> _Column:
    rng = random.Random(SEED)  # noqa: S311 - repeatable, not secret
    column = _Column()
    cameras = _fleet(count, rng)
    groups = _grouped(cameras, column, rng)
    hub_of = placement.assignment(groups)
    names = {found.name: number for number, found in enumerate(groups)}
    hubs = [names[hub_of[camera.id]] for camera in cameras]
    _return(hubs, column, rng)
    return column


def _fleet(count: int, rng: random.Random) -> list[Camera]:
    """Return cameras at sites with about fifty on average: a quarter with 25, half with 40 and a quarter with 100."""
    kinds = [
        Camera.model_validate({"id": "kind", "url": "rtsp://127.0.0.1/1", "fps": fps, "max_width": 1280})
        for fps in RATES
    ]
    cameras: list[Camera] = []
    for site in itertools.count():
        placement = Labels({"site": f"s{site:05}"})
        for _ in range(round(CAMERAS_A_SITE * rng.choice((0.5, 0.8, 0.8, 2.0)))):
            if len(cameras) == count:
                return cameras
            (kind,) = rng.choices(kinds, weights=list(RATES.values()))
            cameras.append(kind.model_copy(update={"id": f"cam-{len(cameras):06}", "placement": placement}))
    raise AssertionError


def _grouped(cameras: Sequence[Camera], column: _Column, rng: random.Random) -> tuple[placement.CameraGroup, ...]:
    began = time.process_time()
    groups = placement.group_cameras(cameras)
    took_s = time.process_time() - began
    before = placement.assignment(groups)
    # Some cameras leave, and as many cameras of the same kinds join.
    gone = {camera.id for camera in rng.sample(list(cameras), max(1, round(len(cameras) * SHARE_CHANGED)))}
    added = [camera.model_copy(update={"id": f"new-{camera.id}"}) for camera in cameras if camera.id in gone]
    changed = [*(camera for camera in cameras if camera.id not in gone), *added]
    after = placement.group_cameras(changed, previous=before)
    now = placement.assignment(after)
    kept = [camera for camera in before if camera not in gone]
    column.moved = sum(now[camera] != before[camera] for camera in kept)
    reassigned = placement.assignment(placement.group_cameras(changed))
    column.overweight = sum(found.millicores > placement.MAX_MILLICORES for found in (*groups, *after))
    rate = sum(camera.fps for camera in cameras)
    sizes = [len(found.cameras) for found in groups]
    cores = [found.millicores / 1000 for found in groups]
    column.rows |= {
        "sites": f"{len({found.placement for found in groups}):,}",
        "groups": f"{len(groups):,}",
        "cameras in a group, median / max": f"{statistics.median(sizes):.0f} / {max(sizes)}",
        "estimated cores, all / largest group": f"{sum(cores):,.1f} / {max(cores):.2f}",
        "frames per second, all": f"{rate:,.0f}",
        "frames per day": f"{rate * 86_400 / 1e6:,.1f} million",
        f"uplink at {FRAME_BYTES // 1000} kB per frame": f"{rate * FRAME_BYTES * 8 / 1e9:,.3g} Gbit/s",
        "time to assign the groups": f"{took_s:.2g} s of one core",
        "1 % leave and 1 % join: other cameras moved": f"{column.moved}",
        "the same without the recorded assignment": f"{sum(reassigned[camera] != before[camera] for camera in kept):,}",
    }
    return groups


@dataclass(kw_only=True)
class _Storm:
    """Number of handshakes in each second, and the time at which each camera was connected again."""

    attempts: Counter[int] = field(default_factory=Counter)
    back: list[float] = field(default_factory=list)

    def busiest(self) -> int:
        """Return the highest number of handshakes in one second after the return of the service."""
        return max(count for second, count in self.attempts.items() if second >= AWAY_S)

    @property
    def since_return(self) -> int:
        """Return the number of handshakes after the return of the service."""
        return sum(count for second, count in self.attempts.items() if second >= AWAY_S)

    def all_back(self, cameras: int) -> str:
        """Describe how long after the return of the service all cameras were connected, or that some never were."""
        if len(self.back) < cameras:
            return f"never ({len(self.back):,} in {GIVE_UP_TIMEOUT_S / 60:.0f} min)"
        return f"{max(self.back) - AWAY_S:.0f} s"


def _return(hubs: Sequence[int], column: _Column, rng: random.Random) -> None:
    count = len(hubs)
    careful = max(1, round(ADMITTED * count))
    ours = _storm(_HubPolicy(hubs, rng), count, admitted=count)
    bare = _storm(_PolicyWithoutTurns(hubs, rng), count, admitted=count)
    naive = _storm(_EverySecondPolicy(), count, admitted=count)
    let_in = _storm(_HubPolicy(hubs, rng), count, admitted=careful)
    every_second = _storm(_EverySecondPolicy(), count, admitted=careful)
    away = sum(each for second, each in ours.attempts.items() if AWAY_S / 2 <= second < AWAY_S) / (AWAY_S / 2)
    column.surge = ours.busiest() / away
    column.rows |= {
        "service unavailable for 60 s: handshakes per second": f"{away:,.0f}",
        "service returns: busiest second": _share(ours.busiest(), count),
        "service returns: all connected within": ours.all_back(count),
        "busiest second, backoff without reconnect turns": _share(bare.busiest(), count),
        "busiest second, a retry every second": _share(naive.busiest(), count),
        "service admits 1 % per second, 503 to others: all connected within": let_in.all_back(count),
        "handshakes per camera until then": f"{let_in.since_return / count:.1f}",
        "all connected within, a retry every second": every_second.all_back(count),
        "handshakes per camera, a retry every second": f"{every_second.since_return / count:.1f}",
    }


def _share(most: int, count: int) -> str:
    return f"{most:,} ({100 * most / count:.0f} %)"


def _storm(policy: _ReconnectPolicy, cameras: int, *, admitted: int) -> _Storm:
    """Disconnect all cameras at once. From `AWAY_S` on, admit `admitted` cameras per second."""
    busy = InvalidStatus(Response(503, "", Headers({"Retry-After": str(RETRY_AFTER_S)})))
    away_wait_s = classify(ConnectionRefusedError(), "", now=0.0).wait_s or 0.0
    busy_wait_s = classify(busy, "", now=0.0).wait_s or 0.0
    storm = _Storm()
    let_in: Counter[int] = Counter()
    # Time, camera, and a flag: True if the camera connects then, False if it then requests a turn.
    queue = [(policy.delay_s(camera, 0.0), camera, False) for camera in range(cameras)]
    heapq.heapify(queue)
    while queue:
        now, camera, has_turn = heapq.heappop(queue)
        if now > AWAY_S + GIVE_UP_TIMEOUT_S:
            return storm
        if not has_turn:
            heapq.heappush(queue, (policy.turn(camera, now), camera, True))
            continue
        second = int(now)
        storm.attempts[second] += 1
        if now >= AWAY_S and let_in[second] < admitted:
            let_in[second] += 1
            storm.back.append(now)
            continue
        refused_at = now + ROUND_TRIP_S
        wait_s = policy.delay_s(camera, busy_wait_s if now >= AWAY_S else away_wait_s)
        heapq.heappush(queue, (refused_at + wait_s, camera, False))
    return storm


class _ReconnectPolicy(Protocol):
    """Reconnect policy of a fleet's clients."""

    def delay_s(self, camera: int, least_s: float) -> float:
        """Return the seconds to wait after a failure. `least_s` is the minimum that the service requested."""
        ...

    def turn(self, camera: int, now: float) -> float:
        """Return the time at which the client connects if it requests a turn at `now`."""
        ...


class _PolicyWithoutTurns:
    """Backoff and Retry-After, combined as in the uplink."""

    def __init__(self, hubs: Sequence[int], rng: random.Random) -> None:
        limits = ClientTimeouts()
        self._rng = rng
        self._backoffs = [Backoff(first_s=limits.retry_first_s, cap_s=limits.retry_cap_s, rng=rng) for _ in hubs]

    def delay_s(self, camera: int, least_s: float) -> float:
        return max(self._backoffs[camera].next_s(), least_s * self._rng.uniform(1.0, 1.2))

    def turn(self, camera: int, now: float) -> float:
        del camera
        return now


class _HubPolicy(_PolicyWithoutTurns):
    """Backoff and Retry-After, combined with the reconnect turns of each hub's supervisor."""

    def __init__(self, hubs: Sequence[int], rng: random.Random) -> None:
        super().__init__(hubs, rng)
        self._hubs = hubs
        self._turns = {hub: ReconnectTurns(rng=rng) for hub in set(hubs)}

    def turn(self, camera: int, now: float) -> float:
        return now + self._turns[self._hubs[camera]].delay_s("service", now)


class _EverySecondPolicy:
    """Policy of a loop with `sleep(1)` that ignores Retry-After."""

    def delay_s(self, camera: int, least_s: float) -> float:
        del camera, least_s
        return 1.0

    def turn(self, camera: int, now: float) -> float:
        del camera
        return now
