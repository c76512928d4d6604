"""What a reload would change."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.config import Config, Diff, diff, load, run_time_values

if TYPE_CHECKING:
    from pathlib import Path

BASE = """\
site: one
defaults: {fps: 5}
cameras:
  - {id: a, url: demo://street}
  - {id: b, url: demo://crossing, labels: {x: y}}
"""


def _config(folder: Path, text: str) -> Config:
    path = folder / "cameras.yaml"
    path.write_text(text)
    return load(path, environ={})


def test_the_same_file_changes_nothing(tmp_path: Path) -> None:
    found = diff(_config(tmp_path, BASE), _config(tmp_path, BASE + "# a comment\n"))
    assert found == Diff()
    assert not found


def test_cameras_come_go_and_change_by_setting(tmp_path: Path) -> None:
    text = BASE.replace("id: a", "id: c").replace("{x: y}}", "{x: z}, fps: 2, nvision: {service: face-detection}}")
    found = diff(_config(tmp_path, BASE), _config(tmp_path, text))
    assert (found.added, found.removed) == (("c",), ("a",))
    assert found.changed == {"b": {"labels", "fps", "nvision.service"}}
    assert (found.restarted, found.tuned) == (("b",), ())
    assert found


def test_a_moved_camera_is_the_same_camera(tmp_path: Path) -> None:
    lines = BASE.splitlines()
    moved = "\n".join([*lines[:3], lines[4], lines[3]])
    assert not diff(_config(tmp_path, BASE), _config(tmp_path, moved))


def test_defaults_count_by_what_they_do_to_cameras(tmp_path: Path) -> None:
    settings = "{fps: 1, jpeg_quality: 60, max_width: 640, nvision: {confidence_threshold: 0.4}}"
    new = _config(tmp_path, BASE.replace("{fps: 5}", settings))
    found = diff(_config(tmp_path, BASE), new)
    assert found.hub == frozenset()
    assert found.tuned == ("a", "b")
    assert found.restarted == ()
    assert run_time_values(new.cameras[0]) == {
        "fps": 1,
        "jpeg_quality": 60,
        "max_width": 640,
        "confidence_threshold": 0.4,
    }


def test_sections_of_the_hub_are_named(tmp_path: Path) -> None:
    text = BASE.replace("one", "two") + "gateway: {token: t}\nnvision: {output_cropped_image: true}\n"
    found = diff(_config(tmp_path, BASE), _config(tmp_path, text))
    assert found.hub == {"site", "gateway", "nvision"}
    assert found.changed == {"a": {"nvision.output_cropped_image"}, "b": {"nvision.output_cropped_image"}}


def test_a_changed_password_is_a_change(tmp_path: Path) -> None:
    text = "cameras: [{id: a, url: rtsp://10.0.0.5/, username: u, password: one}]"
    found = diff(_config(tmp_path, text), _config(tmp_path, text.replace("one", "two")))
    assert found.changed == {"a": {"password"}}
