"""One slot between two threads: the newest picture wins, and nothing waits."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from dataclasses import replace

from workers.camera.mailbox import BEHIND_MAX, BEHIND_MAX_BYTES, Frame, Mailbox


def frame(number: int) -> Frame:
    return Frame(jpeg=str(number).encode(), width=1, height=1, captured_mono=float(number), captured_at=None)


async def test_the_newest_wins_and_the_loss_is_told() -> None:
    mailbox = Mailbox()
    assert [mailbox.put(frame(number)) for number in range(3)] == [0, 1, 1]
    assert (await mailbox.take()).jpeg == b"2"
    assert mailbox.put(frame(3)) == 0
    assert (await mailbox.take()).jpeg == b"3"


async def test_whoever_waits_is_woken_by_another_thread() -> None:
    mailbox = Mailbox()
    waiting = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    thread = threading.Thread(target=mailbox.put, args=(frame(7),))
    thread.start()
    async with asyncio.timeout(5):
        assert (await waiting).jpeg == b"7"
    thread.join()


async def test_one_who_gave_up_takes_nothing() -> None:
    mailbox = Mailbox()
    waiting = asyncio.create_task(mailbox.take())
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    mailbox.put(frame(1))
    async with asyncio.timeout(5):
        assert (await mailbox.take()).jpeg == b"1"


async def test_every_picture_is_either_taken_or_told_as_lost() -> None:
    mailbox = Mailbox()
    total = 3_000
    lost = 0

    def capture() -> None:
        nonlocal lost
        for number in range(total):
            lost += mailbox.put(frame(number))
            if number % 50 == 0:
                time.sleep(0)  # lets the loop's thread in

    thread = threading.Thread(target=capture)
    thread.start()
    taken: list[int] = []
    async with asyncio.timeout(30):
        while not taken or taken[-1] < total - 1:
            taken.append(int((await mailbox.take()).jpeg))
    thread.join()
    assert taken == sorted(set(taken))
    assert len(taken) + lost == total


def behind(number: int) -> Frame:
    return replace(frame(number), behind=True)


async def taken(mailbox: Mailbox) -> list[tuple[int, bool]]:
    """All that lies there."""
    frames = []
    with contextlib.suppress(TimeoutError):
        while True:
            async with asyncio.timeout(0.05):
                taken = await mailbox.take()
            frames.append((int(taken.jpeg), taken.behind))
    return frames


async def test_pictures_that_are_behind_are_all_taken_in_order_with_those_that_come_meanwhile() -> None:
    mailbox = Mailbox()
    assert [mailbox.put(behind(number)) for number in range(8)] == [0] * 8
    assert [mailbox.put(frame(number)) for number in (8, 9)] == [0, 0]
    assert await taken(mailbox) == [(number, True) for number in range(10)]
    assert [mailbox.put(frame(number)) for number in (10, 11)] == [0, 1]
    assert await taken(mailbox) == [(11, False)]


async def test_pictures_that_are_behind_wait_for_the_newest_before_them() -> None:
    mailbox = Mailbox()
    mailbox.put(frame(0))
    mailbox.put(behind(1))
    assert await taken(mailbox) == [(0, False), (1, True)]


async def test_what_is_behind_is_bounded_in_number_and_in_time() -> None:
    mailbox = Mailbox()
    lost = sum(mailbox.put(replace(behind(number), captured_mono=number / 100)) for number in range(BEHIND_MAX + 10))
    assert lost == 10
    assert (await mailbox.take()).jpeg == b"10"
    # The service was away for long: of the time before an alarm nothing is news any more.
    lost = mailbox.put(replace(frame(1000), captured_mono=100.0))
    assert lost == BEHIND_MAX - 1
    assert await taken(mailbox) == [(1000, True)]
    assert mailbox.put(replace(behind(1001), jpeg=bytes(BEHIND_MAX_BYTES))) == 0
    assert mailbox.put(behind(1002)) == 1
    assert mailbox.clear() == 1
    assert await taken(mailbox) == []
