"""Turns to come back: handed out one after the other, over processes, whatever the file holds."""

from __future__ import annotations

import fcntl
import struct
import time
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from workers.camera.pace import Pace

if TYPE_CHECKING:
    from pathlib import Path


async def turns(file: Path, count: int, every_s: float = 0.125) -> list[float | None]:
    return [await Pace(file=file, every_s=every_s)._take(file) for _ in range(count)]


async def test_turns_are_evenly_spaced_from_now_on(tmp_path: Path) -> None:
    now = time.monotonic()
    taken = [turn for turn in await turns(tmp_path / "turns", 10) if turn is not None]
    assert taken[0] == pytest.approx(now, abs=0.1)
    assert [later - earlier for earlier, later in pairwise(taken)] == pytest.approx([0.125] * 9)


async def test_beyond_the_queue_nobody_is_given_a_turn(tmp_path: Path) -> None:
    taken = await turns(tmp_path / "turns", 80)
    assert 50 <= len([turn for turn in taken if turn is not None]) <= 53
    assert taken[-1] is None


@pytest.mark.parametrize(
    "content", [b"", b"no", struct.pack("d", 1e12), struct.pack("d", float("nan")), struct.pack("d", -1e12)]
)
async def test_whatever_is_in_the_file_costs_nobody_a_wait(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "turns"
    file.write_bytes(content)
    (turn,) = await turns(file, 1)
    assert turn == pytest.approx(time.monotonic(), abs=0.1)


async def test_a_process_that_is_stopped_with_the_lock_holds_up_nobody(tmp_path: Path) -> None:
    file = tmp_path / "turns"
    with file.open("wb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        assert await turns(file, 1) == [None]
        began = time.monotonic()
        await Pace(file=file, ahead_s=0.1).wait()
        assert time.monotonic() - began < 1.0


async def test_a_disk_that_takes_no_file_holds_up_nobody(tmp_path: Path) -> None:
    await Pace(file=tmp_path / "missing" / "turns", ahead_s=0.01).wait()
    await Pace().wait()
