"""FFmpeg streams from files: the decoder withholds corrupt frames, and files loop without gaps."""

from __future__ import annotations

from itertools import islice, pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.media.decode.corrupt_frames import Withheld
from nvision_hub.media.sources.camera_trust import CameraTrust
from nvision_hub.media.sources.ffmpeg_stream import StreamSource
from tests.support import clips, counter, files

if TYPE_CHECKING:
    from pathlib import Path

CLIP = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
START_CODE = b"\x00\x00\x01"
SLICE_TYPES = frozenset({1, 5})  # H.264, table 7-1: slices of non-keyframes (1) and keyframes (5)


def opened(path: Path) -> StreamSource:
    camera: Any = SimpleNamespace(
        address=CameraAddress.parse(f"file:{path}"), stall_timeout=10.0, transport="tcp", hwaccel="none"
    )
    return StreamSource(camera, CameraTrust())


def without_a_slice(unit: bytes) -> bytes:
    """Return a coded frame, which must have several slices, without its first slice."""
    nals = unit.split(START_CODE)[1:]
    first = next(place for place, nal in enumerate(nals) if nal[0] & 31 in SLICE_TYPES)
    assert sum(nal[0] & 31 in SLICE_TYPES for nal in nals) > 1
    return b"".join(START_CODE + nal for place, nal in enumerate(nals) if place != first)


@pytest.mark.parametrize("damaged", [25, 30])
def test_frames_that_build_on_a_corrupt_one_are_withheld(tmp_path: Path, damaged: int) -> None:
    units = clips.access_units(CLIP)
    units[damaged] = without_a_slice(units[damaged])
    clip = tmp_path / "corrupt.h264"
    clip.write_bytes(b"".join(units))
    source = opened(clip)
    seen: list[int | None] = []
    for packet in islice(source.packets(), len(units) - 1):
        seen += [None if isinstance(frame, Withheld) else counter.of_frame(frame) for _, frame in source.decode(packet)]
    source.close()
    good = [number for number in seen if number is not None]
    assert good == list(range(damaged))
    assert len(seen) >= 40


def test_a_file_is_looped_without_a_seam(tmp_path: Path) -> None:
    files.write(tmp_path / "clip.mp4", full_range=False, frames=10, b_frames=2)
    source = opened(tmp_path / "clip.mp4")
    packets = []
    numbers = []
    for packet in islice(source.packets(), 25):
        packets.append(packet)
        numbers += [counter.of_frame(frame) for _, frame in source.decode(packet)]
    source.close()
    arrivals = [packet.arrived for packet in packets]
    assert arrivals[-1] - arrivals[0] == pytest.approx(24 / 25, abs=0.2)
    steps = [((later or 0) - (earlier or 0)) % 10 for earlier, later in pairwise(numbers)]
    assert steps.count(1) >= len(steps) - 2  # at the end of a loop, frames in the decoder are lost
