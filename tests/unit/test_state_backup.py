"""Backup and restore of a state directory, with real SQLite files."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
import zipfile
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.broker.spool import Spool, SpoolSettings
from nvision_hub.budget.period_budget import Instant
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.hub.override_store import restore, save
from nvision_hub.hub.runtime_overrides import Overrides
from nvision_hub.hub.state_backup import FORMAT, MANIFEST, restore_backup, write_backup
from nvision_hub.hub.state_dir import Endpoints, sole_use
from workers.ledger.usage_store import SLOT_S, UsageKey, UsageStore, UsedImages

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

NOON = 1_796_126_400.0
SPOOL = "spool/lobby/results.sqlite3"
TRACK_SPOOL = "spool/lobby/tracks.sqlite3"
USAGE = "ledger/usage.sqlite3"


@pytest.fixture(autouse=True)
def mask() -> Iterator[None]:
    """Restore the umask, which the lock of a state directory changes."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@contextlib.contextmanager
def usage(folder: Path) -> Iterator[UsageStore]:
    store = UsageStore(folder / USAGE, "UTC")
    try:
        yield store
    finally:
        store.close()


def use(store: UsageStore, images: int) -> None:
    store.commit({UsageKey(int(NOON), "dock"): UsedImages(images)}, {}, Instant(NOON, 1.0))


def used(store: UsageStore) -> int:
    return store.count(None, NOON, NOON + SLOT_S)


def spooled(folder: Path, name: str = SPOOL) -> list[str]:
    spool = Spool(SpoolSettings(path=folder / name, max_age_s=1e12))
    spool.open()
    ids = [event.id for event in spool.oldest(10, 10**6)[0]]
    spool.close()
    return ids


@pytest.fixture
def state(tmp_path: Path) -> Path:
    """State directory of a hub that has ended."""
    folder = tmp_path / "state"
    with sole_use(folder), usage(folder) as store:
        use(store, 10)
        save(folder, Overrides(settings={"dock": {"fps": 2.0}}))
        for name, event in ((SPOOL, "a"), (TRACK_SPOOL, "b")):
            spool = Spool(SpoolSettings(path=folder / name, max_age_s=1e12))
            spool.put([OutgoingEvent(id=event, camera="lobby", payload=b"{}", received_at=NOON)])
            spool.close()
    return folder


