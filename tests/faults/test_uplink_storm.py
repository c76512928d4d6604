"""Case 34: a service that returns to fifty cameras at once must not be knocked down again by their return."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from bisect import bisect_left
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]
UPLINKS: Final = 50
PROCESSES: Final = 5
_ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def start_uplinks(tmp_path: Path) -> Iterator[Callable[[str], list[subprocess.Popen[str]]]]:
    """The uplinks of one hub, in a few processes."""
    started: list[subprocess.Popen[str]] = []

    def start(url: str) -> list[subprocess.Popen[str]]:
        each = UPLINKS // PROCESSES
        for first in range(0, UPLINKS, each):
            words = ["-m", "tests.support.uplinks_program", url, str(tmp_path / "turns"), str(first), str(each)]
            started.append(subprocess.Popen([sys.executable, *words], cwd=_ROOT, stdout=subprocess.PIPE, text=True))
        return started

    yield start
    for process in started:
        process.kill()
        process.communicate()


def most_within(moments: Sequence[float], seconds: float) -> int:
    """The most of them that lie within any stretch of so many seconds."""
    ordered = sorted(moments)
    return max(bisect_left(ordered, moment + seconds) - number for number, moment in enumerate(ordered))


def wait_until(condition: Callable[[], bool], service: Recorder, within_s: float) -> float:
    """Wait for it; the moment (CLOCK_MONOTONIC)."""
    end = time.monotonic() + within_s
    while not condition():
        assert time.monotonic() < end, f"not within {within_s} s"
        try:
            code = service.process.wait(0.05)
        except subprocess.TimeoutExpired:
            continue
        raise AssertionError(f"the service has ended ({code})")
    return time.monotonic()


@pytest.mark.parametrize("down_s", [0.5, 12.0])
def test_a_fleet_comes_back_spread_out(
    recorder: Callable[..., Recorder], start_uplinks: Callable[[str], list[subprocess.Popen[str]]], down_s: float
) -> None:
    service = recorder(keep_pictures=False)
    processes = start_uplinks(service.url)
    wait_until(lambda: len({shake.key for shake in service.handshakes()}) == UPLINKS, service, 30)
    service.kill()
    # What is down has to stay down for a while: any of the processes can be waited for, and none ends.
    with pytest.raises(subprocess.TimeoutExpired):
        processes[0].wait(down_s)
    known = len(service.handshakes())
    service.start()
    returned = time.monotonic()

    def back() -> list[float]:
        return [shake.at for shake in service.handshakes()[known:]]

    all_back = wait_until(lambda: len(back()) >= UPLINKS, service, 40) - returned
    most = most_within(back(), 1.0)
    assert len({shake.key for shake in service.handshakes()[known:]}) == UPLINKS, "each comes back once"
    assert most <= 0.2 * UPLINKS
    for process in processes:
        process.terminate()
        told = json.loads(process.communicate(timeout=10)[0])
        assert told["settled"]
        assert told["sent"] > 0
    measured(
        34,
        f"service returns to {UPLINKS} cameras after {down_s} s",
        injected=f"kill -9 and return; {UPLINKS} uplinks in {PROCESSES} processes",
        target="no second holds over 20 % of the attempts",
        measured=f"{100 * most / UPLINKS:.0f} % in the busiest second; all back within {all_back:.1f} s",
    )
