"""A hundred thousand cameras on paper: how they are grouped, and how they come back to a service that went away.

Nothing is started: the project's own grouping, backoff, turns and verdicts are run on a clock of this file's own, a
fleet of 100,000 in a minute. What is modelled besides is written out below: sites, settings, a service.
"""

from __future__ import annotations

import heapq
import itertools
import os
import random
import statistics
import time
import weakref
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Protocol
from unittest import mock

from websockets.datastructures import Headers
from websockets.exceptions import InvalidStatus
from websockets.http11 import Response

from nvision_hub import grouping
from nvision_hub.backoff import Backoff
from nvision_hub.config import Camera, Labels
from tests.bench.report import Goal, Report
from workers.camera import pace
from workers.camera.dial import Limits
from workers.camera.refusal import classify

if TYPE_CHECKING:
    from collections.abc import Sequence

FLEETS: Final = (10, 1_000, 100_000)
QUICK_FLEETS: Final = (10, 1_000, 5_000)
CAMERAS_A_SITE: Final = 50
# Pictures a second, and how many of a hundred cameras are asked for them.
RATES: Final = {0.5: 25, 1.0: 60, 2.0: 10, 5.0: 5}
PICTURE_BYTES: Final = 70_000  # of 1280 pixels' width at quality 85
SHARE_CHANGED: Final = 0.01  # of the fleet, added and removed
AWAY_S: Final = 60.0
ROUND_TRIP_S: Final = 0.02  # until a refusal is known
ADMITTED: Final = 0.01  # of the fleet each second, by a service that is careful; the others get 503 and this:
RETRY_AFTER_S: Final = 10
GIVEN_UP_S: Final = 3600.0
SURGE_MOST: Final = 1.25
SEED: Final = 7


def run(*, quick: bool) -> Report:
    """Each fleet grouped, changed, and cut off from its service."""
    fleets = QUICK_FLEETS if quick else FLEETS
    columns = [_column(count) for count in fleets]
    report = Report(name="storm", columns=["", *(f"{count:,} cameras" for count in fleets)])
    report.rows = [[name, *(column.rows[name] for column in columns)] for name in columns[0].rows]
    for count, column in zip(fleets, columns, strict=True):
        report.goals += [
            Goal(what=f"{count:,}: cameras moved by others that come and go", value=column.moved, at_most=0),
            Goal(what=f"{count:,}: groups above their bound", value=column.overweight, at_most=0),
        ]
        if count >= CAMERAS_A_SITE:  # of ten cameras, three in a second are a third, and bother nobody
            what = f"{count:,}: busiest second of the return / what knocked before"
            report.goals.append(Goal(what=what, value=column.surge, at_most=SURGE_MOST))
    return report


@dataclass(kw_only=True)
class _Column:
    """One fleet's results."""

    rows: dict[str, str] = field(default_factory=dict)
    moved: int = 0
    overweight: int = 0
    surge: float = 0.0


def _column(count: int) -> _Column:
    rng = random.Random(SEED)  # noqa: S311 - repeatable, no secret
    column = _Column()
    cameras = _fleet(count, rng)
    groups = _grouped(cameras, column, rng)
    hub_of = grouping.assignment(groups)
    names = {found.name: number for number, found in enumerate(groups)}
    hubs = [names[hub_of[camera.id]] for camera in cameras]
    _return(hubs, column, rng)
    return column


def _fleet(count: int, rng: random.Random) -> list[Camera]:
    """Sites of about fifty cameras: one in four is half of that, one in four double."""
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


def _grouped(cameras: Sequence[Camera], column: _Column, rng: random.Random) -> tuple[grouping.Group, ...]:
    began = time.process_time()
    groups = grouping.group(cameras)
    took_s = time.process_time() - began
    before = grouping.assignment(groups)
    # Some leave, and as many of the same kinds come.
    gone = {camera.id for camera in rng.sample(list(cameras), max(1, round(len(cameras) * SHARE_CHANGED)))}
    added = [camera.model_copy(update={"id": f"new-{camera.id}"}) for camera in cameras if camera.id in gone]
    changed = [*(camera for camera in cameras if camera.id not in gone), *added]
    after = grouping.group(changed, former=before)
    now = grouping.assignment(after)
    kept = [camera for camera in before if camera not in gone]
    column.moved = sum(now[camera] != before[camera] for camera in kept)
    anew = grouping.assignment(grouping.group(changed))
    column.overweight = sum(found.millicores > grouping.MOST_MILLICORES for found in (*groups, *after))
    rate = sum(camera.fps for camera in cameras)
    sizes = [len(found.cameras) for found in groups]
    cores = [found.millicores / 1000 for found in groups]
    column.rows |= {
        "sites": f"{len({found.placement for found in groups}):,}",
        "groups": f"{len(groups):,}",
        "cameras in a group, median / most": f"{statistics.median(sizes):.0f} / {max(sizes)}",
        "cores reckoned, all / largest group": f"{sum(cores):,.1f} / {max(cores):.2f}",
        "pictures a second, all": f"{rate:,.0f}",
        "pictures a day": f"{rate * 86_400 / 1e6:,.1f} million",
        f"uplink at {PICTURE_BYTES // 1000} kB a picture": f"{rate * PICTURE_BYTES * 8 / 1e9:,.3g} Gbit/s",
        "grouped in": f"{took_s:.2g} s of one core",
        "1 % leave and 1 % come: others moved": f"{column.moved}",
        "the same without the record": f"{sum(anew[camera] != before[camera] for camera in kept):,}",
    }
    return groups


@dataclass(kw_only=True)
class _Clock:
    """Stands in for the `time` that a module has imported."""

    now: float = 0.0

    def monotonic(self) -> float:
        return self.now