def test_a_backup_restores_usage_changes_and_spools(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "hub.zip"
    names = (USAGE, SPOOL, TRACK_SPOOL, "run-time.json")
    assert write_backup(state, file).files == names
    assert file.stat().st_mode & 0o777 == 0o600
    with usage(state) as store:
        use(store, 5)
    save(state, Overrides(settings={"dock": {"fps": 9.0}}))
    (state / SPOOL).unlink()
    (state / TRACK_SPOOL).unlink()
    for target in (state, tmp_path / "new"):
        restored = restore_backup(file, target)
        assert restored.files == names
        with usage(target) as store:
            assert used(store) == 10
            use(store, 1)
            assert used(store) == 11, "another connection reads while the ledger writes"
        assert restore(target).settings == {"dock": {"fps": 2.0}}
        assert (spooled(target), spooled(target, TRACK_SPOOL)) == (["a"], ["b"])
        assert {path.stat().st_mode & 0o077 for path in target.rglob("*")} == {0}
        assert not list(target.rglob("*.new"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hub.zip", "new", "state"], "no copies are left"


def test_a_running_hub_is_backed_up_without_its_spools(state: Path, tmp_path: Path) -> None:
    with sole_use(state), usage(state) as store:
        use(store, 5)  # in the write-ahead log
        content = write_backup(state, tmp_path / "hub.zip")
        use(store, 1)
    assert content.is_hub_running
    assert content.files == (USAGE, "run-time.json")
    restore_backup(tmp_path / "hub.zip", tmp_path / "new")
    with usage(tmp_path / "new") as store:
        assert used(store) == 15


def test_a_killed_hub_does_not_count_as_running(state: Path, tmp_path: Path) -> None:
    """The process id in the record of a killed hub may belong to another process."""
    endpoints = Endpoints(pid=os.getpid(), site="s", redis="", prefix="nvision", service=None, demo=None)
    (state / "hub.json").write_text(json.dumps(asdict(endpoints)))
    assert SPOOL in write_backup(state, tmp_path / "hub.zip").files


def test_no_hub_starts_during_a_backup(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def start(*_: object) -> None:
        with sole_use(state):
            pass

    monkeypatch.setattr("nvision_hub.hub.state_backup.json.dumps", start)
    with pytest.raises(UnavailableError, match="another hub"):
        write_backup(state, tmp_path / "hub.zip")


def test_changes_after_the_backup_are_undone(state: Path, tmp_path: Path) -> None:
    (state / "run-time.json").unlink()
    with sole_use(state):
        write_backup(state, tmp_path / "hub.zip")
    save(state, Overrides(settings={"dock": {"fps": 9.0}}))
    restore_backup(tmp_path / "hub.zip", state)
    assert restore(state).settings == {}


def test_results_that_wait_are_never_replaced(state: Path, tmp_path: Path) -> None:
    write_backup(state, tmp_path / "hub.zip")
    with usage(state) as store:
        use(store, 5)
    with pytest.raises(HubError, match=r"results\.sqlite3 contains results that wait .*; start the hub"):
        restore_backup(tmp_path / "hub.zip", state)
    with usage(state) as store:
        assert used(store) == 15


def test_a_locked_database_is_an_error(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    connect = sqlite3.connect
    monkeypatch.setattr(sqlite3, "connect", lambda address, *, uri=False: connect(address, uri=uri, timeout=0))
    with contextlib.closing(connect(state / SPOOL)) as other:
        other.execute("PRAGMA locking_mode = EXCLUSIVE")
        other.execute("BEGIN EXCLUSIVE")
        with pytest.raises(UnavailableError, match="database is locked"):
            write_backup(state, tmp_path / "hub.zip")
    assert not (tmp_path / "hub.zip").exists()


def test_an_interrupted_backup_leaves_no_file(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nvision_hub.hub.state_backup._copy", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_backup(state, tmp_path / "hub.zip")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]


def test_files_from_1970_are_backed_up(state: Path, tmp_path: Path) -> None:
    os.utime(state / "run-time.json", (0, 0))
    assert "run-time.json" in write_backup(state, tmp_path / "hub.zip").files


def test_a_directory_of_others_stays_open(state: Path, tmp_path: Path) -> None:
    write_backup(state, tmp_path / "hub.zip")
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o755)
    (shared / "file").touch()
    with pytest.raises(UnavailableError, match="use a directory for the hub alone"):
        restore_backup(tmp_path / "hub.zip", shared)
    assert shared.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in shared.iterdir()] == ["file"]


def test_a_restore_is_refused_while_a_hub_runs(state: Path, tmp_path: Path) -> None:
    write_backup(state, tmp_path / "hub.zip")
    with sole_use(state), pytest.raises(UnavailableError, match=r"another hub uses .*; stop that hub"):
        restore_backup(tmp_path / "hub.zip", state)


def test_a_file_that_exists_is_not_overwritten(state: Path, tmp_path: Path) -> None:
    (tmp_path / "hub.zip").write_text("mine")
    with pytest.raises(UnavailableError, match="exists; remove it"):
        write_backup(state, tmp_path / "hub.zip")
    assert (tmp_path / "hub.zip").read_text() == "mine"


def test_a_folder_without_state_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError, match="contains no state of a hub; check --state-dir"):
        write_backup(tmp_path, tmp_path / "hub.zip")
    assert not (tmp_path / "hub.zip").exists()


def test_a_restore_by_root_keeps_the_owner_of_the_state_directory(
    state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_backup(state, tmp_path / "hub.zip")
    target, changed = tmp_path / "new", set[int]()
    target.mkdir(mode=0o700)
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(os, "fchown", lambda descriptor, *_: changed.add(os.fstat(descriptor).st_ino))
    restore_backup(tmp_path / "hub.zip", target)
    assert changed >= {folder.stat().st_ino for folder in target.rglob("*") if folder.is_dir()}


def test_a_link_in_the_state_directory_is_not_followed(state: Path, tmp_path: Path) -> None:
    write_backup(state, tmp_path / "hub.zip")
    target, outside = tmp_path / "new", tmp_path / "outside"
    target.mkdir(mode=0o700)
    outside.mkdir()
    (target / "ledger").symlink_to(outside)
    with pytest.raises(HubError, match="is a link; replace it"):
        restore_backup(tmp_path / "hub.zip", target)
    assert not list(outside.iterdir())


def test_another_user_may_not_restore(state: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_backup(state, tmp_path / "hub.zip")
    monkeypatch.setattr(os, "geteuid", lambda: state.stat().st_uid + 1)
    with pytest.raises(HubError, match="belongs to another user"):
        restore_backup(tmp_path / "hub.zip", state)


def archive(file: Path, manifest: dict[str, Any], files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(file, "w") as new:
        if manifest:
            manifest = {"files": list(files), **manifest}
        new.writestr(MANIFEST, json.dumps(manifest))
        for name, content in files.items():
            new.writestr(name, content)
    return file


GOOD: dict[str, Any] = {"format": FORMAT, "version": 1, "hub_version": "0.1", "created_at": "2026-12-01T12:00:00.000Z"}


@pytest.mark.parametrize(
    ("manifest", "files", "sentence"),
    [
        ({}, {}, "is not a backup of a hub"),
        (GOOD | {"format": "another"}, {}, "is not a backup of a hub"),
        (GOOD | {"version": "x"}, {}, "is not a backup of a hub"),
        (GOOD | {"version": 2, "hub_version": "9.0"}, {}, "was written by nvision-hub 9.0, and this version"),
        (GOOD, {"../outside": b""}, "contains '../outside', so it is not a backup"),
        (GOOD, {"spool/../../x/results.sqlite3": b""}, "is not a backup of a hub"),
        (GOOD | {"files": [USAGE, SPOOL]}, {USAGE: b""}, "is incomplete"),
        (GOOD, {"run-time.json": b"[1]"}, "is damaged: "),
        (GOOD, {USAGE: b"no database at all"}, "is damaged: usage.sqlite3 fails its check"),
        (GOOD, {USAGE: b""}, "is damaged: usage.sqlite3 fails its check (its version is 0, not 1)"),
    ],
)
def test_a_foreign_newer_or_damaged_file_changes_nothing(
    state: Path, tmp_path: Path, manifest: dict[str, Any], files: dict[str, bytes], sentence: str
) -> None:
    with pytest.raises(HubError, match=re.escape(sentence)):
        restore_backup(archive(tmp_path / "hub.zip", manifest, files), state)
    with usage(state) as store:
        assert used(store) == 10
    assert not list(state.rglob("*.new"))


def test_files_that_are_no_archives_are_refused(state: Path, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    with pytest.raises(HubError, match="is not a backup of a hub"):
        restore_backup(tmp_path / "text", state)
    with pytest.raises(UnavailableError, match="cannot be read"):
        restore_backup(tmp_path / "missing", state)


def test_a_database_of_another_version_is_refused(state: Path, tmp_path: Path) -> None:
    with contextlib.closing(sqlite3.connect(state / USAGE)) as database:
        database.execute("PRAGMA user_version = 7")
    write_backup(state, tmp_path / "hub.zip")
    with pytest.raises(HubError, match="its version is 7, not 1"):
        restore_backup(tmp_path / "hub.zip", tmp_path / "new")


def test_damaged_content_is_noticed_before_a_file_is_replaced(state: Path, tmp_path: Path) -> None:
    file = tmp_path / "hub.zip"
    write_backup(state, file)
    with zipfile.ZipFile(file) as intact:
        begin = intact.getinfo(SPOOL).header_offset
    content = bytearray(file.read_bytes())
    content[begin + 60 : begin + 160] = bytes(100)
    file.write_bytes(content)
    with usage(state) as store:
        use(store, 5)
    with pytest.raises(HubError, match="is damaged"):
        restore_backup(file, state)
    with usage(state) as store:
        assert used(store) == 15
