"""Streams as FFmpeg reads them, from files: what is torn is not shown, and loops have no seam."""

from __future__ import annotations

from itertools import islice, pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config import CameraAddress
from tests.support import clips, counter, files
from workers.camera.source.stream import StreamSource

if TYPE_CHECKING:
    from pathlib import Path

CLIP = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
START_CODE = b"\x00\x00\x01"
SLICE_TYPES = frozenset({1, 5})  # H.264, table 7-1: slices of a P picture and of a keyframe


def opened(path: Path) -> StreamSource:
    camera: Any = SimpleNamespace(
        address=CameraAddress.parse(f"file:{path}"), stall_timeout=10.0, transport="tcp", hwaccel="none"
    )
    return StreamSource(camera)


def without_a_slice(unit: bytes) -> bytes:
    """A coded picture of several slices without its first one."""
    nals = unit.split(START_CODE)[1:]
    first = next(place for place, nal in enumerate(nals) if nal[0] & 31 in SLICE_TYPES)
    assert sum(nal[0] & 31 in SLICE_TYPES for nal in nals) > 1
    return b"".join(START_CODE + nal for place, nal in enumerate(nals) if place != first)


@pytest.mark.parametrize("hurt", [25, 30])
def test_what_builds_on_a_torn_picture_is_not_shown(tmp_path: Path, hurt: int) -> None:
    units = clips.access_units(CLIP)
    units[hurt] = without_a_slice(units[hurt])
    clip = tmp_path / "torn.h264"
    clip.write_bytes(b"".join(units))
    source = opened(clip)
    seen: list[int | None] = []
    for packet in islice(source.packets(), len(units) - 1):
        seen += [None if picture is None else counter.of_frame(picture) for _, picture in source.decode(packet)]
    source.close()
    good = [number for number in seen if number is not None]
    assert good == list(range(hurt))
    assert len(seen) >= 40


def test_a_file_is_looped_without_a_seam(tmp_path: Path) -> None:
    files.write(tmp_path / "clip.mp4", full_range=False, frames=10, b_frames=2)
    source = opened(tmp_path / "clip.mp4")
    packets = []
    numbers = []
    for packet in islice(source.packets(), 25):
        packets.append(packet)
        numbers += [counter.of_frame(picture) for _, picture in source.decode(packet)]
    source.close()
    arrivals = [packet.arrived for packet in packets]
    assert arrivals[-1] - arrivals[0] == pytest.approx(24 / 25, abs=0.2)
    steps = [((later or 0) - (earlier or 0)) % 10 for earlier, later in pairwise(numbers)]
    assert steps.count(1) >= len(steps) - 2  # what the decoder held back at the end of a turn is not shown
