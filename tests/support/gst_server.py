"""RTSP camera: GStreamer's server, fed frame by frame at the live rate. Needs the system's Python.

Usage: `/usr/bin/python3 gst_server.py CONFIG`, where CONFIG is a JSON file:

    {"port": 0, "mounts": {"/cam": "<clip>.json"}, "push_log": "<file>",
     "address": "127.0.0.1", "user": null, "password": null, "auth": "digest", "accepts": null, "second_track": null}

When the program accepts connections, it prints one line of JSON, `{"port": N}`. It exits on SIGTERM. Each mount is one
live camera, and all its clients see the same frame. The server pushes frame `serial` (0, 1, ... since the start) when
the frame is due on the monotonic clock. This frame has the number `serial % length` in its clip. The push log contains
one line of JSON per frame: `{"mount", "serial", "number", "at"}`, where `at` is CLOCK_MONOTONIC just before the push.
The line `{"mount": "/cam", "clip": "<clip>.json"}` on standard input switches this camera, within the session, to
another clip with the same codec and rate.

`accepts` limits the transports: "UDP", "TCP", "UDP_MCAST", or "SRTP" for encrypted media over any of them. The camera
refuses other transports with status 461. `second_track` adds a track to each mount: "audio" or "metadata".

The program does not import pytest. It needs only Debian's python3-gi and gir1.2-gst-rtsp-server-1.0.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from pathlib import Path
from typing import IO, Any

EXIT_UNAVAILABLE = 69  # a requirement is missing; the last line on stderr names its package

try:
    import gi

    gi.require_version("Gst", "1.0")
    gi.require_version("GstRtsp", "1.0")
    gi.require_version("GstRtspServer", "1.0")
    from gi.repository import GLib, Gst, GstRtsp, GstRtspServer
except (ImportError, ValueError):
    print("`apt-get install python3-gi gir1.2-gst-rtsp-server-1.0` brings GStreamer's RTSP server", file=sys.stderr)
    sys.exit(EXIT_UNAVAILABLE)

# config-interval is 0, because every keyframe already contains the parameter sets. The source buffers half a second and
# then drops the oldest frames, like a camera whose client has not sent PLAY.
_SOURCE = "appsrc is-live=true format=time max-time=500000000 max-buffers=0 max-bytes=0 leaky-type=downstream"
_PAYLOADERS = {
    "h264": "rtph264pay name=pay0 pt=96 config-interval=0",
    "h265": "rtph265pay name=pay0 pt=96 config-interval=0",
    "mjpeg": "rtpjpegpay name=pay0 pt=26",
}
_CAPS = {
    "h264": "video/x-h264,stream-format=byte-stream,alignment=au",
    "h265": "video/x-h265,stream-format=byte-stream,alignment=au",
    "mjpeg": "image/jpeg",
}
# Silence. The source of a track fails if no client sets up the track.
_TRACK_CAPS = "audio/x-mulaw,rate=8000,channels=1"
_TRACK_PAYLOADERS = {"audio": "rtppcmupay name=pay1 pt=0", "metadata": "rtpgstpay name=pay1 pt=107"}
_TRACK_BYTES_PER_S = 8000


class Clip:
    """A clip's access units in memory, with a mark for keyframes."""

    def __init__(self, index: str) -> None:
        content = json.loads(Path(index).read_text())
        data = (Path(index).parent / content["data"]).read_bytes()
        self.codec: str = content["codec"]
        self.fps: int = content["fps"]
        self.caps = f"{_CAPS[self.codec]},width={content['width']},height={content['height']},framerate={self.fps}/1"
        self.keyframes = frozenset(content["keyframes"])
        # The frames are in decoding order. Frame n is shown `shown_later[n]` frames later, and shows that number.
        self.shown_later: list[int] = content.get("shown_later") or [0] * len(content["sizes"])
        self.numbers: list[int] = content.get("numbers") or list(range(len(content["sizes"])))
        self.units: list[bytes] = []
        start = 0
        for size in content["sizes"]:
            self.units.append(data[start : start + size])
            start += size


