"""Cases 28 and 50: cameras with fuzzed video, cameras that declare absurd frame sizes, and URLs that name files."""

from __future__ import annotations

import contextlib
import http.server
import os
import random
import re
import threading
from typing import TYPE_CHECKING, Final

import psutil
import pytest

from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError
from tests.support import clips
from tests.support.hub import write
from tests.support.patience import is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.line import Alter, Line
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
H265: Final = clips.ClipSpec(codec="h265", width=640, height=360, kbit_s=600, gop_s=1.0, seconds=2)
SPS: Final = 7  # H.264, table 7-1
CAP_BYTES: Final = 2**30 + 2**28  # 1 GiB more than the memory of a worker at its start
WATCHED_S: Final = 12.0


def fuzzed(share: float) -> Alter:
    """Replace the payload of `share` of the RTP packets with noise, completely or from a random byte on."""
    random_ = random.Random(1)  # noqa: S311 - the same faults at every run

    def alter(packet: bytearray, rtcp: bool) -> bytearray:  # noqa: FBT001
        if not rtcp and random_.random() < share:
            begin = random_.randrange(12, len(packet))
            packet[begin:] = random_.randbytes(len(packet) - begin)
        return packet

    return alter


class Bits:
    """Writer of fixed-length and Exp-Golomb codes (H.264, 9.1)."""

    def __init__(self) -> None:
        self._text = ""

    def fixed(self, value: int, length: int) -> Bits:
        self._text += f"{value:0{length}b}"
        return self

    def golomb(self, *values: int) -> Bits:
        for value in values:
            code = f"{value + 1:b}"
            self._text += "0" * (len(code) - 1) + code
        return self

    def payload(self) -> bytes:
        """Return the payload with a stop bit and emulation prevention bytes (H.264, 7.4.1)."""
        text = self._text + "1"
        text += "0" * (-len(text) % 8)
        return re.sub(rb"\x00\x00(?=[\x00-\x03])", b"\x00\x00\x03", int(text, 2).to_bytes(len(text) // 8))


def sps_of(width: int, height: int) -> bytes:
    """Return a sequence parameter set (H.264, 7.3.2.1.1; Baseline, level 6.2) that declares this frame size."""
    bits = Bits().fixed(66, 8).fixed(0, 8).fixed(62, 8)
    bits.golomb(0, 0, 2, 16).fixed(0, 1)  # id, frame number, picture order count, reference frames, gaps
    bits.golomb(-(-width // 16) - 1, -(-height // 16) - 1)
    bits.fixed(1, 1).fixed(1, 1).fixed(0, 1).fixed(0, 1)  # frames only, direct 8x8, no cropping, no VUI
    return bytes([0x67]) + bits.payload()


def claiming(width: int, height: int) -> Alter:
    """Make every parameter set declare this frame size."""

    def alter(packet: bytearray, rtcp: bool) -> bytearray:  # noqa: FBT001
        if not rtcp and packet[12] & 31 == SPS:
            packet[12:] = sps_of(width, height)
        return packet

    return alter


def jpeg_of(width: int, height: int) -> bytes:
    """Return a small JPEG whose header (T.81, B.2.2) declares this frame size."""
    jpeg = clips.access_units(clips.ClipSpec(codec="mjpeg", width=640, height=360, seconds=1))[0]
    frame = jpeg.index(b"\xff\xc0")
    return jpeg[: frame + 5] + height.to_bytes(2) + width.to_bytes(2) + jpeg[frame + 9 :]


@pytest.mark.long
def test_hostile_media_affect_only_their_worker(
    gst_camera: Callable[..., GstCamera],
    http_camera: Callable[..., HttpCamera],
    line: Callable[..., Line],
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
) -> None:
    h264, h265 = gst_camera(CAMERA), gst_camera(H265)
    huge = http_camera()
    huge.frames = [jpeg_of(30_000, 30_000)]
    urls = {
        "fuzzed-h264": line(h264.port, fuzzed(0.3)).url(),
        "fuzzed-h265": line(h265.port, fuzzed(0.3)).url(),
        "huge-h264": line(h264.port, claiming(30_000, 30_000)).url(),
        "large-h264": line(h264.port, claiming(16_000, 16_000)).url(),
        "allowed-h264": line(h264.port, claiming(8_000, 8_000)).url(),
        "huge-mjpeg": huge.url(),
        "huge-snapshot": "snapshot+" + huge.url("/snapshot.jpg"),
        "healthy": h264.url(),
    }
    service = recorder()
    cameras = [{"id": name, "url": url, "fps": 5, "max_width": 320, "stall_timeout": 3} for name, url in urls.items()]
    hub = start_hub(cameras, service)
    hub.wait_for_state("healthy", "streaming")
    hub.wait_for_results("healthy", 1)
    begun, before = hub.camera("healthy"), len(service.received("healthy"))
    most: dict[str, int] = {}
    never = threading.Event()
    for _ in range(round(WATCHED_S / 0.1)):
        never.wait(0.1)
        for name in urls:
            with contextlib.suppress(psutil.Error):
                if (pid := hub.camera(name).pid) is not None:
                    used = psutil.Process(pid).memory_info()
                    most[name] = max(most.get(name, 0), used.rss - used.shared)
    rate = (len(service.received("healthy")) - before) / WATCHED_S
    healthy = hub.camera("healthy")
    assert rate <= 5 * 1.1
    assert is_on_time(1 / rate, 1 / (0.9 * 5))
    supplied, sent, dropped = (
        healthy.total(metric) - begun.total(metric)
        for metric in ("packets_received_total", "frames_sent_total", "frames_dropped_total")
    )
    assert sent + dropped >= 0.95 * supplied / 25 * 5 - 2, "each due frame is sent, or late on a busy machine"
    reasons = {name for name in healthy.metrics if name.startswith("frames_dropped_total")}
    assert reasons <= {f"frames_dropped_total{{reason={reason}}}" for reason in ("late", "overwritten", "torn")}
    assert healthy.restarts == 0
    for name in urls:
        assert most[name] < CAP_BYTES, (name, most)
    assert not service.received("huge-mjpeg") + service.received("huge-snapshot")
    hub.wait_until(lambda: "30000 x 30000 pixels" in (hub.camera("huge-mjpeg").error or ""))
    assert hub.camera("allowed-h264").restarts == 0  # each stream frees its memory when it closes
    restarts = sum(hub.camera(name).restarts for name in urls)
    assert hub.stop() == 0
    measured(
        28,
        "hostile media",
        injected="noise in 30 % of the packets (H.264, H.265); H.264 that declares 30k, 16k and 8k squared; "
        "MJPEG and snapshot of 30k squared",
        target="contained to one worker; memory within its cap",
        measured=f"{restarts} restarts; at most {max(most.values()) / 2**20:.0f} MiB private "
        f"({max(most, key=lambda name: most[name])}); a healthy camera at {rate / 5:.0%} of its rate",
    )


@pytest.mark.long
@pytest.mark.parametrize("kind", ["", "snapshot+"])
def test_a_frame_beyond_the_size_of_any_camera_is_reported(
    http_camera: Callable[..., HttpCamera], watch: Callable[..., Watching], kind: str
) -> None:
    camera = http_camera()
    camera.frames = [jpeg_of(30_000, 30_000)]
    watching = watch(kind + camera.url("/snapshot.jpg" if kind else "/stream.mjpg"), stall_timeout=0.5)
    _, sentence = watching.wait_for_state("unsupported")
    assert "30000 x 30000 pixels, which are too large" in sentence
    assert not watching.frames
    assert watching.dropped("broken") > 0


def test_an_endless_snapshot_is_aborted(watch: Callable[..., Watching]) -> None:
    class Endless(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(bytes(2**20))

        def log_message(self, *_: object) -> None:
            """Print nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Endless) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        watching = watch(f"snapshot+http://127.0.0.1:{server.server_address[1]}/")
        _, sentence = watching.wait_for_state("unsupported")
        assert "more than 32 MiB for one frame" in sentence
        server.shutdown()
        thread.join()


class Bait:
    """Named pipe that no process may open. The test detects an open pipe even if no data is read."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "bait"
        os.mkfifo(self.path)

    def is_open(self) -> bool:
        """Return whether a process has the pipe open for reading."""
        try:
            os.close(os.open(self.path, os.O_WRONLY | os.O_NONBLOCK))
        except OSError:
            return False
        return True


@pytest.fixture
def bait(tmp_path: Path) -> Bait:
    return Bait(tmp_path)


def assert_not_opened(bait: Bait, watching: Watching, condition: Callable[[], bool]) -> None:
    """Check the pipe until the condition holds. A process that opens the pipe blocks, so the check detects it."""
    for _ in range(200):
        assert not bait.is_open()
        watching.watch_for(0.05)
        if condition():
            break
    assert condition()
    assert not bait.is_open()


HOSTILE: Final = [
    "file:/etc/passwd",
    "file:../../etc/passwd",
    "concat:BAIT|BAIT",
    "subfile,,start,0,end,9,,:BAIT",
    "pipe:0",
    "data:text/plain,x",
    "ftp://127.0.0.1/x",
    "tcp://127.0.0.1:1",
    "crypto+file:BAIT",
    "rtsp://127.0.0.1:1/cam\nfile:BAIT",
    "http+file://BAIT",
    "async:cache:file:BAIT",
]


def test_hostile_camera_urls_are_rejected(tmp_path: Path, bait: Bait) -> None:
    for url in HOSTILE:
        write(tmp_path, [{"id": "lobby", "url": url.replace("BAIT", str(bait.path))}], None)
        with pytest.raises(ConfigError):
            load(tmp_path / "cameras.yaml")
        assert not bait.is_open()
    measured(
        50,
        "hostile camera URL",
        injected=f"{len(HOSTILE)} addresses: files outside the allowed folder, concat:, subfile:, pipe:, "
        "nested protocols, a line break",
        target="rejected; nothing opened",
        measured="all rejected when cameras.yaml is read",
    )


def playlists(bait: Path) -> dict[str, bytes]:
    """Return a playlist in each of several formats that FFmpeg can open. Each names `bait` as the file to open."""
    return {
        "HLS": f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\nfile://{bait}\n#EXT-X-ENDLIST\n".encode(),
        "ffconcat": f"ffconcat version 1.0\nfile '{bait}'\n".encode(),
        "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nt=0 0\na=control:file://{bait}\nm=video 0 RTP/AVP 96\n".encode(),
        "DASH": (
            '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static"><Period><AdaptationSet>'
            f'<Representation id="1"><BaseURL>file://{bait}</BaseURL></Representation></AdaptationSet></Period></MPD>'
        ).encode(),
    }


@pytest.fixture
def serving() -> Iterator[Callable[[bytes, str], str]]:
    """Serve one body for every request: `serving(body, content_type)` returns its URL."""
    servers: list[http.server.ThreadingHTTPServer] = []

    def serve(body: bytes, content_type: str) -> str:
        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                self.send_response(200)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Print nothing."""

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.daemon_threads = True
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/live.m3u8"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.mark.slow
@pytest.mark.parametrize("form", ["HLS", "ffconcat", "SDP", "DASH"])
@pytest.mark.parametrize("way", ["http", "snapshot", "file"])
def test_no_playlist_opens_a_file(
    bait: Bait, serving: Callable[[bytes, str], str], watch: Callable[..., Watching], form: str, way: str
) -> None:
    body = playlists(bait.path)[form]
    if way == "file":
        clip = bait.path.with_name("clip.mp4")
        clip.write_bytes(body)
        url = f"file:{clip}"
    else:
        url = serving(body, "application/vnd.apple.mpegurl")
        url = f"snapshot+{url}" if way == "snapshot" else url
    watching = watch(url)
    assert_not_opened(bait, watching, lambda: bool(watching.states))
    assert watching.states[0][1] in {"unsupported", "unreachable"}
    assert not watching.frames
    measured(
        50,
        f"{form} playlist that names a file",
        injected=f"{'camera over ' if way != 'file' else 'camera of kind '}{way}; a named pipe as bait",
        target="rejected; nothing opened",
        measured=f"`{watching.states[0][1]}`; the bait was never opened",
    )
