"""Encode raw frames with GStreamer's OpenH264 encoder: `/usr/bin/python3 openh264_program.py WIDTH,HEIGHT,FPS,GOP`.

The program reads I420 frames from standard input. It writes a line of JSON with the size of each coded frame, then the
frames.
"""

from __future__ import annotations

import json
import sys

import gi

gi.require_version("Gst", "1.0")
from gi.repository import Gst  # noqa: E402 - the version must be chosen first


def main() -> None:
    width, height, fps, gop = map(int, sys.argv[1].split(","))
    Gst.init(None)
    pipeline = Gst.parse_launch(
        f"appsrc name=source format=time caps=video/x-raw,format=I420,width={width},height={height},framerate={fps}/1 "
        f"! openh264enc gop-size={gop} bitrate=1000000 slice-mode=n-slices num-slices=3 scene-change-detection=false "
        "! video/x-h264,stream-format=byte-stream,alignment=au ! appsink name=sink sync=false"
    )
    source, sink = pipeline.get_by_name("source"), pipeline.get_by_name("sink")
    pipeline.set_state(Gst.State.PLAYING)
    number = 0
    while data := sys.stdin.buffer.read(width * height * 3 // 2):
        frame = Gst.Buffer.new_wrapped(data)
        frame.pts, frame.duration = number * Gst.SECOND // fps, Gst.SECOND // fps
        source.emit("push-buffer", frame)
        number += 1
    source.emit("end-of-stream")
    units = []
    while (sample := sink.emit("pull-sample")) is not None:
        buffer = sample.get_buffer()
        units.append(buffer.extract_dup(0, buffer.get_size()))
    print(json.dumps([len(unit) for unit in units]), flush=True)
    sys.stdout.buffer.write(b"".join(units))


if __name__ == "__main__":
    main()
