"""Decoding hardware, as far as a machine without any can tell: the choice, the reason, and pictures all the same."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from nvision_hub.config import Camera
from tests.support import files
from workers.camera.source import open_source
from workers.camera.source.hardware import SOFTWARE, acceleration, choose, trial

if TYPE_CHECKING:
    from pathlib import Path

    from workers.camera.source.hardware import Wanted


def test_nothing_is_tried_where_nothing_is_wanted() -> None:
    def never(device: str) -> str | None:
        raise AssertionError(device)

    assert choose("none", never) is None
    assert acceleration(None) is None


@pytest.mark.parametrize(
    ("there", "chosen"), [({"cuda", "qsv"}, "cuda"), ({"qsv", "drm"}, "qsv"), ({"drm"}, "drm"), (set(), None)]
)
def test_auto_takes_the_first_that_is_there_and_complains_of_none(
    there: set[str], chosen: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose("auto", lambda device: None if device in there else "no such device") == chosen
    assert caplog.text == ""


def test_a_certain_one_that_is_missing_is_told_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    assert choose("qsv", lambda _: None) == "qsv"
    assert caplog.text == ""
    assert choose("qsv", lambda _: "no such device") is None
    assert "hwaccel: qsv cannot be used (no such device); the processor decodes instead" in caplog.text


@pytest.mark.parametrize("wanted", ["auto", "cuda", "qsv", "drm"])
def test_a_camera_is_seen_with_the_hardware_or_without(wanted: Wanted, tmp_path: Path) -> None:
    files.write(tmp_path / "clip.mp4", full_range=False, frames=25)
    camera = Camera.model_validate({"id": "a", "url": f"file:{tmp_path / 'clip.mp4'}", "hwaccel": wanted})
    with contextlib.closing(open_source(camera)) as source:
        there = wanted != "auto" and trial(wanted) is None
        assert there or wanted == "auto" or source.facts.decoder == SOFTWARE
        packets = source.packets()
        pictures = [picture for _ in range(5) for _, picture in source.decode(next(packets))]
        assert pictures
        assert all(picture.width == files.WIDTH for picture in pictures)
