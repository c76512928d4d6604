"""The fleet key: where it comes from, who can read it, and when its absence matters."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.cluster.fleet_key import FILE, create_fleet_key, missing_fleet_key, read_fleet_key
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Config

KEY = "bQ7xV2mZ9tLw4RkY8sPf1HdC6nJ3gAe5"
LOBBY: dict[str, Any] = {"id": "lobby", "url": "rtsp://10.0.0.5/"}


def config(folder: Path, camera: dict[str, Any] = LOBBY, **redis: Any) -> Config:
    file = folder / "cameras.yaml"
    file.write_text(json.dumps({"redis": {"url": "redis://10.0.0.2", **redis}, "cameras": [camera]}), encoding="utf-8")
    return load(file)


def test_the_key_of_the_file_takes_precedence(tmp_path: Path) -> None:
    assert read_fleet_key(config(tmp_path)) is None
    assert read_fleet_key(config(tmp_path, fleet_key="")) is None
    stored = create_fleet_key(tmp_path / ".nvision-hub")
    assert read_fleet_key(config(tmp_path)) == stored
    in_file = read_fleet_key(config(tmp_path, fleet_key=KEY))
    assert in_file is not None
    assert in_file.reveal() == KEY


def test_a_created_key_is_private_and_stays(tmp_path: Path) -> None:
    state_dir = tmp_path / "new" / "state"
    key = create_fleet_key(state_dir)
    assert len(key.reveal()) >= 32
    assert create_fleet_key(state_dir) == key
    assert [file.name for file in state_dir.iterdir()] == [FILE]
    assert (state_dir / FILE).stat().st_mode & 0o777 == 0o600
    assert state_dir.stat().st_mode & 0o777 == 0o700
    assert create_fleet_key(tmp_path / "other") != key


@pytest.mark.parametrize(("content", "mode"), [(b"short", 0o600), (b"\xff" * 40, 0o600), (b"x" * 40, 0o644)])
def test_an_unusable_key_file_is_an_error(tmp_path: Path, content: bytes, mode: int) -> None:
    found = config(tmp_path)
    found.state_dir.mkdir()
    file = found.state_dir / FILE
    file.write_bytes(content)
    file.chmod(mode)
    with pytest.raises(UnavailableError, match="fleet") as caught:
        read_fleet_key(found)
    assert "xxx" not in str(caught.value)


def test_a_folder_that_cannot_be_created_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError, match=r"set redis\.fleet_key"):
        create_fleet_key(tmp_path / "file" / "state")


def test_a_short_key_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"redis\.fleet_key: is shorter than 128 bits") as caught:
        config(tmp_path, fleet_key="canary-too-short")
    assert "canary" not in str(caught.value)


def test_a_missing_key_matters_only_for_several_hubs(tmp_path: Path) -> None:
    placed = {**LOBBY, "placement": {"zone": "east"}}
    assert missing_fleet_key(config(tmp_path), is_in_fleet=False) is None
    assert missing_fleet_key(config(tmp_path, placed, url="embedded"), is_in_fleet=False) is None
    assert missing_fleet_key(config(tmp_path, placed, fleet_key=KEY), is_in_fleet=True) is None
    sentence = missing_fleet_key(config(tmp_path), is_in_fleet=True)
    assert sentence is not None
    assert "set redis.fleet_key to the same secret" in sentence
    sentence = missing_fleet_key(config(tmp_path, placed), is_in_fleet=False)
    assert sentence is not None
    assert "set redis.fleet_key" in sentence
