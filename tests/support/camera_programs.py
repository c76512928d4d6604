"""Programs that serve as cameras: Motion, uStreamer, VLC, nginx, rtsp-server-perl, and npm's rtsp-streaming-server.

Each program runs in its own folder with free ports. It ends with the test.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import tempfile
import threading
import time
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final

import av
import pytest

from tests.support import clips, needs, npm
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.support.certificates import ServerCertificate

_REPETITIONS: Final = 100
_PEERS: Final = Path(__file__).parents[1] / "peers"


class CameraPrograms:
    """The programs of one test. Every method returns when its program accepts connections."""

    def __init__(self, folder: Path, resources: contextlib.ExitStack) -> None:
        self._folder = folder
        self._resources = resources

    def motion(self, source_url: str) -> int:
        """Start Motion, which serves the MJPEG stream `source_url` to the user `viewer` with Digest.

        Return its port.
        """
        port, config = free_port(), self._folder / "motion.conf"
        settings = {
            "daemon": "off",
            "netcam_url": source_url,
            "width": "640",
            "height": "360",
            "framerate": "10",
            "stream_port": port,
            "stream_localhost": "on",
            "stream_auth_method": "2",
            "stream_authentication": "viewer:right",
            "stream_maxrate": "10",
            "webcontrol_port": "0",
            "picture_output": "off",
            "movie_output": "off",
            "target_dir": self._folder,
        }
        config.write_text("".join(f"{name} {value}\n" for name, value in settings.items()))
        self._run([needs.program("motion", "motion"), "-n", "-c", str(config)], port)
        return port

    def ustreamer(self) -> int:
        """Start uStreamer, which serves its NO SIGNAL frame to the user `viewer` with Basic. Return its port."""
        port = free_port()
        login = ("--user", "viewer", "--passwd", "right")
        program = needs.program("ustreamer", "ustreamer")
        self._run([program, "--device", str(self._folder / "none"), "--port", str(port), *login], port)
        return port

    def vlc(self, spec: clips.ClipSpec) -> int:
        """Start VLC, whose RTSP server sends the clip at `/cam` over UDP only. Return its port."""
        port = free_port()
        file = _recording(spec, self._folder)
        program = needs.program("cvlc", "vlc-bin vlc-plugin-base")
        stream = f"#rtp{{sdp=rtsp://127.0.0.1:{port}/cam}}"
        command = [
            program,
            "-I",
            "dummy",
            "--no-dbus",
            "--no-audio",
            "--loop",
            str(file),
            "--sout",
            stream,
            "--sout-keep",
        ]
        if os.geteuid() == 0:  # VLC refuses to run as root
            command = [
                needs.program("setpriv", "util-linux"),
                "--reuid=65534",
                "--regid=65534",
                "--clear-groups",
                *command,
            ]
        self._run(command, port, HOME="/nonexistent")
        return port

    def nginx(self, jpeg: bytes, certificate: ServerCertificate) -> int:
        """Start nginx, which serves the JPEG at `/still.jpg` over TLS. Return its port."""
        port, config = free_port(), self._folder / "nginx.conf"
        (self._folder / "still.jpg").write_bytes(jpeg)
        config.write_text(
            f"{'user root;' if os.geteuid() == 0 else ''} daemon off; error_log stderr; events {{}}\n"
            f"pid {self._folder}/nginx.pid;\n"
            f"http {{ access_log off; types {{ image/jpeg jpg; }} server {{ listen 127.0.0.1:{port} ssl;"
            f" ssl_certificate {certificate.file}; ssl_certificate_key {certificate.file}; root {self._folder}; }} }}\n"
        )
        self._run([needs.program("nginx", "nginx"), "-c", str(config), "-p", str(self._folder)], port)
        return port

    def rtsp_streaming_server(self, spec: clips.ClipSpec) -> int:
        """Start npm's rtsp-streaming-server, which sends the clip at `/cam` to the user `viewer` over UDP only."""
        npm.install(_PEERS)
        publish_port, port = free_port(), free_port()
        script = _PEERS / "rtsp_server.cjs"
        rtp_port = 20_000 + 200 * (os.getpid() % 50)
        self._run([needs.program("node", "nodejs"), str(script), str(publish_port), str(port), str(rtp_port)], port)
        publisher = Publisher(f"rtsp://127.0.0.1:{publish_port}/cam", spec)
        self._resources.callback(publisher.close)
        return port

    def rtsp_server_perl(self, spec: clips.ClipSpec) -> int:
        """Start Debian's rtsp-server-perl, which sends the clip at `/cam` over UDP only. Return its port."""
        publish_port, port = free_port(), free_port()
        settings = {
            "clientport": port,
            "serverport": publish_port,
            "client_listen_address": "127.0.0.1",
            "source_listen_address": "127.0.0.1",
            "rtp_start_port": 10_000 + 200 * (os.getpid() % 50),
        }
        program = needs.program("rtsp-server-perl", "rtsp-server-perl")
        self._run([program, *(f"--{name}={value}" for name, value in settings.items())], port)
        publisher = Publisher(f"rtsp://127.0.0.1:{publish_port}/cam", spec)
        self._resources.callback(publisher.close)
        return port

    def _run(self, command: Sequence[str], port: int, **environment: str) -> None:
        log = self._resources.enter_context((self._folder / "program.log").open("w+b"))
        program = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd=self._folder,
            env={**os.environ, **environment},
        )
        self._resources.callback(_end, program)
        end = time.monotonic() + PATIENCE_S
        while True:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
            assert program.poll() is None, Path(log.name).read_text(errors="replace")
            assert time.monotonic() < end, Path(log.name).read_text(errors="replace")
            time.sleep(0.05)


