"""Runtime directories of hubs, and the choice of a hub."""

from __future__ import annotations

import json
import os
import socket
from dataclasses import asdict
from typing import TYPE_CHECKING

import click
import pytest

from nvision_hub.cli.hub_choice import only_hub
from nvision_hub.hub import running_hubs
from nvision_hub.hub.running_hubs import control_socket, record_of
from nvision_hub.hub.running_hubs import running_hubs as found_hubs
from nvision_hub.hub.state_dir import Endpoints, published_endpoints
from nvision_hub.runtime.unix_socket import peer_of, short_path, unix_listener
from workers.gateway.auth.identity import local_user

if TYPE_CHECKING:
    from pathlib import Path


def endpoints(state_dir: Path, **more: str) -> Endpoints:
    facts: dict[str, str | None] = {"site": "demo", "redis": "x", "prefix": "x", "service": None, "demo": None}
    return Endpoints(pid=os.getpid(), state_dir=str(state_dir), **(facts | more))  # type: ignore[arg-type]


@pytest.fixture
def empty_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Replace /run by an empty folder."""
    folder = tmp_path / "run"
    folder.mkdir()
    monkeypatch.setattr(running_hubs, "RUN", folder)
    return folder


def test_a_hub_uses_the_first_runtime_directory_that_it_can_write_to(tmp_path: Path, empty_run: Path) -> None:
    unit, session, state = tmp_path / "unit", tmp_path / "session", tmp_path / "state"
    session.mkdir()
    both = {"RUNTIME_DIRECTORY": str(unit), "XDG_RUNTIME_DIR": str(session)}
    assert control_socket(state, both).parent == unit
    assert control_socket(state, {"XDG_RUNTIME_DIR": str(session)}).parent == session / "nvision-hub"
    open_to_all = tmp_path / "open"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    assert control_socket(state, {"RUNTIME_DIRECTORY": str(open_to_all)}).parent != open_to_all
    missing = {"RUNTIME_DIRECTORY": str(tmp_path / "none" / "none")}
    expected = empty_run / "nvision-hub" if os.geteuid() == 0 else state
    assert control_socket(state, missing).parent == expected
    assert control_socket(tmp_path / "a", both) != control_socket(tmp_path / "b", both)
    assert record_of(state / "control.sock") is None


@pytest.mark.usefixtures("empty_run")
def test_records_of_ended_hubs_and_damaged_records_are_ignored(tmp_path: Path) -> None:
    session = {"XDG_RUNTIME_DIR": str(tmp_path)}
    state = tmp_path / "state"
    state.mkdir()
    control = control_socket(state, session)
    record = record_of(control)
    assert record is not None
    with published_endpoints(state, endpoints(state, control=str(control)), record), unix_listener(control):
        assert [hub.site for hub in found_hubs(session)] == ["demo"]
        folder = record.parent
        for index, damaged in enumerate(("[]", "{", '{"pid": 1}', "9" * 100_000)):
            (folder / f"{index}.json").write_text(damaged)
        facts = asdict(endpoints(state))
        (folder / "typed.json").write_text(json.dumps({**facts, "state_dir": 5}))
        (folder / "ended.json").write_text(json.dumps({**facts, "pid": 2**22 + 1}))
        os.mkfifo(folder / "pipe.json")
        assert len(found_hubs(session)) == 1
    assert found_hubs(session) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_record_cannot_name_the_state_directory_of_another_user(tmp_path: Path, empty_run: Path) -> None:
    """Otherwise a user could make root write files to any directory, for example with `token create`."""
    folder = empty_run / "user" / "1000" / "nvision-hub"
    folder.mkdir(parents=True)
    state = tmp_path / "state"
    state.mkdir()
    record, control = folder / "forged.json", folder / "forged.sock"
    record.write_text(json.dumps(asdict(endpoints(state, control=str(control)))))
    with unix_listener(control):
        assert [hub.site for hub in found_hubs({})] == ["demo"]
        for path in (record, control):
            os.chown(path, 1000, 1000)
        assert found_hubs({}) == []


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to another user")
def test_a_record_cannot_claim_the_socket_or_the_cameras_of_another_user(tmp_path: Path, empty_run: Path) -> None:
    """Otherwise a user could receive the commands that root means for another hub."""
    folder = empty_run / "user" / "1000" / "nvision-hub"
    state, config = tmp_path / "state", tmp_path / "cameras.yaml"
    for path in (folder, state):
        path.mkdir(parents=True)
    config.touch()
    record, control, foreign = folder / "a.json", folder / "a.sock", tmp_path / "foreign.sock"
    with unix_listener(control), unix_listener(foreign):
        for path in (control, state, config):
            os.chown(path, 1000, 1000)

        def found(**facts: str | None) -> bool:
            record.write_text(json.dumps(asdict(endpoints(state)) | {"control": str(control), **facts}))
            os.chown(record, 1000, 1000)
            return bool(found_hubs({}))

        assert found(config=str(config))
        assert not found(control=str(foreign))
        assert not found(control=None)
        os.chown(config, 0, 0)
        assert not found(config=str(config))


def test_several_hubs_are_listed(tmp_path: Path) -> None:
    hubs = [endpoints(tmp_path / name, site=name) for name in ("east", "west")]
    assert only_hub(hubs[:1]) == hubs[0]
    with pytest.raises(click.UsageError, match=r"several hubs match(?s:.)*--site east(?s:.)*--site west"):
        only_hub(hubs)


@pytest.fixture
def deep_folder(tmp_path: Path) -> Path:
    folder = tmp_path.joinpath(*["a-long-name-of-a-folder"] * 8)
    folder.mkdir(parents=True)
    return folder


def test_a_socket_may_have_a_long_path(deep_folder: Path) -> None:
    path = deep_folder / "control.sock"
    for _ in range(2):  # the second listener replaces the socket of the first
        with unix_listener(path) as listening, short_path(path) as address:
            assert path.stat().st_mode & 0o777 == 0o600
            with socket.socket(socket.AF_UNIX) as one:
                one.connect(address)
                accepted, _ = listening.accept()
                with accepted:
                    assert peer_of(accepted) == (os.getpid(), os.geteuid())


def test_only_root_and_the_own_user_have_a_role(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert [local_user(uid).role for uid in (0, 1000, 1001, 65_534)] == ["admin", "admin", None, None]
