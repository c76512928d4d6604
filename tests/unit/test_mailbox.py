"""One slot between two threads: the newest picture wins, and nothing waits."""

from __future__ import annotations

import asyncio
import threading
import time

from workers.camera.mailbox import Frame, Mailbox


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
