"""Clips as files. A source reads hours of video within seconds, with the timestamps of a live camera."""

from __future__ import annotations

import contextlib
import time
from fractions import Fraction
from typing import TYPE_CHECKING, Literal

import av

from nvision_hub.config.models import Camera
from nvision_hub.media.sources.camera_trust import CameraTrust
from nvision_hub.media.sources.ffmpeg_stream import StreamSource
from tests.support import clips

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nvision_hub.media.sources.source import Packet


class Clip(StreamSource):
    """Source that reads a file at full speed but gives each packet the arrival time of a live camera."""

    began = 0.0

    def packets(self) -> Iterator[Packet]:
        self.began = time.monotonic() + 1000
        for packet in self._container.demux(self._video):
            if packet.size:
                media_s = float((packet.dts or 0) * packet.time_base)
                yield self._packet(packet, float((packet.pts or 0) * packet.time_base), self.began + media_s + 0.05)


def file_of(spec: clips.ClipSpec, folder: Path) -> Clip:
    """Return a source that plays the clip from a file."""
    form = {"h264": "h264", "h265": "hevc", "mjpeg": "mjpeg"}[spec.codec]
    (folder / "raw").write_bytes(b"".join(clips.access_units(spec)))
    with av.open(str(folder / "raw"), format=form) as raw, av.open(str(folder / "clip.mkv"), "w") as target:
        stream = target.add_stream_from_template(raw.streams.video[0])
        packets = (packet for packet in raw.demux(video=0) if packet.size)
        for number, packet in enumerate(packets):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, spec.fps), stream
            target.mux(packet)
    return opened(folder / "clip.mkv")


def reordered(
    spec: clips.ClipSpec, folder: Path, *, encoder: Literal["libx264", "libx265"] = "libx264", options: str = ""
) -> Clip:
    """Return a source that plays the clip re-encoded with B-frames. `options` are encoder options."""
    source = file_of(spec, folder)
    with contextlib.closing(source), av.open(str(folder / "b.mkv"), "w") as target:
        stream = target.add_stream(encoder, rate=spec.fps)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        gop = round(spec.fps * spec.gop_s)
        stream.codec_context.options = {
            "preset": "superfast",
            f"{encoder[3:]}-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=2:b-adapt=0{options}",
        }
        for number, packet in enumerate(source.packets()):
            for _, frame in source.decode(packet):
                frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, spec.fps), 0
                target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return opened(folder / "b.mkv")


def opened(file: Path, kind: type[Clip] = Clip) -> Clip:
    """Return a source that plays a file."""
    return kind(Camera.model_validate({"id": "street", "url": f"file:{file}"}), CameraTrust())
