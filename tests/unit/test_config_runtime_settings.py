"""Which settings may change while a camera runs, and when two configurations are equal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.config.load import load

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Config

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


def test_the_same_values_make_an_equal_configuration(tmp_path: Path) -> None:
    assert _config(tmp_path, BASE) == _config(tmp_path, BASE + "# a comment\n")
    assert _config(tmp_path, BASE) != _config(tmp_path, BASE.replace("one", "two"))


def test_the_order_of_cameras_changes_no_camera(tmp_path: Path) -> None:
    lines = BASE.splitlines()
    moved = _config(tmp_path, "\n".join([*lines[:3], lines[4], lines[3]]))
    assert set(moved.cameras) == set(_config(tmp_path, BASE).cameras)


def test_a_changed_password_makes_an_unequal_camera(tmp_path: Path) -> None:
    text = "cameras: [{id: a, url: rtsp://10.0.0.5/, username: u, password: one}]"
    assert _config(tmp_path, text).cameras != _config(tmp_path, text.replace("one", "two")).cameras


def test_run_time_values_include_those_of_defaults(tmp_path: Path) -> None:
    settings = "{fps: 1, jpeg_quality: 60, max_width: 640, nvision: {confidence_threshold: 0.4}}"
    base, new = _config(tmp_path, BASE), _config(tmp_path, BASE.replace("{fps: 5}", settings))
    values = new.cameras[0].run_time_values
    assert values == {"fps": 1, "jpeg_quality": 60, "max_width": 640, "confidence_threshold": 0.4}
    assert base.cameras[0].tuned(values) == new.cameras[0]