class Publisher:
    """Thread that publishes a clip to an RTSP server with ANNOUNCE at the live rate, until `close` is called."""

    def __init__(self, url: str, spec: clips.ClipSpec) -> None:
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(url, spec), daemon=True)
        self._thread.start()

    def _run(self, url: str, spec: clips.ClipSpec) -> None:
        units, began = clips.access_units(spec), time.monotonic()
        with av.open(url, "w", format="rtsp") as target:
            stream = target.add_stream("libx264" if spec.codec == "h264" else "libx265", rate=spec.fps)
            stream.width, stream.height = spec.width, spec.height
            number = 0
            while not self._stopped.wait(max(0.0, began + number / spec.fps - time.monotonic())):
                packet = av.Packet(units[number % len(units)])
                packet.pts = packet.dts = number
                packet.time_base, packet.stream = Fraction(1, spec.fps), stream
                packet.is_keyframe = number % len(units) == 0
                target.mux(packet)
                number += 1

    def close(self) -> None:
        self._stopped.set()
        self._thread.join(PATIENCE_S)


def _recording(spec: clips.ClipSpec, folder: Path) -> Path:
    """Write an H.264 clip many times in a row to an MPEG-TS file, because VLC ends its streams at the end of a file."""
    (folder / "raw").write_bytes(b"".join(clips.access_units(spec)) * _REPETITIONS)
    file = folder / "clip.ts"
    with av.open(str(folder / "raw"), format="h264") as raw, av.open(str(file), "w") as target:
        stream = target.add_stream_from_template(raw.streams.video[0])
        for number, packet in enumerate(packet for packet in raw.demux(video=0) if packet.size):
            packet.pts = packet.dts = number
            packet.time_base, packet.stream = Fraction(1, spec.fps), stream
            target.mux(packet)
    return file


def free_port() -> int:
    """Return a TCP port that no program uses at present."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


def _end(program: subprocess.Popen[bytes]) -> None:
    program.terminate()
    try:
        program.wait(10)
    except subprocess.TimeoutExpired:
        program.kill()
        program.wait()


@pytest.fixture
def camera_programs() -> Iterator[CameraPrograms]:
    with contextlib.ExitStack() as resources:
        # Other users can read this folder, unlike pytest's folders. VLC runs as another user.
        folder = Path(resources.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o755)
        yield CameraPrograms(folder, resources)
