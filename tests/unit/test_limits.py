"""What a worker may have of memory, in a process of its own that really runs out of it."""

from __future__ import annotations

import mmap
import multiprocessing
import resource
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from workers.camera.limits import Reserve, cap_memory, check_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def alone() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Call something in a new process; what it raises is raised here."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        yield lambda work: pool.submit(work).result()


def no_more_memory() -> None:
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has, has))


def check_and_find_enough() -> None:
    cap_memory()
    check_memory()


def check_and_find_none() -> None:
    no_more_memory()
    with pytest.raises(MemoryError, match="less than 32 MiB"):
        check_memory()


def take_more_than_a_gibibyte() -> None:
    cap_memory()
    with pytest.raises(MemoryError):
        bytearray(2**30 + 2**25)


def end_with_a_reserve() -> None:
    reserve = Reserve()
    no_more_memory()
    with pytest.raises(OSError, match="Cannot allocate memory"):
        mmap.mmap(-1, 2**24)
    reserve.release()
    reserve.release()
    mmap.mmap(-1, 2**24).close()
    thread = threading.Thread(target=bytearray, args=(2**20,))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "what", [check_and_find_enough, check_and_find_none, take_more_than_a_gibibyte, end_with_a_reserve]
)
def test_memory(alone: Callable[[Callable[[], None]], None], what: Callable[[], None]) -> None:
    alone(what)
