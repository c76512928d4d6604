"""Run-time overrides of cameras.yaml: their effect on the configuration, and requests that are rejected."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config.load import load
from nvision_hub.errors import HubError
from nvision_hub.hub import composition
from nvision_hub.hub.override_store import FILE, read, restore, save
from nvision_hub.hub.runtime_overrides import OverrideRejectedError, Overrides
from nvision_hub.runtime.messages import (
    AddCamera,
    CameraRequest,
    PauseCamera,
    RemoveCamera,
    Reply,
    ResumeCamera,
    SetCamera,
    decode,
    encode,
)

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvision_hub.config.models import Config

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


def pause(camera: str) -> PauseCamera:
    return PauseCamera(request_id="n1", camera=camera)


def resume(camera: str) -> ResumeCamera:
    return ResumeCamera(request_id="n1", camera=camera)


def remove(camera: str) -> RemoveCamera:
    return RemoveCamera(request_id="n1", camera=camera)


def add(entry: dict[str, Any]) -> AddCamera:
    return AddCamera(request_id="n1", entry=entry)


def change(camera: str, **values: Any) -> SetCamera:
    return SetCamera(request_id="n1", camera=camera, values=values)


def rejection(run_time: Overrides, request: CameraRequest, config: Config) -> str:
    with pytest.raises(HubError) as caught:
        run_time.apply(request, config)
    return str(caught.value)


def test_resume_undoes_a_pause(written: Callable[..., Config]) -> None:
    config = written(LOBBY, GATE)
    paused = Overrides().apply(pause("lobby"), config)
    assert paused.paused == ("lobby",)
    assert paused.apply(pause("lobby"), config) == paused
    assert paused.facts(config.camera("lobby"), 0).paused
    assert not paused.apply(resume("lobby"), config)


def test_settings_override_the_file_until_they_are_equal(written: Callable[..., Config]) -> None:
    config = written(LOBBY, GATE)
    tuned = Overrides().apply(change("gate", fps=2, confidence_threshold=0.9), config)
    camera = tuned.applied_to(config.camera("gate"))
    assert (camera.fps, camera.nvision.confidence_threshold, camera.jpeg_quality) == (2.0, 0.9, 70)
    assert tuned.applied_to(config.camera("lobby")) == config.camera("lobby")
    facts = tuned.facts(config.camera("gate"), 0)
    assert facts.overrides == {"fps": 2.0, "confidence_threshold": 0.9}
    assert facts.values_in_file["confidence_threshold"] == 0.4
    assert facts.settings["fps"] == 2.0
    more = tuned.apply(change("gate", max_width=640), config)
    assert more.settings["gate"] == {"fps": 2.0, "confidence_threshold": 0.9, "max_width": 640}
    back = more.apply(change("gate", fps=5, confidence_threshold=0.4, max_width=None), config)
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
def test_invalid_settings_are_rejected_by_name(
    written: Callable[..., Config], values: dict[str, Any], named: str
) -> None:
    assert named in rejection(Overrides(), change("lobby", **values), written(LOBBY))


def test_a_rejection_names_code_and_field_of_each_problem(written: Callable[..., Config]) -> None:
    config = written(LOBBY)
    entry = {"id": "new", "url": "ftp://10.0.0.9/", "nvision": {"confidence_threshold": 2}, "colour": "red"}
    with pytest.raises(OverrideRejectedError) as caught:
        Overrides(added={"yard": YARD}).apply(add(entry), config)
    assert [(found.code, found.field) for found in caught.value.diagnostics] == [
        ("unknown_key", "colour"),
        ("invalid_value", "nvision.confidence_threshold"),
        ("invalid_value", "url"),
    ]
    with pytest.raises(OverrideRejectedError) as caught:
        Overrides().apply(change("lobby", fps=0), config)
    assert [(found.code, found.path) for found in caught.value.diagnostics] == [("greater_than", ("fps",))]
    with pytest.raises(OverrideRejectedError) as caught:
        Overrides().apply(add(LOBBY), config)
    reply = Reply(request_id="1", error=str(caught.value), diagnostics=caught.value.diagnostics)
    assert decode(encode(reply)) == reply


def test_an_added_camera_has_the_defaults_of_the_file_and_its_values_are_literal(
    written: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SECRET_OF_THE_HUB", "canary")
    config = written(LOBBY)
    entry = {**YARD, "name": "${SECRET_OF_THE_HUB}"}
    grown = Overrides().apply(add(entry), config)
    yard = grown.configuration(config.path).camera("yard")
    assert (yard.fps, yard.jpeg_quality, yard.labels["floor"]) == (2.5, 70, "1")
    assert yard.name == "${SECRET_OF_THE_HUB}"
    assert "canary" not in json.dumps(asdict(grown.facts(yard, 0)))
    assert not grown.apply(remove("yard"), grown.configuration(config.path))


def test_a_removed_camera_stays_removed_and_may_be_added_again(written: Callable[..., Config]) -> None:
    config = written(LOBBY, GATE)
    shrunk = Overrides().apply(remove("gate"), config)
    left = shrunk.configuration(config.path)
    assert [camera.id for camera in left.cameras] == ["lobby"]
    other = {**GATE, "url": "rtsp://10.0.0.66/other"}
    again = shrunk.apply(add(other), left).configuration(config.path)
    assert [camera.id for camera in again.cameras] == ["lobby", "gate"]
    assert again.camera("gate").url.shown == "rtsp://10.0.0.66/other"
    alone = shrunk.apply(remove("lobby"), left)
    assert alone.configuration(config.path).cameras == ()


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (add(LOBBY), "camera lobby already exists"),
        (add({"id": "new", "url": "ftp://10.0.0.9/"}), "url: "),
        (add({"id": "new", "url": "file:clip.mp4"}), "can be added only in cameras.yaml"),
        (add({"id": "new", "url": "rtsp://10.0.0.9/", "colour": "red"}), "colour"),
        (add({"url": "rtsp://10.0.0.9/"}), "id"),
        (add({"id": ["a"], "url": {}}), "id"),
        (pause("unknown"), "there is no camera unknown"),
    ],
)
def test_impossible_requests_are_rejected_with_a_message(
    written: Callable[..., Config], request_: CameraRequest, sentence: str
) -> None:
    assert sentence in rejection(Overrides(), request_, written(LOBBY))


def test_overrides_outlive_the_hub(written: Callable[..., Config], tmp_path: Path) -> None:
    config = written(LOBBY, GATE)
    changed = Overrides(paused=("gate",), settings={"lobby": {"fps": 1.0}}, added={"yard": YARD}, removed=("x",))
    save(tmp_path, changed)
    assert restore(tmp_path) == changed
    config.state_dir.mkdir()
    save(config.state_dir, changed)
    found, run_time = read(config.path)
    assert run_time == changed
    assert [camera.id for camera in found.cameras] == ["lobby", "gate", "yard"]
    save(config.state_dir, Overrides())
    assert not (config.state_dir / FILE).exists()
    assert read(config.path) == (config, Overrides())


def test_overrides_that_cannot_be_read_or_no_longer_fit_are_logged_and_discarded(
    written: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = written(LOBBY)
    config.state_dir.mkdir()
    (config.state_dir / FILE).write_text('{"paused": 3}', encoding="utf-8")
    with caplog.at_level(logging.WARNING):
        assert read(config.path) == (config, Overrides())
        assert "cannot be read" in caplog.text
        save(config.state_dir, Overrides(added={"yard": {**YARD, "url": "gopher://old"}}, paused=("lobby",)))
        assert read(config.path) == (config, Overrides(paused=("lobby",)))
        assert "discarded" in caplog.text
    assert "canary" not in caplog.text


def test_stored_settings_get_the_types_of_the_file(written: Callable[..., Config]) -> None:
    config = written(LOBBY)
    config.state_dir.mkdir()
    save(config.state_dir, Overrides(settings={"lobby": {"fps": "2", "max_width": "640", "jpeg_quality": 50.0}}))
    found, overrides = read(config.path)
    camera = overrides.applied_to(found.camera("lobby"))
    assert [repr(value) for value in (camera.fps, camera.max_width, camera.jpeg_quality)] == ["2.0", "640", "50"]


def test_stored_changes_that_are_not_allowed_have_no_effect_but_stay_in_the_file(
    written: Callable[..., Config], caplog: pytest.LogCaptureFixture
) -> None:
    config = written(LOBBY, GATE)
    config.state_dir.mkdir()
    stored = Overrides(
        paused=("gate",),
        settings={"lobby": {"fps": -1}, "gate": {"fps": 2.0, "url": "rtsp://10.0.0.9/canary"}, "yard": {"fps": 1.0}},
        added={
            "yard": YARD,
            "clip": {"id": "clip", "url": "FILE:/etc/passwd"},
            "other": {"id": "yard", "url": "rtsp://10.0.0.8/"},
            "Bad": {"id": "Bad", "url": "rtsp://10.0.0.8/"},
            "none": {},
            "nested": {"id": "nested", "url": {"a": [1]}},
            "old": {**YARD, "id": "old", "colour": "canary"},
        },
    )
    save(config.state_dir, stored)
    with caplog.at_level(logging.WARNING):
        found, overrides = read(config.path)
    assert [camera.id for camera in found.cameras] == ["lobby", "gate", "yard"]
    assert overrides == Overrides(paused=("gate",), settings={"yard": {"fps": 1.0}}, added={"yard": YARD})
    assert overrides.rejected == 8
    assert len([record for record in caplog.records if record.event == "override_set_aside"]) == 8  # type: ignore[attr-defined]
    assert "canary" not in caplog.text
    (warning,) = [line for line in composition.plan(found, overrides=overrides).warnings if "without effect" in line]
    assert "invalid: lobby, gate, clip, other, Bad, none, nested, old; " in warning
    resumed = overrides.apply(resume("gate"), found)
    save(config.state_dir, resumed)
    assert restore(config.state_dir) == Overrides(settings=stored.settings, added=stored.added)
    again = resumed.apply(add({**YARD, "id": "clip"}), found)
    save(config.state_dir, again)
    found, overrides = read(config.path)
    assert found.camera("clip").fps == 2.5
    assert overrides.rejected == 7


def test_added_cameras_that_exceed_a_limit_together_are_all_set_aside(
    written: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = written(LOBBY)
    config.state_dir.mkdir()
    save(config.state_dir, Overrides(added={f"c{n}": {"id": f"c{n}", "url": "rtsp://10.0.0.5/"} for n in range(9)}))
    monkeypatch.setattr("nvision_hub.config.load.MAX_NODES", 30)
    found, overrides = read(config.path)
    assert [camera.id for camera in found.cameras] == ["lobby"]
    assert overrides.rejected == 9
