"""A worker's memory limit, tested in a separate process that exceeds it."""

from __future__ import annotations

import mmap
import multiprocessing
import resource
import threading
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nvision_hub.media.memory_limits import MemoryReserve, cap_memory, check_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@pytest.fixture
def alone() -> Iterator[Callable[[Callable[[], None]], None]]:
    """Call a function in a new process. Raise its error here.

    A forked process would inherit this process's memory, and might free enough memory to stay below the limit.
    """
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield lambda work: pool.submit(work).result()


def forbid_more_memory() -> None:
    has = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (has, has))


def check_with_enough_memory() -> None:
    cap_memory()
    check_memory()


def check_without_memory() -> None:
    forbid_more_memory()
    with pytest.raises(MemoryError, match="less than 32 MiB"):
        check_memory()


def allocate_more_than_a_gibibyte() -> None:
    cap_memory()
    with pytest.raises(MemoryError):
        bytearray(2**30 + 2**25)


def release_a_reserve() -> None:
    reserve = MemoryReserve()
    forbid_more_memory()
    with pytest.raises(OSError, match="Cannot allocate memory"):
        mmap.mmap(-1, 2**24)
    reserve.release()
    reserve.release()
    mmap.mmap(-1, 2**24).close()
    thread = threading.Thread(target=bytearray, args=(2**20,))
    thread.start()
    thread.join()


@pytest.mark.parametrize(
    "check", [check_with_enough_memory, check_without_memory, allocate_more_than_a_gibibyte, release_a_reserve]
)
def test_memory_limits_hold(alone: Callable[[Callable[[], None]], None], check: Callable[[], None]) -> None:
    alone(check)
