"""Clips for test cameras: moving scenes with sensor noise, encoded once per machine with one frame per access unit.

A clip consists of two files. `<name>.bin` contains the concatenated access units. H.264 and H.265 are in Annex B format
with parameter sets in every keyframe. MJPEG consists of plain JPEGs. `<name>.json` contains the sizes of the access
units. The RTSP server runs under the system's Python, and can read both files without a codec. Frame n shows the number
n, which `workers.demo.counter` draws. Cameras repeat a clip, so `tests.support.counter` matches the numbers with sent
frames.
"""

from __future__ import annotations

import json
import os
import tempfile
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

import av
import numpy as np
import simplejpeg
from av.video.codeccontext import VideoCodecContext
from av.video.reformatter import ColorRange

from nvision_hub.media import cv2_loader
from workers.demo import counter

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

VERSION: Final = 2  # increment when the drawing or the encoding changes

Codec = Literal["h264", "h265", "mjpeg"]


@dataclass(frozen=True, kw_only=True)
class ClipSpec:
    """The video that a camera sends. `noise` is the standard deviation of the sensor noise in luma levels."""

    codec: Codec
    width: int
    height: int
    kbit_s: int = 4000  # MJPEG uses `jpeg_quality` instead
    fps: int = 25
    gop_s: float = 2.0
    seconds: int = 10
    noise: float = 2.5
    jpeg_quality: int = 80
    chroma: Literal["4:2:0", "4:2:2"] = "4:2:0"  # only for H.264 and H.265
    # Intervals in seconds in which a person crosses an otherwise empty street. The bitrate is constant, so packet sizes
    # do not reveal the motion. None means the demo's busy street.
    crossings: tuple[tuple[float, float], ...] | None = None

    @property
    def name(self) -> str:
        """Return a name that is unique to this specification."""
        values = asdict(self)
        chroma, crossings = values.pop("chroma"), values.pop("crossings")
        name = "-".join(str(value) for value in values.values()) + ("" if chroma == "4:2:0" else "-422")
        if crossings is not None:
            name += "-crossed" + "".join(f"-{begin:g}-{end:g}" for begin, end in crossings)
        return name

    @property
    def frames(self) -> int:
        """Return the number of frames in the clip. The counter in the frames starts at 0."""
        return self.fps * self.seconds


H264_1080P: Final = ClipSpec(codec="h264", width=1920, height=1080)
H264_720P: Final = ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000)
H265_720P: Final = ClipSpec(codec="h265", width=1280, height=720, kbit_s=1500)
H265_1080P: Final = ClipSpec(codec="h265", width=1920, height=1080, kbit_s=3000)
# An empty street at night: the only changes are noise, but the packets are as large as during motion.
STILL_1080P: Final = ClipSpec(codec="h264", width=1920, height=1080, noise=4, crossings=())
MJPEG_720P: Final = ClipSpec(codec="mjpeg", width=1280, height=720)


def directory() -> Path:
    """Return the folder that keeps this user's clips between test runs."""
    return Path(tempfile.gettempdir()) / f"nvision-hub-test-clips-{os.getuid()}"


def make(spec: ClipSpec) -> Path:
    """Return the path of the clip's `.json` file. If this machine lacks the clip, encode it first (takes seconds)."""
    folder = directory() / f"v{VERSION}"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    index = folder / f"{spec.name}.json"
    if index.exists():
        return index
    units = list(_jpegs(spec) if spec.codec == "mjpeg" else _encoded(spec))
    content = {
        **asdict(spec),
        "data": f"{spec.name}.bin",
        "sizes": [len(data) for data, _ in units],
        "keyframes": [number for number, (_, keyframe) in enumerate(units) if keyframe],
    }
    write(folder / f"{spec.name}.bin", b"".join(data for data, _ in units))
    write(index, json.dumps(content).encode())  # written last, because the presence of the index marks a complete clip
    return index


def access_units(spec: ClipSpec) -> list[bytes]:
    """Return the coded frames of a clip, in order."""
    index = make(spec)
    content = json.loads(index.read_text())
    data = (index.parent / content["data"]).read_bytes()
    ends = np.cumsum(content["sizes"]).tolist()
    return [data[end - size : end] for size, end in zip(content["sizes"], ends, strict=True)]


def write(target: Path, data: bytes) -> None:
    with tempfile.NamedTemporaryFile(dir=target.parent, delete=False) as draft:
        draft.write(data)
    Path(draft.name).replace(target)


