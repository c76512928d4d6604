"""Cameras with every stream structure that encoders use, on a virtual clock, and a check of the sent frames."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass, field
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Final

import av

from nvision_hub.config.models import Camera
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.sources.camera_trust import CameraTrust
from nvision_hub.media.sources.ffmpeg_stream import StreamSource
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.support import counter, encodings

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nvision_hub.media.sources import Packet
    from tests.support.encodings import Encoding, Unit

# PSNR of the worst part of a frame; undamaged frames are above this value, and damaged frames below it.
MIN_PSNR_DB: Final = 24.0
_BEGAN: Final = 1000.0
_TRAVEL_S: Final = 0.05


class VirtualCamera(StreamSource):
    """Source that reads a file at full speed. Its clock shows the arrival time of the last packet."""

    now = _BEGAN

    def packets(self) -> Iterator[Packet]:
        for packet in self._container.demux(self._video):
            if packet.size:
                self.now = _BEGAN + float((packet.dts or 0) * packet.time_base) + _TRAVEL_S
                yield self._packet(packet, float((packet.pts or 0) * packet.time_base), self.now)


@dataclass(kw_only=True)
class Seen:
    """The frames that the hub sent for a camera's video."""

    sent: list[tuple[int, float]] = field(default_factory=list)  # number and capture time in seconds of each frame
    torn: list[int] = field(default_factory=list)  # positions of the sent frames that differ from their originals
    worst_db: float = 99.0
    decoded: int = 0
    dropped: dict[str, int] = field(default_factory=dict)  # by reason


def write_file(encoding: Encoding, units: Sequence[Unit], path: Path) -> Path:
    """Write the units to a file, and return its path. FFmpeg parses the file like packets of an RTSP camera."""
    raw = path.with_suffix(".raw")
    raw.write_bytes(units[0].data)
    form = {"h264": "h264", "h265": "hevc"}[encoding.codec]
    with av.open(str(raw), format=form) as template, av.open(str(path), "w", format="mpegts") as target:
        stream = target.add_stream_from_template(template.streams.video[0])
        for unit in units:
            packet: av.Packet[Any] = av.Packet(unit.data)
            packet.pts, packet.dts, packet.stream = unit.pts, unit.dts, stream
            packet.time_base = Fraction(1, encodings.FPS)
            target.mux(packet)
    return path


def play(path: Path, fps: float) -> Seen:
    """Stream a file at a frame rate."""
    seen, meter = Seen(), Meter()
    source = VirtualCamera(Camera.model_validate({"id": "cam", "url": f"file:{path}"}), CameraTrust())
    with contextlib.closing(source):

        def show(frame: Any, at: float, _behind: bool) -> None:  # noqa: FBT001 - as `DecodePipeline` calls it
            number = counter.of_frame(frame)
            decibels = 0.0 if number is None else encodings.quality(frame, number)
            seen.worst_db = min(seen.worst_db, decibels)
            if decibels < MIN_PSNR_DB:
                seen.torn.append(len(seen.sent))
            seen.sent.append((-1 if number is None else number, at))

        pipeline = DecodePipeline(source=source, fps=fps, meter=meter, on_frame=show, now=lambda: source.now)
        for packet in source.packets():
            pipeline.push(packet, fps)
    seen.decoded = round(meter.value(catalogue.FRAMES_DECODED_TOTAL))
    dropped = meter.snapshot().by_label(catalogue.FRAMES_DROPPED_TOTAL, "reason")
    seen.dropped = {reason: round(count) for reason, count in dropped.items()}
    return seen
