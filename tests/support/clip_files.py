"""Clips as files that are read as fast as they are asked for, in a camera's own time: hours of video in seconds."""

from __future__ import annotations

import contextlib
import time
from fractions import Fraction
from typing import TYPE_CHECKING

import av

from nvision_hub.config import Camera
from tests.support import clips
from workers.camera.source.source import Packet
from workers.camera.source.stream import StreamSource

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class Clip(StreamSource):
    """A file that is read as fast as it is asked for, and says that each packet came when it was due."""

    began = 0.0

    def packets(self) -> Iterator[Packet]:
        self.began = time.monotonic() + 1000
        for packet in self._container.demux(self._video):
            if packet.size:
                media_s = float((packet.dts or 0) * packet.time_base)
                yield Packet(
                    payload=packet,
                    arrived=self.began + media_s + 0.05,
                    media_s=float((packet.pts or 0) * packet.time_base),
                    keyframe=packet.is_keyframe,
                    size_bytes=packet.size,
                )


def file_of(spec: clips.ClipSpec, folder: Path) -> Clip:
    """The clip as a file camera."""
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


def reordered(spec: clips.ClipSpec, folder: Path) -> Clip:
    """The clip encoded once more, with pictures that build on later ones."""
    source = file_of(spec, folder)
    with contextlib.closing(source), av.open(str(folder / "b.mkv"), "w") as target:
        stream = target.add_stream("libx264", rate=spec.fps)
        stream.width, stream.height, stream.pix_fmt = spec.width, spec.height, "yuv420p"
        gop = round(spec.fps * spec.gop_s)
        stream.codec_context.options = {
            "preset": "superfast",
            "x264-params": f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=2:b-adapt=0",
        }
        for number, packet in enumerate(source.packets()):
            for _, frame in source.decode(packet):
                frame.pts, frame.time_base, frame.pict_type = number, Fraction(1, spec.fps), 0
                target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return opened(folder / "b.mkv")


def opened(file: Path, kind: type[Clip] = Clip) -> Clip:
    """A file as a camera."""
    return kind(Camera.model_validate({"id": "street", "url": f"file:{file}"}))