@dataclass(kw_only=True)
class _Storm:
    """Every handshake of a fleet, by second, and when the last camera was back."""

    attempts: Counter[int] = field(default_factory=Counter)
    back: list[float] = field(default_factory=list)

    def busiest(self) -> int:
        """The most handshakes in one second of the service's return."""
        return max(count for second, count in self.attempts.items() if second >= AWAY_S)

    @property
    def since_return(self) -> int:
        """How many there were from its return on."""
        return sum(count for second, count in self.attempts.items() if second >= AWAY_S)

    def all_back(self, cameras: int) -> str:
        """How long after its return; some never are."""
        if len(self.back) < cameras:
            return f"never ({len(self.back):,} in {GIVEN_UP_S / 60:.0f} min)"
        return f"{max(self.back) - AWAY_S:.0f} s"


def _return(hubs: Sequence[int], column: _Column, rng: random.Random) -> None:
    count = len(hubs)
    careful = max(1, round(ADMITTED * count))
    ours = _storm(_AsTheHub(hubs, rng), count, admitted=count)
    bare = _storm(_WithoutTurns(hubs, rng), count, admitted=count)
    naive = _storm(_EverySecond(), count, admitted=count)
    let_in = _storm(_AsTheHub(hubs, rng), count, admitted=careful)
    stubborn = _storm(_EverySecond(), count, admitted=careful)
    away = sum(each for second, each in ours.attempts.items() if AWAY_S / 2 <= second < AWAY_S) / (AWAY_S / 2)
    column.surge = ours.busiest() / away
    column.rows |= {
        "service away for 60 s: handshakes a second meanwhile": f"{away:,.0f}",
        "it returns: busiest second": _share(ours.busiest(), count),
        "it returns: all back within": ours.all_back(count),
        "busiest second, backoff without turns": _share(bare.busiest(), count),
        "busiest second, a retry every second": _share(naive.busiest(), count),
        "it admits 1 % a second, 503 to others: all back within": let_in.all_back(count),
        "handshakes a camera until then": f"{let_in.since_return / count:.1f}",
        "all back within, a retry every second": stubborn.all_back(count),
        "handshakes a camera, a retry every second": f"{stubborn.since_return / count:.1f}",
    }


def _share(most: int, count: int) -> str:
    return f"{most:,} ({100 * most / count:.0f} %)"


def _storm(way: _Way, cameras: int, *, admitted: int) -> _Storm:
    """All lose their connection in the same moment; from `AWAY_S` on, `admitted` a second get one again."""
    busy = InvalidStatus(Response(503, "", Headers({"Retry-After": str(RETRY_AFTER_S)})))
    away_wait_s = classify(ConnectionRefusedError(), "", now=0.0).wait_s or 0.0
    busy_wait_s = classify(busy, "", now=0.0).wait_s or 0.0
    storm = _Storm()
    let_in: Counter[int] = Counter()
    # When, who, and whether it is to take its turn first, or knocks.
    queue = [(way.delay_s(camera, 0.0), camera, False) for camera in range(cameras)]
    heapq.heapify(queue)
    while queue:
        now, camera, knocks = heapq.heappop(queue)
        if now > AWAY_S + GIVEN_UP_S:
            return storm
        if not knocks:
            heapq.heappush(queue, (way.turn(camera, now), camera, True))
            continue
        second = int(now)
        storm.attempts[second] += 1
        if now >= AWAY_S and let_in[second] < admitted:
            let_in[second] += 1
            storm.back.append(now)
            continue
        told = now + ROUND_TRIP_S
        wait_s = way.delay_s(camera, busy_wait_s if now >= AWAY_S else away_wait_s)
        heapq.heappush(queue, (told + wait_s, camera, False))
    return storm


class _Way(Protocol):
    """How a client comes back."""

    def delay_s(self, camera: int, least_s: float) -> float:
        """Seconds to wait after a failure; the service has asked for `least_s`."""
        ...

    def turn(self, camera: int, now: float) -> float:
        """The moment from `now` on at which it then tries."""
        ...


class _WithoutTurns:
    """Backoff and the service's wishes alone, as `Uplink._fail` joins them."""

    def __init__(self, hubs: Sequence[int], rng: random.Random) -> None:
        limits = Limits()
        self._rng = rng
        self._backoffs = [Backoff(first_s=limits.retry_first_s, cap_s=limits.retry_cap_s, rng=rng) for _ in hubs]

    def delay_s(self, camera: int, least_s: float) -> float:
        return max(self._backoffs[camera].next_s(), least_s * self._rng.uniform(1.0, 1.2))

    def turn(self, camera: int, now: float) -> float:
        del camera
        return now


class _AsTheHub(_WithoutTurns):
    """And the turns of each hub. They stand in a file of its own; here one file is given what each hub's would hold."""

    def __init__(self, hubs: Sequence[int], rng: random.Random) -> None:
        super().__init__(hubs, rng)
        self._hubs = hubs
        self._pace = pace.Pace(rng=rng)
        self._clock = _Clock()
        self._held: dict[int, bytes] = {}
        self._file = os.memfd_create("turns")
        weakref.finalize(self, os.close, self._file)

    def turn(self, camera: int, now: float) -> float:
        self._clock.now = now
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, self._held.get(self._hubs[camera], b""), 0)
        with mock.patch.object(pace, "time", self._clock):
            turn = self._pace._next(self._file)
        self._held[self._hubs[camera]] = os.pread(self._file, 64, 0)
        return now + self._rng.uniform(0.0, self._pace.ahead_s) if turn is None else turn


class _EverySecond:
    """A loop with `sleep(1)` in it, which has never heard of Retry-After."""

    def delay_s(self, camera: int, least_s: float) -> float:
        del camera, least_s
        return 1.0

    def turn(self, camera: int, now: float) -> float:
        del camera
        return now
