"""The spool on a real disk: order, limits, recovery after a kill, and files that are not spools."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING, cast

import pytest

from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.broker.spool import Spool, SpoolSettings, SpoolWriteError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path


def result(number: int, *, size: int = 10, age_s: float = 0.0) -> OutgoingEvent:
    return OutgoingEvent(
        id=f"id-{number}", camera="lobby", payload=str(number).encode().ljust(size), received_at=time.time() - age_s
    )


def results(numbers: Sequence[int]) -> list[OutgoingEvent]:
    return [result(number) for number in numbers]


def numbers(found: list[OutgoingEvent]) -> list[int]:
    return [int(each.payload) for each in found]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "spool" / "lobby.sqlite3"


def everything(spool: Spool) -> list[int]:
    """Remove all results. Return their numbers in order."""
    found: list[int] = []
    while spool.count:
        some, position = spool.oldest(7, 10_000)
        assert some, "the count includes results that the spool no longer returns"
        found += numbers(some)
        spool.remove(some, position)
    return found


@pytest.mark.parametrize(
    "damage", ["payload = 'text'", "payload = 1", "received_at = 'soon'", "camera = x'ff'", "id = x'ff'"]
)
def test_a_damaged_row_counts_as_found_and_lost(path: Path, damage: str) -> None:
    spool = Spool(SpoolSettings(path=path))
    spool.put(results(range(3)))
    spool.close()
    with contextlib.closing(sqlite3.connect(path)) as database, database:
        database.execute(f"UPDATE waiting SET {damage} WHERE position = 2")  # noqa: S608 - constants of this test
    successor = Spool(SpoolSettings(path=path))
    successor.open()
    assert (successor.found, successor.count, successor.lost) == (3, 2, {"spool_corrupt": 1})
    assert everything(successor) == [0, 2]


def test_results_keep_their_order_and_an_empty_file_is_deleted(path: Path) -> None:
    spool = Spool(SpoolSettings(path=path))
    assert not spool.is_left_behind
    assert not path.parent.exists()
    spool.put(results(range(10)))
    assert not spool.is_left_behind, "this process has opened the file"
    spool.put(results(range(10, 20)))
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    assert spool.count == 20
    some, position = spool.oldest(3, 10_000)
    assert some[0] == spool.oldest(1, 1)[0][0], "reading must not remove results"
    assert (some[0].camera, some[0].id) == ("lobby", "id-0")
    spool.remove(some, position)
    spool.put(results([20]))
    assert everything(spool) == list(range(3, 21))
    assert list(path.parent.iterdir()) == []
    spool.put(results([21]))
    assert everything(spool) == [21]
    assert not spool.lost


def test_a_result_comes_back_unchanged(path: Path) -> None:
    first = OutgoingEvent(id="id-1", camera="lobby", payload=bytes(range(256)), received_at=time.time() - 0.123)
    spool = Spool(SpoolSettings(path=path))
    spool.put([first, result(2)])
    spool.close()
    assert Spool(SpoolSettings(path=path)).oldest(1, 1)[0] == [first]


@pytest.mark.parametrize(
    ("max_events", "max_bytes", "expected"),
    [
        (10, 30, [0, 1, 2]),
        (10, 29, [0, 1]),
        (10, 20, [0, 1]),
        (10, 19, [0]),
        (10, 1, [0]),
        (2, 1000, [0, 1]),
        (10, 1000, [0, 1, 2, 3]),
    ],
)
def test_a_batch_is_bounded_by_events_and_bytes(
    path: Path, max_events: int, max_bytes: int, expected: list[int]
) -> None:
    spool = Spool(SpoolSettings(path=path))
    spool.put([result(number, size=10) for number in range(4)])
    assert numbers(spool.oldest(max_events, max_bytes)[0]) == expected


def test_the_same_id_is_kept_once(path: Path) -> None:
    spool = Spool(SpoolSettings(path=path))
    spool.put(results([1, 2]))
    spool.put(results([2, 3]))
    spool.put(results([3, 1]))
    assert (spool.count, spool.lost) == (3, Counter(duplicate=3))
    assert everything(spool) == [1, 2, 3]


def test_the_oldest_results_above_max_bytes_are_lost(path: Path) -> None:
    spool = Spool(SpoolSettings(path=path, max_bytes=12_000))
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


def test_removed_and_lost_results_make_room(path: Path) -> None:
    spool = Spool(SpoolSettings(path=path, max_bytes=12_000))
    for number in range(100):
        spool.put([result(number, size=1000)])
        if number >= 9:  # the spool stays full
            assert spool.count == 10
            spool.remove(*spool.oldest(1, 1))
    assert not spool.lost
    for number in range(100, 150):
        spool.put([result(number, size=1000)])
        assert spool.count == 10
    assert spool.lost == Counter(spool_full=49)


def test_a_reopened_spool_keeps_its_bounds(path: Path) -> None:
    first = Spool(SpoolSettings(path=path, max_bytes=12_000))
    first.put([result(number, size=1000) for number in range(10)])
    first.close()
    second = Spool(SpoolSettings(path=path, max_bytes=12_000))
    second.put([result(10, size=1000)])
    assert second.lost == Counter(spool_full=1)
    second.close()
    third = Spool(SpoolSettings(path=path, max_bytes=6000))
    third.open()
    assert (third.found, third.count, third.lost) == (10, 5, Counter(spool_full=5))
    assert everything(third) == list(range(6, 11))


def test_results_above_max_age_are_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1_800_000_000.0
    monkeypatch.setattr(time, "time", lambda: now)
    spool = Spool(SpoolSettings(path=path, max_age_s=60))
    spool.put([result(0, age_s=61), result(1, age_s=60), result(2)])
    assert (spool.count, spool.lost) == (2, Counter(spool_old=1))
    assert numbers(spool.oldest(10, 1000)[0]) == [1, 2]
    now += 1
    assert numbers(spool.oldest(10, 1000)[0]) == [2]
    assert (spool.count, spool.lost) == (1, Counter(spool_old=2))
    assert everything(spool) == [2]


def test_a_killed_process_leaves_its_spool_to_the_next(path: Path) -> None:
    program = f"""