class Viewer:
    """One pipeline for the frames of a mount, shared by all clients of the mount."""

    def __init__(self, source: Any, track: Any | None) -> None:
        self.source = source
        self._track = track  # the source of the second track
        self.first: tuple[int, int] | None = None  # the first frame's serial and running time in ns

    def push(self, data: bytes, serial: int, fps: int, later: int) -> None:
        if self.first is None:
            clock = self.source.get_clock()
            if clock is None:  # the pipeline is not running yet
                return
            self.first = (serial, max(0, clock.get_time() - self.source.get_base_time()))
        serial_before, began = self.first
        frame = Gst.Buffer.new_wrapped(data)
        # Timestamps are evenly spaced like those of an encoder, and do not depend on when this thread wakes up.
        frame.dts = began + (serial - serial_before) * Gst.SECOND // fps
        frame.pts = began + (serial - serial_before + later) * Gst.SECOND // fps
        frame.duration = Gst.SECOND // fps
        self.source.emit("push-buffer", frame)
        if self._track is not None:
            sound = Gst.Buffer.new_wrapped(b"\xff" * (_TRACK_BYTES_PER_S // fps))
            sound.pts, sound.duration = frame.pts, frame.duration
            self._track.emit("push-buffer", sound)


class Camera:
    """One mount with its live position and its viewers."""

    def __init__(self, mount: str, clip: Clip, push_log: IO[str] | None) -> None:
        self._mount = mount
        self._clip = clip
        self._next_clip: Clip | None = None
        self._log = push_log
        self._lock = threading.Lock()
        self._viewers: list[Viewer] = []

    def factory(self, second_track: str | None) -> Any:
        """Return the factory that creates a pipeline for the first viewer and shares it with the others."""
        factory = GstRtspServer.RTSPMediaFactory()
        launch = f"{_SOURCE} name=source caps={self._clip.caps} ! {_PAYLOADERS[self._clip.codec]}"
        if second_track is not None:
            launch += f" {_SOURCE} name=track caps={_TRACK_CAPS} ! {_TRACK_PAYLOADERS[second_track]}"
        factory.set_launch(f"( {launch} )")
        factory.set_shared(True)
        factory.connect("media-configure", self._configure)
        return factory

    def switch_clip(self, clip: Clip) -> None:
        """Switch to `clip`, beginning with its first frame."""
        self._next_clip = clip

    def live(self) -> None:
        """Push frames forever. Runs in a separate thread, because the main loop answers requests."""
        began, offset = time.monotonic(), 0
        serial = 0
        while True:
            due = began + serial / self._clip.fps
            time.sleep(max(0.0, due - time.monotonic()))
            if self._next_clip is not None:
                self._clip, self._next_clip, offset = self._next_clip, None, serial
                with self._lock:
                    for viewer in self._viewers:
                        viewer.source.set_property("caps", Gst.Caps.from_string(self._clip.caps))
            number = (serial - offset) % len(self._clip.units)
            self._push(serial, number)
            serial += 1

    def _push(self, serial: int, number: int) -> None:
        at = time.monotonic()
        with self._lock:
            for viewer in self._viewers:
                if viewer.first is not None or number in self._clip.keyframes:
                    viewer.push(self._clip.units[number], serial, self._clip.fps, self._clip.shown_later[number])
        if self._log is not None:
            line = {"mount": self._mount, "serial": serial, "number": self._clip.numbers[number], "at": at}
            self._log.write(json.dumps(line) + "\n")

    def _configure(self, _factory: Any, media: Any) -> None:
        sources = media.get_element()
        viewer = Viewer(sources.get_by_name("source"), sources.get_by_name("track"))
        with self._lock:
            viewer.source.set_property("caps", Gst.Caps.from_string(self._clip.caps))
            self._viewers.append(viewer)
        media.connect("unprepared", self._gone, viewer)

    def _gone(self, _media: Any, viewer: Viewer) -> None:
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)


def _guard(server: Any, factories: list[Any], user: str, password: str, method: str) -> None:
    """Require a user name and password. `method` is the authentication method, `basic` or `digest`."""
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth = GstRtspServer.RTSPAuth()
    auth.set_supported_methods(GstRtsp.RTSPAuthMethod.BASIC if method == "basic" else GstRtsp.RTSPAuthMethod.DIGEST)
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    auth.add_digest(user, password, token)
    server.set_auth(auth)
    for factory in factories:
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_role("viewer")
        permissions.add_permission_for_role("viewer", "media.factory.access", True)  # noqa: FBT003 - C's signature
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)  # noqa: FBT003
        factory.set_permissions(permissions)


def _limit(factory: Any, accepts: str) -> None:
    """Let a mount accept only these transports."""
    if accepts == "SRTP":
        factory.set_profiles(GstRtsp.RTSPProfile.SAVP)
    else:
        if accepts == "UDP_MCAST":
            pool = GstRtspServer.RTSPAddressPool()
            pool.add_range("239.213.0.1", "239.213.0.10", 5000, 5010, 1)
            factory.set_address_pool(pool)
        factory.set_protocols(getattr(GstRtsp.RTSPLowerTrans, accepts))


def _commands(cameras: dict[str, Camera]) -> None:
    for line in sys.stdin:
        command = json.loads(line)
        cameras[command["mount"]].switch_clip(Clip(command["clip"]))


def main() -> None:
    config = json.loads(Path(sys.argv[1]).read_text())
    Gst.init(None)
    for element, package in (
        ("appsrc", "base"),
        ("rtph264pay", "good"),
        ("rtph265pay", "good"),
        ("rtpjpegpay", "good"),
    ):
        if Gst.ElementFactory.find(element) is None:
            print(f"`apt-get install gstreamer1.0-plugins-{package}` brings GStreamer's {element}", file=sys.stderr)
            sys.exit(EXIT_UNAVAILABLE)
    push_log = open(config["push_log"], "w", buffering=1) if config.get("push_log") else None  # noqa: SIM115, PTH123
    cameras = {mount: Camera(mount, Clip(index), push_log) for mount, index in config["mounts"].items()}
    server = GstRtspServer.RTSPServer()
    server.set_address(config.get("address", "127.0.0.1"))
    server.set_service(str(config.get("port", 0)))
    factories = {mount: camera.factory(config.get("second_track")) for mount, camera in cameras.items()}
    if config.get("user") is not None:
        _guard(server, list(factories.values()), config["user"], config["password"], config["auth"])
    for mount, factory in factories.items():
        if config.get("accepts") is not None:
            _limit(factory, config["accepts"])
        server.get_mount_points().add_factory(mount, factory)
    if not server.attach(None):
        sys.exit(f"port {config['port']} is taken")
    for camera in cameras.values():
        threading.Thread(target=camera.live, daemon=True).start()
    threading.Thread(target=_commands, args=(cameras,), daemon=True).start()
    loop = GLib.MainLoop()
    GLib.unix_signal_add(GLib.PRIORITY_DEFAULT, signal.SIGTERM, loop.quit)
    print(json.dumps({"port": server.get_bound_port()}), flush=True)
    loop.run()


if __name__ == "__main__":
    main()
