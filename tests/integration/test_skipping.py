"""Pictures that nothing builds on and nobody is owed are not decoded; those that are owed are the very same."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.status import Meter
from tests.support import clips
from tests.support.clip_files import Clip, opened, reordered
from workers.camera.encoder import Encoder
from workers.camera.viewing import Viewing

if TYPE_CHECKING:
    from pathlib import Path

    from workers.camera.source import Packet

SPEC = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=10)


class Thorough(Clip):
    """Decodes everything that it is given."""

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:  # noqa: ARG002 - for that
        return super().decode(packet)


def play(source: Clip, fps: float) -> tuple[list[tuple[float, bytes]], float]:
    """What is shown of it, and how many pictures were decoded."""
    shown: list[tuple[float, bytes]] = []
    encoder, meter = Encoder(quality=80, max_width=None), Meter()

    def show(picture: Any, at: float, _behind: bool) -> None:  # noqa: FBT001 - as `Viewing` has it
        shown.append((round(at - source.began, 3), encoder.encode(picture).data))

    viewing = Viewing(source=source, fps=fps, meter=meter, show=show, wanted=lambda: True, sentry=None)
    for packet in source.packets():
        viewing.take(packet, fps)
    source.close()
    return shown, meter.value("frames_decoded_total")


@pytest.mark.parametrize("fps", [1.5, 2.0, 5.0, 7.0, 12.0, 25.0])
def test_the_same_pictures_for_less(fps: float, tmp_path: Path) -> None:
    source = reordered(SPEC, tmp_path)
    file = tmp_path / "b.mkv"
    saving, saved = play(source, fps)
    thorough, all_of_them = play(opened(file, Thorough), fps)
    assert saving == thorough
    assert saved <= all_of_them
    if fps <= 5:
        assert saved < 0.92 * all_of_them