import os, signal, time
from pathlib import Path
from nvision_hub.broker.spool import Spool, SpoolSettings
from nvision_hub.broker.send_buffer import OutgoingEvent
spool = Spool(SpoolSettings(path=Path({str(path)!r})))
for start in (0, 100):
    spool.put([OutgoingEvent(id=f"id-{{n}}", camera="lobby", payload=b"%d" % n, received_at=time.time())
               for n in range(start, start + 100)])
some, position = spool.oldest(30, 10_000)
spool.remove(some, position)
os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    spool = Spool(SpoolSettings(path=path))
    spool.open()
    assert (spool.count, spool.found) == (170, 170)
    assert everything(spool) == list(range(30, 200))


def test_a_closed_spool_keeps_its_results(path: Path) -> None:
    first = Spool(SpoolSettings(path=path))
    first.put(results(range(5)))
    first.close()
    first.close()
    second = Spool(SpoolSettings(path=path))
    second.put(results(range(5, 7)))
    assert second.found == 5
    assert everything(second) == list(range(7))
    second.put(results([7]))
    assert second.found == 5, "only results of an earlier process, until the owner resets the count"


@pytest.mark.parametrize("content", [b"no database at all, and longer than the header of one " * 50, b"SQLite"])
def test_a_file_that_is_not_a_database_is_set_aside(
    path: Path, content: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    path.parent.mkdir()
    path.write_bytes(content)
    spool = Spool(SpoolSettings(path=path))
    assert spool.is_left_behind
    spool.open()
    assert (spool.count, spool.found, spool.files_set_aside, spool.lost) == (0, 0, 1, Counter())
    aside = path.with_name("lobby.sqlite3.set-aside")
    assert aside.read_bytes() == content
    (record,) = caplog.records
    assert vars(record)["event"] == "spool_set_aside"
    message = record.getMessage()
    cause = f"the spool {path} cannot be used (file is not a database)"
    assert message == f"{cause}: renamed to lobby.sqlite3.set-aside; its content is lost"
    spool.put(results([1]))
    assert everything(spool) == [1]


def test_each_file_set_aside_is_counted_and_replaces_the_one_before(path: Path) -> None:
    spool = Spool(SpoolSettings(path=path))
    path.parent.mkdir()
    for number in range(3):
        path.write_bytes(b"no database, number %d" % number)
        spool.put(results([number]))
        assert everything(spool) == [number]
    assert spool.files_set_aside == 3
    assert [file.name for file in path.parent.iterdir()] == ["lobby.sqlite3.set-aside"]
    assert path.with_name("lobby.sqlite3.set-aside").read_bytes() == b"no database, number 2"


@pytest.mark.parametrize("version", [0, 1, 2])
def test_the_spool_of_another_version_is_set_aside(path: Path, caplog: pytest.LogCaptureFixture, version: int) -> None:
    first = Spool(SpoolSettings(path=path))
    first.put(results([1]))
    first.close()
    with contextlib.closing(sqlite3.connect(path)) as database:
        database.execute(f"PRAGMA user_version = {version}")
    second = Spool(SpoolSettings(path=path))
    second.put(results([2]))
    assert second.files_set_aside == (version != 1)
    assert everything(second) == ([1, 2] if version == 1 else [2])
    if version == 2:
        assert "its version is 2, and this program reads version 1" in caplog.text


def test_another_programs_database_is_set_aside(path: Path) -> None:
    path.parent.mkdir()
    other = sqlite3.connect(path)
    other.execute("CREATE TABLE things (name)")
    other.close()
    spool = Spool(SpoolSettings(path=path))
    spool.put(results([1]))
    assert (spool.count, spool.files_set_aside) == (1, 1)
    assert everything(spool) == [1]


def test_results_in_a_file_that_breaks_during_use_are_counted_as_lost(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spool = Spool(SpoolSettings(path=path))
    read = 0
    for start in (0, 400):
        spool.put(
            [result(number, size=5000) for number in range(start, start + 400)]
        )  # more than SQLite keeps in memory
        spool.remove(*spool.oldest(1, 1))
        read += 1
        for file in (path, path.with_name("lobby.sqlite3-wal")):
            with file.open("r+b") as broken:
                size = file.stat().st_size
                broken.write(os.urandom(size))
        lost_before = spool.lost.total()
        while spool.count:
            some, position = spool.oldest(50, 10**6)
            assert some or not spool.count
            read += len(some)
            spool.remove(some, position)
        assert f"{spool.lost.total() - lost_before} results are lost" in caplog.text
    assert spool.files_set_aside == 2
    assert spool.lost == Counter(spool_corrupt=800 - read)
    spool.put(results([800]))
    assert everything(spool) == [800]


def test_with_a_failed_disk_the_caller_keeps_the_results(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    spool = Spool(SpoolSettings(path=tmp_path / "file" / "lobby.sqlite3"))
    with pytest.raises(SpoolWriteError, match=r"lobby\.sqlite3 cannot be used \((File exists|Not a directory)\)"):
        spool.put(results([1]))
    assert (spool.count, spool.lost.total()) == (0, 0)
    (tmp_path / "file").unlink()
    spool.put(results([1]))
    assert everything(spool) == [1]


@contextlib.contextmanager
def full_disk(max_file_bytes: int) -> Iterator[None]:
    """Limit the files of this process to `max_file_bytes`. Python ignores the limit's signal, so writes only fail."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (max_file_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stores_all_results_or_none(path: Path) -> None:
    spool = Spool(SpoolSettings(path=path, max_bytes=750_000))
    spool.put([result(number, size=100_000) for number in range(5)])
    with full_disk(600_000):
        with pytest.raises(SpoolWriteError, match=r"lobby\.sqlite3 cannot be used \(.*(full|disk I/O error)\)$"):
            spool.put([result(number, size=100_000) for number in (0, *range(5, 12))])
        assert (spool.count, spool.lost) == (5, Counter()), "a failed call changes no count"
    with full_disk(1):
        for _ in range(3):
            with pytest.raises(SpoolWriteError):
                spool.put([result(5, size=100_000)])
        some, position = spool.oldest(2, 10**6)
        spool.remove(some, position)
        assert spool.count == 3
        assert numbers(spool.oldest(10, 10**6)[0]) == [2, 3, 4], "removed results do not come back"
    spool.put([result(number, size=100_000) for number in range(5, 9)])  # within the bound, without those that failed
    assert spool.count == 7
    assert everything(spool) == list(range(2, 9))
    assert not spool.lost
    assert list(path.parent.iterdir()) == []


def test_a_spool_closed_on_a_full_disk_keeps_its_results(path: Path) -> None:
    first = Spool(SpoolSettings(path=path))
    first.put([result(number, size=100_000) for number in range(5)])
    with full_disk(1):
        first.close()
    second = Spool(SpoolSettings(path=path))
    second.open()
    assert everything(second) == [0, 1, 2, 3, 4]


def test_a_call_that_fails_halfway_stores_nothing(path: Path) -> None:
    class Interrupted(list[OutgoingEvent]):
        def __iter__(self) -> Iterator[OutgoingEvent]:
            yield result(1)
            raise KeyboardInterrupt

    spool = Spool(SpoolSettings(path=path))
    spool.put(results([0]))
    with pytest.raises(KeyboardInterrupt):
        spool.put(Interrupted())
    wrong = OutgoingEvent(id="wrong", camera="lobby", payload=cast("bytes", object()), received_at=0.0)
    with pytest.raises(sqlite3.Error, match="type 'object' is not supported"):
        spool.put([result(2), wrong])
    assert spool.count == 1
    spool.put(results([3]))
    assert everything(spool) == [0, 3]


def test_calls_may_come_from_different_threads(tmp_path: Path) -> None:
    spool, found = Spool(SpoolSettings(path=tmp_path / "new" / "folders" / "lobby.sqlite3")), list[int]()
    spool.put(results([1]))

    def use() -> None:
        spool.put(results([2]))
        found.extend(everything(spool))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert found == [1, 2]


def test_a_file_locked_by_another_process_becomes_usable_after_it_closes(path: Path) -> None:
    first, second = Spool(SpoolSettings(path=path)), Spool(SpoolSettings(path=path))
    first.put(results([1]))
    with pytest.raises(SpoolWriteError, match=r"lobby\.sqlite3 cannot be used \(database is locked\)$"):
        second.put(results([2]))
    first.close()
    second.put(results([2]))
    assert everything(second) == [1, 2]
