"""The latest-value slot between two threads: the newest frame replaces the older frame, and the writer never waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import replace

from tests.support.patience import PATIENCE_S
from workers.camera.latest_frame import MAX_BEHIND, MAX_BEHIND_BYTES, EncodedFrame, LatestFrameSlot


def frame(number: int) -> EncodedFrame:
    return EncodedFrame(jpeg=str(number).encode(), width=1, height=1, captured_mono=float(number), captured_at=None)


async def test_the_newest_frame_wins_and_the_drop_is_returned() -> None:
    slot = LatestFrameSlot()
    assert [slot.put(frame(number)) for number in range(3)] == [0, 1, 1]
    assert (await slot.get()).jpeg == b"2"
    assert slot.put(frame(3)) == 0
    assert (await slot.get()).jpeg == b"3"


async def test_a_waiting_reader_is_woken_by_another_thread() -> None:
    slot = LatestFrameSlot()
    waiting = asyncio.create_task(slot.get())
    await asyncio.sleep(0)
    thread = threading.Thread(target=slot.put, args=(frame(7),))
    thread.start()
    async with asyncio.timeout(PATIENCE_S):
        assert (await waiting).jpeg == b"7"
    thread.join()


async def test_a_canceled_reader_removes_no_frame() -> None:
    slot = LatestFrameSlot()
    waiting = asyncio.create_task(slot.get())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    slot.put(frame(1))
    async with asyncio.timeout(PATIENCE_S):
        assert (await slot.get()).jpeg == b"1"


async def test_every_frame_is_either_taken_or_reported_as_dropped() -> None:
    slot = LatestFrameSlot()
    total = 3_000
    lost = 0

    def capture() -> None:
        nonlocal lost
        for number in range(total):
            lost += slot.put(frame(number))
            if number % 50 == 0:
                time.sleep(0)  # let the event loop's thread run

    thread = threading.Thread(target=capture)
    thread.start()
    taken: list[int] = []
    async with asyncio.timeout(PATIENCE_S):
        while not taken or taken[-1] < total - 1:
            taken.append(int((await slot.get()).jpeg))
    thread.join()
    assert taken == sorted(set(taken))
    assert len(taken) + lost == total


def behind(number: int) -> EncodedFrame:
    return replace(frame(number), behind=True)


async def taken(slot: LatestFrameSlot) -> list[tuple[int, bool]]:
    """Take all frames from the slot. Return their numbers and whether they are late."""
    frames = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.05):
                taken = await slot.get()
            frames.append((int(taken.jpeg), taken.behind))
    return frames


async def test_late_frames_are_taken_in_order_with_new_ones() -> None:
    slot = LatestFrameSlot()
    assert [slot.put(behind(number)) for number in range(8)] == [0] * 8
    assert [slot.put(frame(number)) for number in (8, 9)] == [0, 0]
    assert await taken(slot) == [(number, True) for number in range(10)]
    assert [slot.put(frame(number)) for number in (10, 11)] == [0, 1]
    assert await taken(slot) == [(11, False)]


async def test_late_frames_wait_for_the_newest_before_them() -> None:
    slot = LatestFrameSlot()
    slot.put(frame(0))
    slot.put(behind(1))
    assert await taken(slot) == [(0, False), (1, True)]


async def test_late_frames_are_bounded_in_number_and_age() -> None:
    slot = LatestFrameSlot()
    lost = sum(slot.put(replace(behind(number), captured_mono=number / 100)) for number in range(MAX_BEHIND + 10))
    assert lost == 10
    assert (await slot.get()).jpeg == b"10"
    # After a long outage of the service, the pre-roll frames are too old to send.
    lost = slot.put(replace(frame(1000), captured_mono=100.0))
    assert lost == MAX_BEHIND - 1
    assert await taken(slot) == [(1000, True)]
    assert slot.put(replace(behind(1001), jpeg=bytes(MAX_BEHIND_BYTES))) == 0
    assert slot.put(behind(1002)) == 1
    assert slot.clear() == 1
    assert await taken(slot) == []