def _jpegs(spec: ClipSpec) -> Iterator[tuple[bytes, bool]]:
    for number, image in enumerate(_frames(spec)):
        counter.stamp(image, number)
        yield simplejpeg.encode_jpeg(image, spec.jpeg_quality, "BGR", "420"), True


def _encoded(spec: ClipSpec) -> Iterator[tuple[bytes, bool]]:
    import cv2  # noqa: PLC0415 - `_frames` has loaded OpenCV before this import

    gop = round(spec.fps * spec.gop_s)
    common = f"keyint={gop}:min-keyint={gop}:scenecut=0:bframes=0:repeat-headers=1"
    constant = "" if spec.crossings is None else ":nal-hrd=cbr"
    options = {
        "h264": {"preset": "superfast", "x264-params": common + constant},
        "h265": {"preset": "ultrafast", "x265-params": f"{common}:log-level=none"},
    }[spec.codec]
    options |= {"maxrate": f"{spec.kbit_s}k", "bufsize": f"{spec.kbit_s}k"}
    context = VideoCodecContext.create("libx264" if spec.codec == "h264" else "libx265", "w")
    context.width, context.height = spec.width, spec.height
    context.pix_fmt = "yuv422p" if spec.chroma == "4:2:2" else "yuv420p"
    context.framerate, context.time_base = Fraction(spec.fps), Fraction(1, spec.fps)
    context.bit_rate = spec.kbit_s * 1000
    context.color_range = ColorRange.MPEG
    context.options = options
    units: list[tuple[bytes, bool]] = []
    for number, image in enumerate(_frames(spec)):
        planes = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420), np.uint8)
        counter.stamp(planes[: spec.height], number, levels=(16, 235))
        frame = av.VideoFrame.from_ndarray(planes, format="yuv420p")
        if spec.chroma == "4:2:2":
            frame = frame.reformat(format="yuv422p")
        frame.pts, frame.time_base = number, Fraction(1, spec.fps)
        frame.color_range = ColorRange.MPEG
        units += ((bytes(packet), packet.is_keyframe) for packet in context.encode(frame))
    units += ((bytes(packet), packet.is_keyframe) for packet in context.encode(None))
    return iter(units)


def _frames(spec: ClipSpec) -> Iterator[NDArray[np.uint8]]:
    """Draw the scene at the clip's size, in BGR, with noise that needs as many bits as real detail."""
    cv2 = cv2_loader.load()
    random = np.random.default_rng(1)
    margin = 64
    shape = (spec.height + margin, spec.width + margin)
    grain = np.clip(random.normal(32, spec.noise, shape).round(), 0, 64).astype(np.uint8)
    grain = np.repeat(grain[:, :, None], 3, axis=2)
    for scenery in _busy(spec) if spec.crossings is None else _crossed(spec, spec.crossings):
        image = cv2.resize(scenery, (spec.width, spec.height), interpolation=cv2.INTER_LINEAR)
        top, left = random.integers(margin, size=2)
        yield cv2.addWeighted(image, 1, grain[top : top + spec.height, left : left + spec.width], 1, -32)


def _busy(spec: ClipSpec) -> Iterator[NDArray[np.uint8]]:
    from workers.demo import scene  # noqa: PLC0415 - draws with OpenCV

    demo = scene.SCENES["street"]
    backdrop = demo.backdrop()
    for number in range(spec.frames):
        image = backdrop.copy()
        demo.draw(image, round(number * scene.FPS / spec.fps))
        yield image


def _crossed(spec: ClipSpec, crossings: Sequence[tuple[float, float]]) -> Iterator[NDArray[np.uint8]]:
    """Draw people who cross the image from edge to edge. Every second person is farther away and half as tall."""
    from tests.support import street  # noqa: PLC0415 - draws with OpenCV

    empty = street.street(noise=0.0)
    height, width = empty.shape[:2]
    for number in range(spec.frames):
        people = []
        for index, (begin, end) in enumerate(crossings):
            share = (number / spec.fps - begin) / (end - begin)
            if 0 <= share <= 1:
                tall = height // 5 >> index % 2
                people.append(
                    street.Person(x=round(share * (width + tall) - tall / 2), feet=height * 3 // 4, tall=tall)
                )
        yield street.street(*people, noise=0.0) if people else empty
