"""Camera probe: opens each camera like the hub, decodes every frame for a few seconds, and reports statistics.

The probe opens each camera only once, because some cameras lock out clients that repeat a wrong password. `survey`
and `decoded_per_s` perform no I/O.
"""

from __future__ import annotations

import contextlib
import json
import queue
import statistics
import threading
import time
from dataclasses import asdict, dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import av
import numpy as np
import simplejpeg
from av.video.reformatter import ColorRange
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from nvision_hub.cli.terminal import console
from nvision_hub.errors import HubError
from nvision_hub.hub.composition import resolve_demo_camera
from nvision_hub.hub.state_dir import CERTIFICATES
from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.media.interlacing import Field
from nvision_hub.media.sources import (
    CameraTrust,
    KnownCertificates,
    Packet,
    SourceError,
    StreamFacts,
    open_source,
)
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from nvision_hub.config.models import Camera
    from nvision_hub.hub.state_dir import Endpoints

MAX_AT_ONCE: Final = 4
SECONDS: Final = 2.5  # most cameras send two keyframes in this time
RATES: Final = (5.0, 1.0, 0.5)  # the probe estimates the cost of these rates, in frames sent per second
BASIC_WARNING: Final = (
    "The camera asks for the password in plain text (Basic). Set the camera to Digest or use TLS, and set "
    "`auth: digest`, so that the hub never sends the password."
)
# The step between two media times is a jump if it exceeds the usual step by more than this, or goes back by more than
# this. A smaller step back is not a jump, because packets of a stream with B-frames arrive in decoding order.
JUMP_S: Final = 1.0
_LOOPS: Final = 6  # number of replays; the planner learns the length of a GOP during the first replay


@dataclass(kw_only=True, slots=True)
class StreamReport:
    """Statistics of one stream. A value is None if the probe was too short to measure it."""

    codec: str
    width: int | None
    height: int | None
    pixel_format: str | None = None
    colour_range: str | None = None  # limited, full, or "unspecified"
    interlaced: bool = False  # whether a frame was interlaced or contained a single field
    fps: float | None = None
    fps_announced: float | None
    keyframe_interval_s: float | None = None
    bitrate_kbit_s: float | None = None
    timestamps_missing: int = 0  # packets without a media time
    timestamp_jumps: int = 0
    certificate_sha256: str | None = None  # fingerprint of the camera's certificate; None without TLS
    sends_plain_password: bool = False  # whether the camera received the password in plain text
    profile: str | None = None  # the chosen media profile of an ONVIF camera; None for other cameras
    opened_s: float
    first_frame_s: float | None = None  # seconds from the start of the connection; None if no frame was decoded
    packets: int = 0
    seconds: float = 0.0
    decode_ms: float | None = None  # CPU time per frame
    decoded_per_s: dict[str, float] | None = None  # frames decoded per second, keyed by frames sent per second


@dataclass(frozen=True, kw_only=True, slots=True)
class ProbeResult:
    """Result of probing one camera.

    If `note` is set, the probe did not open the camera, and `note` gives the reason.
    """

    id: str
    state: CameraState | None = None
    found: StreamReport | None = None  # None if the probe received no frames
    error: str | None = None  # why the probe received no frames
    note: str | None = None


def rounded(result: StreamReport | ProbeResult) -> dict[str, Any]:
    """Return the attributes as JSON values, with floats rounded to three decimals."""
    values: dict[str, Any] = json.loads(json.dumps(asdict(result)), parse_float=lambda text: round(float(text), 3))
    return values


