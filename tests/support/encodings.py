"""Short videos with every stream structure that camera encoders use, and the quality of each received frame.

Frame n shows the number n over a moving texture. Any part that is missing, old or gray therefore differs from the
original.
"""

from __future__ import annotations

import json
import subprocess
from dataclasses import asdict, dataclass
from fractions import Fraction
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, cast

import av
import numpy as np
from av.video.codeccontext import VideoCodecContext

from tests.support import clips, needs
from tests.support.bitstream import without_reordering_limits
from workers.demo import counter

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

VERSION: Final = 4  # increment when the drawing or the encoding changes
WIDTH: Final = 320
HEIGHT: Final = 192
FPS: Final = 25
SECONDS: Final = 40
_TILE: Final = 32  # pixels; damage smaller than this does not matter
_SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
_OPENH264: Final = Path(__file__).with_name("openh264_program.py")

Encoder = Literal["libx264", "libx265", "openh264"]


class Unit(NamedTuple):
    """A coded frame in Annex B format, with its presentation time and decoding time in frames."""

    data: bytes
    pts: int
    dts: int
    keyframe: bool = False


@dataclass(frozen=True, kw_only=True)
class Encoding:
    """Settings of an encoder."""

    name: str
    encoder: Encoder = "libx264"
    options: str = ""  # options of the encoder, separated by colons
    gop: int = 25
    has_keyframes: bool = True  # whether there are keyframes after the first frame
    first: int = 0  # the hub connects at this frame and receives no earlier frame
    interlaced: bool = False  # the hub sends one field of each frame
    hides_reordering: bool = False  # whether the stream omits how many frames the decoder must hold back

    @property
    def codec(self) -> Literal["h264", "h265"]:
        return "h265" if self.encoder == "libx265" else "h264"


ENCODINGS: Final = {
    each.name: each
    for each in (
        Encoding(name="x264, closed GOP", options="bframes=0"),
        Encoding(name="x264, B-frames", options="bframes=2:b-adapt=0:b-pyramid=none", gop=50),
        Encoding(name="x264, B-pyramid", options="bframes=4:b-adapt=0:b-pyramid=normal"),
        Encoding(name="x264, open GOP", options="bframes=3:b-adapt=0:open-gop=1"),
        Encoding(name="x264, intra-refresh", options="bframes=0:intra-refresh=1", has_keyframes=False, first=40),
        Encoding(name="x264, interlaced", options="bframes=2:b-adapt=0:tff=1", interlaced=True),
        Encoding(name="x264, long GOP", options="bframes=2:b-adapt=0", gop=250),
        Encoding(name="x264, hidden reordering", options="bframes=2:b-adapt=0", hides_reordering=True),
        Encoding(name="x265, closed GOP", encoder="libx265", options="bframes=3:b-adapt=0:open-gop=0", gop=50),
        Encoding(name="x265, open GOP", encoder="libx265", options="bframes=4:b-adapt=0:open-gop=1"),
        Encoding(name="x265, temporal layers", encoder="libx265", options="bframes=3:b-adapt=0:temporal-layers=3"),
        Encoding(
            name="x265, field pictures",
            encoder="libx265",
            options="bframes=0:interlace=tff:open-gop=0",
            interlaced=True,
        ),
        Encoding(
            name="x265, intra-refresh", encoder="libx265", options="bframes=0:intra-refresh=1", has_keyframes=False
        ),
        Encoding(name="OpenH264, several slices", encoder="openh264"),
    )
}


