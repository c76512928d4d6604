"""The decoder skips frames that are neither references nor due, and the sent frames stay identical."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.encode.jpeg_encoder import JpegEncoder
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.support import clips
from tests.support.clip_files import Clip, opened, reordered

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.media.sources import Packet

SPEC = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=10)


class DecodesAll(Clip):
    """Clip whose decoder decodes every packet."""

    def decode(
        self,
        packet: Packet,
        *,
        is_due: bool = True,  # noqa: ARG002 - decodes in either case
        is_alone: bool = False,
    ) -> list[tuple[float | None, Any]]:
        return super().decode(packet, is_alone=is_alone)


def play(source: Clip, fps: float) -> tuple[list[tuple[float, bytes]], float]:
    """Play the clip. Return the sent frames with their capture times, and the number of decoded frames."""
    shown: list[tuple[float, bytes]] = []
    encoder, meter = JpegEncoder(quality=80, max_width=None), Meter()

    def show(frame: Any, at: float, _behind: bool) -> None:  # noqa: FBT001 - as `DecodePipeline` calls it
        shown.append((round(at - source.began, 3), encoder.encode(frame).data))

    pipeline = DecodePipeline(source=source, fps=fps, meter=meter, on_frame=show)
    for packet in source.packets():
        pipeline.push(packet, fps)
    source.close()
    return shown, meter.value(catalogue.FRAMES_DECODED_TOTAL)


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create a clip with B-frames."""
    folder = tmp_path_factory.mktemp("clip")
    reordered(SPEC, folder).close()
    return folder / "b.mkv"


@pytest.mark.parametrize("fps", [1.5, 2.0, 5.0, 7.0, 12.0, 25.0])
def test_skipped_frames_do_not_change_the_sent_ones(fps: float, clip: Path) -> None:
    saving, saved = play(opened(clip), fps)
    thorough, all_of_them = play(opened(clip, DecodesAll), fps)
    assert saving == thorough
    assert saved <= all_of_them
    if fps <= 5:
        assert saved < 0.92 * all_of_them
