"""The spool on a real disk: order, bounds, what a killed process leaves, and files that are no spool."""

from __future__ import annotations

import os
import signal
import sqlite3
import stat
import subprocess
import sys
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from nvision_hub.broker.outgoing import Outgoing
from nvision_hub.broker.spool import Spool, SpoolPlace, SpoolRefusedError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


def result(number: int, *, size: int = 10, age_s: float = 0.0) -> Outgoing:
    return Outgoing(
        id=f"id-{number}", camera="lobby", payload=str(number).encode().ljust(size), received_at=time.time() - age_s
    )


def results(numbers: Sequence[int]) -> list[Outgoing]:
    return [result(number) for number in numbers]


def numbers(found: list[Outgoing]) -> list[int]:
    return [int(each.payload) for each in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "lobby.sqlite3"


def everything(spool: Spool) -> list[int]:
    """What it holds, in order, taken out."""
    found: list[int] = []
    while spool.count:
        some, position = spool.oldest(7, 10_000)
        found += numbers(some)
        spool.sent(some, position)
    return found


def test_in_order_and_gone_when_it_is_empty(path: Path) -> None:
    spool = Spool(SpoolPlace(path=path))
    assert not spool.left_behind
    assert not path.parent.exists()
    spool.put(results(range(10)))
    spool.put(results(range(10, 20)))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert spool.count == 20
    some, position = spool.oldest(3, 10_000)
    assert some[0] == spool.oldest(1, 1)[0][0], "looking takes nothing away"
    assert (some[0].camera, some[0].id) == ("lobby", "id-0")
    spool.sent(some, position)
    spool.put(results([20]))
    assert everything(spool) == list(range(3, 21))
    assert list(path.parent.iterdir()) == []
    spool.put(results([21]))
    assert everything(spool) == [21]
    assert not spool.lost


def test_the_same_id_is_kept_once(path: Path) -> None:
    spool = Spool(SpoolPlace(path=path))
    spool.put(results([1, 2]))
    spool.put(results([2, 3]))
    assert (spool.count, spool.lost) == (3, Counter(duplicate=1))
    assert everything(spool) == [1, 2, 3]


def test_beyond_the_bytes_the_oldest_are_lost(path: Path) -> None:
    spool = Spool(SpoolPlace(path=path, max_bytes=12_000))
    spool.put([result(number, size=1000) for number in range(25)])
    assert (spool.count, spool.lost) == (10, Counter(spool_full=15))
    spool.put([result(25, size=5000)])
    assert spool.lost == Counter(spool_full=20)
    assert everything(spool) == [20, 21, 22, 23, 24, 25]
    spool.put([result(26, size=20_000)])
    assert spool.count == 0
    assert not path.exists()
    spool.put([result(27)])
    assert everything(spool) == [27]
    assert spool.lost.total() == 21


def test_what_is_too_old_is_lost(path: Path) -> None:
    spool = Spool(SpoolPlace(path=path, max_age_s=60))
    spool.put([result(0, age_s=70), result(1, age_s=59.8), result(2)])
    assert (spool.count, spool.lost) == (2, Counter(spool_old=1))
    assert numbers(spool.oldest(10, 1000)[0]) == [1, 2]
    while spool.count == 2:
        spool.oldest(10, 1000)
    assert spool.lost == Counter(spool_old=2)
    assert everything(spool) == [2]


def test_a_killed_process_leaves_it_to_the_next(path: Path) -> None:
    program = f"""
import os, signal, time
from pathlib import Path
from nvision_hub.broker.spool import Spool, SpoolPlace
from nvision_hub.broker.outgoing import Outgoing
spool = Spool(SpoolPlace(path=Path({str(path)!r})))
for start in (0, 100):
    spool.put([Outgoing(id=f"id-{{n}}", camera="lobby", payload=b"%d" % n, received_at=time.time())
               for n in range(start, start + 100)])
some, position = spool.oldest(30, 10_000)
spool.sent(some, position)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    spool = Spool(SpoolPlace(path=path))
    spool.open()
    assert (spool.count, spool.found) == (170, 170)
    assert everything(spool) == list(range(30, 200))


def test_what_is_left_is_there_after_an_orderly_end(path: Path) -> None:
    first = Spool(SpoolPlace(path=path))
    first.put(results(range(5)))
    first.close()
    first.close()
    second = Spool(SpoolPlace(path=path))
    second.put(results(range(5, 7)))
    assert second.found == 5
    assert everything(second) == list(range(7))


@pytest.mark.parametrize("content", [b"no database at all, and longer than a header of one " * 50, b"SQLite"])
def test_a_file_that_is_no_database_is_set_aside(path: Path, content: bytes, caplog: pytest.LogCaptureFixture) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    spool = Spool(SpoolPlace(path=path))
    assert spool.left_behind
    spool.open()
    assert (spool.count, spool.found, spool.files_set_aside, spool.lost) == (0, 0, 1, Counter())
    aside = path.with_name("lobby.sqlite3.set-aside")
    assert aside.read_bytes() == content
    assert "it is kept as lobby.sqlite3.set-aside, and what was in it is lost" in caplog.text
    spool.put(results([1]))
    assert everything(spool) == [1]


def test_another_programs_database_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (name)")
    other.close()
    spool = Spool(SpoolPlace(path=path))
    spool.put(results([1]))
    assert (spool.count, spool.files_set_aside) == (1, 1)
    assert everything(spool) == [1]


def test_a_file_that_breaks_while_it_is_used_takes_its_results_along(path: Path) -> None:
    spool = Spool(SpoolPlace(path=path))
    spool.put([result(number, size=5000) for number in range(400)])  # more than SQLite keeps in memory
    spool.sent(*spool.oldest(1, 1))
    for file in (path, path.with_name("lobby.sqlite3-wal")):
        with file.open("r+b") as broken:
            size = file.stat().st_size
            broken.write(os.urandom(size))
    read = 1
    while spool.count and not spool.files_set_aside:
        some, position = spool.oldest(50, 10**6)
        read += len(some)
        spool.sent(some, position)
    assert spool.files_set_aside == 1
    assert read + spool.lost["spool_corrupt"] == 400
    spool.put(results([400]))
    assert everything(spool) == [400]


def test_a_disk_that_refuses_leaves_everything_to_the_caller(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(SpoolPlace(path=tmp_path / "file" / "lobby.sqlite3"))
    with pytest.raises(
        SpoolRefusedError, match=r"lobby\.sqlite3, where .*, cannot be used \((File exists|Not a directory)\)"
    ):
        spool.put(results([1]))
    assert (spool.count, spool.lost.total()) == (0, 0)
    (tmp_path / "file").unlink()
    spool.put(results([1]))
    assert everything(spool) == [1]


def test_another_process_of_the_same_name_is_waited_for(path: Path) -> None:
    first, second = Spool(SpoolPlace(path=path)), Spool(SpoolPlace(path=path))
    first.put(results([1]))
    with pytest.raises(SpoolRefusedError, match="locked"):
        second.put(results([2]))
    first.close()
    second.put(results([2]))
    assert everything(second) == [1, 2]
