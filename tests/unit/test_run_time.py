"""Wishes of operators over a cameras.yaml: what each makes of the configuration, and what is refused."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub import hub
from nvision_hub.config import Config, load
from nvision_hub.errors import HubError
from nvision_hub.hub.run_time import FILE, RunTime, keep, restore
from nvision_hub.link import Command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LOBBY = {"id": "lobby", "url": "rtsp://10.0.0.5/stream1", "fps": 5}
GATE = {"id": "gate", "url": "rtsp://10.0.0.6/stream1", "nvision": {"confidence_threshold": 0.4}}
YARD = {"id": "yard", "url": "rtsp://viewer:canary@10.0.0.7/stream1", "labels": {"floor": "1"}, "fps": 2.5}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Config]:
    def write(*cameras: dict[str, Any]) -> Config:
        file = tmp_path / "cameras.yaml"
        file.write_text(json.dumps({"defaults": {"jpeg_quality": 70}, "cameras": list(cameras)}), encoding="utf-8")
        return load(file)

    return write


def wish(verb: str, /, camera: Any, **more: Any) -> Command:
    return Command(verb=verb, arguments={"camera": camera, **more})


def refusal(run_time: RunTime, command: Command, config: Config) -> str:
    with pytest.raises(HubError) as caught:
        run_time.after(command, config)
    return str(caught.value)


def test_pause_and_resume(written: Callable[..., Config]) -> None:
    config = written(LOBBY, GATE)
    paused = RunTime().after(wish("pause", "lobby"), config)
    assert paused.paused == ("lobby",)
    assert paused.after(wish("pause", "lobby"), config) == paused
    assert paused.facts(config.camera("lobby"))["run_time"]["paused"] is True
    assert not paused.after(wish("resume", "lobby"), config)


def test_settings_lie_over_those_of_the_file_until_they_are_the_same_again(written: Callable[..., Config]) -> None:
    config = written(LOBBY, GATE)
    tuned = RunTime().after(wish("set", "gate", values={"fps": 2, "confidence_threshold": 0.9}), config)
    camera = tuned.camera(config.camera("gate"))
    assert (camera.fps, camera.nvision.confidence_threshold, camera.jpeg_quality) == (2.0, 0.9, 70)
    assert tuned.camera(config.camera("lobby")) == config.camera("lobby")
    facts = tuned.facts(config.camera("gate"))
    assert facts["run_time"]["set"] == {"fps": 2.0, "confidence_threshold": 0.9}
    assert facts["run_time"]["file"]["confidence_threshold"] == 0.4
    assert facts["camera"]["fps"] == 2.0
    more = tuned.after(wish("set", "gate", values={"max_width": 640}), config)
    assert more.settings["gate"] == {"fps": 2.0, "confidence_threshold": 0.9, "max_width": 640}
    back = more.after(wish("set", "gate", values={"fps": 5, "confidence_threshold": 0.4, "max_width": None}), config)
    assert not back


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"fps": 0}, "fps"),
        ({"fps": "quick"}, "fps"),
        ({"jpeg_quality": 101}, "jpeg_quality"),
        ({"jpeg_quality": None}, "jpeg_quality"),
        ({"max_width": 3}, "max_width"),
        ({"url": "rtsp://10.0.0.9/"}, "url"),
    ],
)
def test_what_cannot_be_set_is_refused_by_name(
    written: Callable[..., Config], values: dict[str, Any], named: str
) -> None:
    assert named in refusal(RunTime(), wish("set", "lobby", values=values), written(LOBBY))


def test_an_added_camera_has_the_defaults_of_the_file_and_its_values_are_literal(
    written: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HUB", "canary")
    config = written(LOBBY)
    entry = {**YARD, "name": "${SECRET_OF_THE_HUB}"}
    grown = RunTime().after(wish("add", entry), config)
    yard = grown.configuration(config.path).camera("yard")
    assert (yard.fps, yard.jpeg_quality, yard.labels["floor"]) == (2.5, 70, "1")
    assert yard.name == "${SECRET_OF_THE_HUB}"
    assert "canary" not in json.dumps(grown.facts(yard))
    assert not grown.after(wish("remove", "yard"), grown.configuration(config.path))


def test_a_removed_camera_stays_away_and_may_be_added_again(written: Callable[..., Config]) -> None:
    config = written(LOBBY, GATE)
    shrunk = RunTime().after(wish("remove", "gate"), config)
    left = shrunk.configuration(config.path)
    assert [camera.id for camera in left.cameras] == ["lobby"]
    other = {**GATE, "url": "rtsp://10.0.0.66/other"}
    again = shrunk.after(wish("add", other), left).configuration(config.path)
    assert [camera.id for camera in again.cameras] == ["lobby", "gate"]
    assert again.camera("gate").url.shown == "rtsp://10.0.0.66/other"
    alone = shrunk.after(wish("remove", "lobby"), left)
    assert alone.configuration(config.path).cameras == ()


@pytest.mark.parametrize(
    ("command", "sentence"),
    [
        (wish("add", LOBBY), "there is a camera lobby already"),
        (wish("add", {"id": "new", "url": "ftp://10.0.0.9/"}), "url: "),
        (wish("add", {"id": "new", "url": "file:clip.mp4"}), "only be added in cameras.yaml"),
        (wish("add", {"id": "new", "url": "rtsp://10.0.0.9/", "colour": "red"}), "colour"),
        (wish("add", {"url": "rtsp://10.0.0.9/"}), "id"),
        (wish("add", {"id": ["a"], "url": {}}), "id"),
        (wish("pause", "nobody"), "there is no camera nobody"),
        (wish("dance", "lobby"), "cannot dance"),
        (wish("pause", 3), "names no camera"),
        (Command(verb="pause"), "names no camera"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(
    written: Callable[..., Config], command: Command, sentence: str
) -> None:
    assert sentence in refusal(RunTime(), command, written(LOBBY))


def test_it_outlives_the_hub(written: Callable[..., Config], tmp_path: Path) -> None:
    config = written(LOBBY, GATE)
    changed = RunTime(paused=("gate",), settings={"lobby": {"fps": 1.0}}, added={"yard": YARD}, removed=("x",))
    keep(tmp_path, changed)
    assert restore(tmp_path) == changed
    config.state_dir.mkdir()
    keep(config.state_dir, changed)
    read, run_time = hub.read(config.path)
    assert run_time == changed
    assert [camera.id for camera in read.cameras] == ["lobby", "gate", "yard"]
    keep(config.state_dir, RunTime())
    assert not (config.state_dir / FILE).exists()
    assert hub.read(config.path) == (config, RunTime())


def test_a_layer_that_cannot_be_read_or_no_longer_fits_is_told_and_left_out(
    written: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = written(LOBBY)
    config.state_dir.mkdir()
    (config.state_dir / FILE).write_text('{"paused": 3}', encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert hub.read(config.path) == (config, RunTime())
        assert "cannot be read" in caplog.text
        keep(config.state_dir, RunTime(added={"yard": {**YARD, "url": "gopher://old"}}, paused=("lobby",)))
        assert hub.read(config.path) == (config, RunTime(paused=("lobby",)))
        assert "left out" in caplog.text
    assert "canary" not in caplog.text