def probe_cameras(
    cameras: Sequence[Camera], endpoints: Endpoints | None, certificates: KnownCertificates
) -> list[ProbeResult]:
    """Open every camera, and return the results in the order of `cameras`.

    Opens at most `MAX_AT_ONCE` cameras at a time. If stderr is a terminal, shows a progress bar. `endpoints` are the
    endpoints of the running hub; None if no hub is running.
    """
    todo = iter(cameras)  # the threads share this iterator
    done: queue.SimpleQueue[ProbeResult] = queue.SimpleQueue()

    def work() -> None:
        for camera in todo:
            done.put(_probe(camera, endpoints, certificates))

    for _ in range(min(MAX_AT_ONCE, len(cameras))):
        threading.Thread(target=work, daemon=True).start()  # daemon: Ctrl-C does not wait for cameras
    screen = console(stderr=True)
    columns = (TextColumn("cameras"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=screen, transient=True, disable=not screen.is_terminal) as bar:
        by_id = {it.id: it for it in bar.track((done.get() for _ in cameras), total=len(cameras))}
    return [by_id[camera.id] for camera in cameras]


def dialed(camera: Camera, endpoints: Endpoints | None) -> Camera | None:
    """Return the camera with the address to connect to; None for a demo camera if no hub serves the demo cameras."""
    if camera.address.kind != "demo":
        return camera
    if endpoints is None or endpoints.demo is None:
        return None
    port = urlsplit(endpoints.demo).port
    assert port is not None  # noqa: S101 - the hub writes the URL with a port
    return resolve_demo_camera(camera, port)


def known_certificates(state_dir: Path) -> KnownCertificates:
    """Return the fingerprints that the hub of this state directory knows. Commands record no new fingerprints."""
    return KnownCertificates(state_dir / CERTIFICATES, records=False)


def _probe(camera: Camera, endpoints: Endpoints | None, certificates: KnownCertificates) -> ProbeResult:
    target = dialed(camera, endpoints)
    if target is None:
        return ProbeResult(id=camera.id, note="demo camera; available while the hub runs")
    try:
        found = measure(target, SECONDS, certificates)
    except SourceError as error:
        return ProbeResult(id=camera.id, state=error.state, error=str(error))
    except HubError as error:
        return ProbeResult(id=camera.id, state=CameraState.UNSUPPORTED, error=str(error))
    if found.decode_ms is None:
        problem = f"{camera.address.shown} sends no decodable video; set the camera to H.264, H.265 or MJPEG"
        return ProbeResult(id=camera.id, state=CameraState.STALLED, error=problem)
    return ProbeResult(id=camera.id, state=CameraState.STREAMING, found=found)


def measure(camera: Camera, seconds: float, certificates: KnownCertificates) -> StreamReport:
    """Open a camera, decode its stream for `seconds`, and return a report.

    Raises `SourceError` if the camera fails, and `UnavailableError` if a library is missing.
    """
    began = time.monotonic()
    with contextlib.closing(open_source(camera, trust=CameraTrust(certificates=certificates))) as source:
        opened, facts = time.monotonic(), source.facts
        report = StreamReport(codec=facts.codec, width=facts.width, height=facts.height, fps_announced=facts.fps,
                              certificate_sha256=facts.certificate, sends_plain_password=facts.sends_plain_password,
                              profile=facts.profile, opened_s=opened - began)  # fmt: skip
        packets: list[Packet] = []
        decoded, decode_cpu_s = 0, 0.0
        for packet in source.packets():
            packets.append(replace(packet, payload=None, lasting=True))  # for the replay in `decoded_per_s`
            cpu = time.thread_time()
            frames = source.decode(packet)
            decode_cpu_s += time.thread_time() - cpu
            decoded += len(frames)
            for _, frame in frames:
                if report.first_frame_s is None:
                    report.first_frame_s = time.monotonic() - began
                _inspect(frame, report)
            if packet.arrived - opened >= seconds:
                break
    return survey(report, packets, decoded=decoded, decode_cpu_s=decode_cpu_s)


def _inspect(frame: Any, report: StreamReport) -> None:
    if isinstance(frame, bytes):  # a JPEG from the camera
        report.height, report.width, sampling, _ = simplejpeg.decode_jpeg_header(frame)
        report.pixel_format, report.colour_range = f"JPEG {sampling}", "full"
    elif isinstance(frame, np.ndarray):
        report.height, report.width = frame.shape[:2]
        report.pixel_format = "BGR"
    elif isinstance(frame, av.VideoFrame):
        report.width, report.height = frame.width, frame.height * (2 if isinstance(frame.opaque, Field) else 1)
        report.pixel_format = frame.format.name
        full = frame.format.name.startswith("yuvj") or frame.color_range == ColorRange.JPEG
        limited = frame.color_range == ColorRange.MPEG
        report.interlaced = report.interlaced or bool(frame.interlaced_frame)
        report.colour_range = "full" if full else "limited" if limited else "unspecified"


def survey(report: StreamReport, packets: Sequence[Packet], *, decoded: int, decode_cpu_s: float) -> StreamReport:
    """Add the statistics of `packets` to `report`, and return `report`."""
    stamps = [packet.media_s for packet in packets if packet.media_s is not None]
    # Some cameras send their first frames without media times, and others never send any.
    times = stamps if len(stamps) > len(packets) / 2 else [packet.arrived for packet in packets]
    if all(later - earlier >= -JUMP_S for earlier, later in pairwise(times)):
        times = sorted(times)
    steps = sorted(later - earlier for earlier, later in pairwise(times))
    # Ignore the smallest and the largest tenth of the steps, so that a clock jump does not change the frame rate.
    tenth = len(steps) // 10
    typical = statistics.fmean(steps[tenth : len(steps) - tenth]) if steps else 0.0
    report.packets, report.timestamps_missing = len(packets), len(packets) - len(stamps)
    report.timestamp_jumps = sum(
        not -JUMP_S <= later - earlier <= typical + JUMP_S for earlier, later in pairwise(stamps)
    )
    if packets:
        report.seconds = packets[-1].arrived - packets[0].arrived
    if decoded:
        report.decode_ms = decode_cpu_s * 1000 / decoded
    if typical > 0:
        report.fps = 1 / typical
        report.bitrate_kbit_s = sum(packet.size_bytes for packet in packets) * 8 / 1000 / (typical * len(packets))
        keyframes = [number for number, packet in enumerate(packets) if packet.keyframe]
        if gops := [later - earlier for earlier, later in pairwise(keyframes)]:
            report.keyframe_interval_s = statistics.median(gops) * typical
            complete = packets[keyframes[0] : keyframes[-1]]
            report.decoded_per_s = {f"{fps:g}": decoded_per_s(complete, fps=fps, spacing_s=typical) for fps in RATES}
    return report


def decoded_per_s(gops: Sequence[Packet], *, fps: float, spacing_s: float) -> float:
    """Return the number of frames that the hub decodes per second in order to send `fps` frames per second.

    Replays the complete GOPs in `gops` several times, as a stream with one frame every `spacing_s` seconds. The result
    excludes the first replay, during which the planner learns the length of a GOP.
    """
    source, meter = _Replay(gops, spacing_s), Meter()
    pipeline = DecodePipeline(source=source, fps=fps, meter=meter, on_frame=lambda *_: None, now=lambda: source.now)
    learned = 0.0
    for number, packet in enumerate(source.packets()):
        if number == len(gops):
            learned = meter.value(catalogue.FRAMES_DECODED_TOTAL)
        pipeline.push(packet, fps)
    return (meter.value(catalogue.FRAMES_DECODED_TOTAL) - learned) / (len(gops) * (_LOOPS - 1) * spacing_s)


class _Replay:
    """Source that replays packets on a simulated clock, which ignores the time that decoding takes."""

    def __init__(self, gops: Sequence[Packet], spacing_s: float) -> None:
        self.facts = StreamFacts(codec="", width=None, height=None, fps=None)
        self.now = 0.0
        self._packets = [*gops] * _LOOPS
        self._spacing_s = spacing_s

    def packets(self) -> Iterator[Packet]:
        for number, packet in enumerate(self._packets):
            self.now = number * self._spacing_s
            yield replace(packet, arrived=self.now, media_s=self.now)

    def decode(self, packet: Packet, **_: bool) -> list[tuple[float | None, Any]]:
        return [(packet.media_s, packet)]

    def close(self) -> None: ...