@cache
def _texture() -> NDArray[np.uint8]:
    blocks = np.random.default_rng(1).integers(40, 210, (HEIGHT // 8 + 60, WIDTH // 8 + 60))
    return np.kron(blocks, np.ones((8, 8))).astype(np.uint8)


def original(number: int) -> NDArray[np.uint8]:
    """Return the luma of a frame before it was encoded."""
    top, left = number * 2 % 200, number * 3 % 200
    image = _texture()[top : top + HEIGHT, left : left + WIDTH].copy()
    counter.stamp(image, number, levels=(16, 235))
    return image


def quality(frame: av.VideoFrame, number: int) -> float:
    """Return the PSNR in dB of the worst part of a frame, compared with the original frame of this number."""
    plane = frame.planes[0]
    luma = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)[:HEIGHT, :WIDTH]
    errors = (luma.astype(np.int32) - original(number)) ** 2
    tiles = errors.reshape(HEIGHT // _TILE, _TILE, WIDTH // _TILE, _TILE).mean((1, 3))
    return float(10 * np.log10(255**2 / max(0.01, tiles.max())))


def make(encoding: Encoding, seconds: int = SECONDS) -> list[Unit]:
    """Return a video that begins with frame `encoding.first`. The video is encoded once per machine."""
    content = json.loads(index(encoding, seconds).read_text())
    with (_folder() / content["data"]).open("rb") as file:
        frames = zip(content["sizes"], content["numbers"], content["shown_later"], strict=True)
        return [Unit(file.read(size), number, number - later) for size, number, later in frames]


def index(encoding: Encoding, seconds: int = SECONDS) -> Path:
    """Return the path of the video's `.json` file, which `gst_server.py` reads. Encode the video first if necessary."""
    name = "".join(letter if letter.isalnum() else "-" for letter in f"{encoding.name} {seconds}")
    path = _folder() / f"{name}.json"
    settings = asdict(encoding)
    if not path.exists() or json.loads(path.read_text())["encoding"] != settings:
        units = list(_encoded(encoding, seconds * FPS))
        units = units[encoding.first :]
        content = {
            "encoding": settings,
            "codec": encoding.codec,
            "width": WIDTH,
            "height": HEIGHT,
            "fps": FPS,
            "data": f"{name}.bin",
            "sizes": [len(unit.data) for unit in units],
            # A client may join a stream without keyframes at any frame.
            "keyframes": [place for place, unit in enumerate(units) if unit.keyframe or encoding.first],
            "shown_later": [unit.pts - unit.dts for unit in units],
            "numbers": [unit.pts for unit in units],
        }
        clips.write(_folder() / f"{name}.bin", b"".join(unit.data for unit in units))
        clips.write(path, json.dumps(content).encode())
    return path


def _folder() -> Path:
    folder = clips.directory() / f"encodings-v{VERSION}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return folder


def _encoded(encoding: Encoding, frames: int) -> Iterator[Unit]:
    if encoding.encoder == "openh264":
        yield from (
            Unit(data, number, number, number % encoding.gop == 0)
            for number, data in enumerate(_openh264(frames, encoding.gop))
        )
        return
    for unit in _with_pyav(encoding, frames):
        yield unit._replace(data=without_reordering_limits(unit.data)) if encoding.hides_reordering else unit


def _with_pyav(encoding: Encoding, frames: int) -> Iterator[Unit]:
    context = cast("VideoCodecContext", VideoCodecContext.create(encoding.encoder, "w"))
    context.width, context.height, context.pix_fmt = WIDTH, HEIGHT, "yuv420p"
    context.framerate, context.time_base = Fraction(FPS), Fraction(1, FPS)
    common = f"keyint={encoding.gop}:min-keyint={encoding.gop}:scenecut=0:repeat-headers=1:"
    quiet = ":log-level=none" if encoding.encoder == "libx265" else ":sliced-threads=0:threads=1"
    preset = "ultrafast" if encoding.encoder == "libx265" else "superfast"
    context.options = {"preset": preset, f"{encoding.encoder[3:]}-params": common + encoding.options + quiet}
    for number in range(frames):
        planes = np.full((HEIGHT * 3 // 2, WIDTH), 128, np.uint8)
        planes[:HEIGHT] = original(number)
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        frame.pts, frame.time_base = number, Fraction(1, FPS)
        yield from map(_unit, context.encode(frame))
    yield from map(_unit, context.encode(None))


def _unit(packet: av.Packet[Any]) -> Unit:
    assert packet.pts is not None
    assert packet.dts is not None
    return Unit(bytes(packet), packet.pts, packet.dts, packet.is_keyframe)


def _openh264(frames: int, gop: int) -> list[bytes]:
    """Return the coded frames from GStreamer's OpenH264 encoder, which runs under Debian's Python."""
    if not _SYSTEM_PYTHON.exists():
        needs.missing(f"{_SYSTEM_PYTHON} is not installed; `apt-get install python3 python3-gi` brings it")
    gray = bytes([128]) * (WIDTH * HEIGHT // 2)
    pixels = b"".join(original(number).tobytes() + gray for number in range(frames))
    size = f"{WIDTH},{HEIGHT},{FPS},{gop}"
    done = subprocess.run([_SYSTEM_PYTHON, _OPENH264, size], input=pixels, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    sizes, _, data = done.stdout.partition(b"\n")
    ends = np.cumsum(json.loads(sizes)).tolist()
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False)]
