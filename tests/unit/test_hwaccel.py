"""The choice of the decoding device, as far as tests without hardware can check it."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import pytest

from nvision_hub.config.models import Camera
from nvision_hub.media.sources import open_source
from nvision_hub.media.sources.hwaccel import SOFTWARE, choose_device, hwaccel, try_device
from tests.support import files

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.media.sources.hwaccel import DeviceOption


def test_no_device_is_tried_if_hwaccel_is_none() -> None:
    def never(device: str) -> str | None:
        raise AssertionError(device)

    assert choose_device("none", never) is None
    assert hwaccel(None) is None


@pytest.mark.parametrize(
    ("there", "chosen"), [({"cuda", "qsv"}, "cuda"), ({"qsv", "drm"}, "qsv"), ({"drm"}, "drm"), (set(), None)]
)
def test_auto_uses_the_first_device_that_works_without_a_warning(
    there: set[str], chosen: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    assert choose_device("auto", lambda device: None if device in there else "no such device") == chosen
    assert caplog.text == ""


def test_a_requested_device_that_fails_is_logged_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    assert choose_device("qsv", lambda _: None) == "qsv"
    assert caplog.text == ""
    assert choose_device("qsv", lambda _: "no such device") is None
    assert "hwaccel: qsv cannot be used: no such device; the CPU decodes instead" in caplog.text


@pytest.mark.parametrize("option", ["auto", "cuda", "qsv", "drm"])
def test_a_stream_is_decoded_with_or_without_hardware(option: DeviceOption, tmp_path: Path) -> None:
    files.write(tmp_path / "clip.mp4", full_range=False, frames=25)
    camera = Camera.model_validate({"id": "a", "url": f"file:{tmp_path / 'clip.mp4'}", "hwaccel": option})
    with contextlib.closing(open_source(camera)) as source:
        there = option != "auto" and try_device(option) is None
        assert there or option == "auto" or source.facts.decoder == SOFTWARE
        packets = source.packets()
        frames = [frame for _ in range(5) for _, frame in source.decode(next(packets))]
        assert frames
        assert all(frame.width == files.WIDTH for frame in frames)
