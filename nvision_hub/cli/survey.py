"""What a camera sends, measured: reads packets for some seconds, decodes every one, and tells what it found.

`record` reads; everything after it is pure. Knows nothing of how it is shown.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import av
import numpy as np
import simplejpeg
from av.video.reformatter import ColorRange

from workers.camera.media_clock import MediaClock
from workers.camera.planner import Planner, Verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

    from workers.camera.source import Source, StreamFacts

RATES: Final = (5.0, 1.0, 0.5)  # pictures a second for which the cost is told
JUMP_S: Final = 1.0  # between two pictures' own times, beyond what their spacing explains
_TURNS: Final = 6  # the recording is planned over and over, so that what the planner learns is learned


@dataclass(frozen=True, kw_only=True, slots=True)
class Arrival:
    """One packet: `at` in monotonic seconds, `media_s` the stream's own time, None where it has none."""

    at: float
    media_s: float | None
    keyframe: bool
    size_bytes: int


@dataclass(kw_only=True)
class Recording:
    """What was read, and what decoding it took."""

    facts: StreamFacts
    opened_s: float
    first_picture_s: float | None = None  # from the first try to open; None where none could be decoded
    arrivals: list[Arrival]
    pictures: int = 0
    decode_cpu_s: float = 0.0
    size: tuple[int, int] | None = None
    colour_range: str | None = None
    pixel_format: str | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Survey:
    """The findings. None is what could not be told in the time."""

    codec: str
    width: int | None
    height: int | None
    pixel_format: str | None
    colour_range: str | None  # limited, full, or "not told"
    fps: float | None
    fps_announced: float | None
    keyframe_interval_s: float | None
    bitrate_kbit_s: float | None
    timestamps_missing: int  # packets without a time of their own
    timestamp_jumps: int
    opened_s: float
    first_picture_s: float | None
    packets: int
    seconds: float
    decode_ms: float | None  # processor time per picture
    decoded_per_s: dict[str, float] | None  # by pictures sent a second


def record(source: Source, *, began: float, seconds: float) -> Recording:
    """Read and decode `seconds` of an open camera, whose opening began at `began`. Raises `SourceError`."""
    opened = time.monotonic()
    recording = Recording(facts=source.facts, opened_s=opened - began, arrivals=[])
    for packet in source.packets():
        recording.arrivals.append(
            Arrival(at=packet.arrived, media_s=packet.media_s, keyframe=packet.keyframe, size_bytes=packet.size_bytes)
        )
        cpu = time.thread_time()
        pictures = source.decode(packet)
        recording.decode_cpu_s += time.thread_time() - cpu
        recording.pictures += len(pictures)
        for _, picture in pictures:
            if recording.first_picture_s is None:
                recording.first_picture_s = time.monotonic() - began
            _look_at(picture, recording)
        if packet.arrived - opened >= seconds:
            break
    return recording


def _look_at(picture: Any, recording: Recording) -> None:
    if isinstance(picture, bytes):  # a JPEG that the camera made
        height, width, sampling, _ = simplejpeg.decode_jpeg_header(picture)
        recording.size, recording.pixel_format, recording.colour_range = (width, height), f"JPEG {sampling}", "full"
    elif isinstance(picture, np.ndarray):
        recording.size, recording.pixel_format = (picture.shape[1], picture.shape[0]), "BGR"
    elif isinstance(picture, av.VideoFrame):
        recording.size, recording.pixel_format = (picture.width, picture.height), picture.format.name
        full = picture.format.name.startswith("yuvj") or picture.color_range == ColorRange.JPEG
        told = full or picture.color_range == ColorRange.MPEG
        recording.colour_range = ("full" if full else "limited") if told else "not told"


def survey(recording: Recording) -> Survey:
    """What the recording says."""
    arrivals, facts = recording.arrivals, recording.facts
    stamps = [arrival.media_s for arrival in arrivals if arrival.media_s is not None]
    # Cameras leave the time off their first pictures, some off all.
    times = stamps if len(stamps) > len(arrivals) / 2 else [arrival.at for arrival in arrivals]
    steps = [later - earlier for earlier, later in pairwise(times)]
    # Not the whole span: a jump of the camera's clock must not count as pictures that were missing.
    typical = statistics.fmean(_middle(steps)) if steps else 0.0
    jumps = sum(1 for earlier, later in pairwise(stamps) if not 0 <= later - earlier <= typical + JUMP_S)
    gop = _gop(arrivals)
    span = typical * len(arrivals)
    width, height = recording.size or (facts.width, facts.height)
    return Survey(
        codec=facts.codec,
        width=width,
        height=height,
        pixel_format=recording.pixel_format,
        colour_range=recording.colour_range,
        fps=1 / typical if typical > 0 else None,
        fps_announced=facts.fps,
        keyframe_interval_s=gop * typical if gop is not None and typical > 0 else None,
        bitrate_kbit_s=sum(a.size_bytes for a in arrivals) * 8 / 1000 / span if span > 0 else None,
        timestamps_missing=len(arrivals) - len(stamps),
        timestamp_jumps=jumps,
        opened_s=recording.opened_s,
        first_picture_s=recording.first_picture_s,
        packets=len(arrivals),
        seconds=arrivals[-1].at - arrivals[0].at if arrivals else 0.0,
        decode_ms=recording.decode_cpu_s * 1000 / recording.pictures if recording.pictures else None,
        decoded_per_s=_costs(arrivals, typical),
    )


def _gop(arrivals: Sequence[Arrival]) -> float | None:
    """Packets from keyframe to keyframe; None where fewer than two came."""
    keyframes = [number for number, arrival in enumerate(arrivals) if arrival.keyframe]
    return statistics.median(later - earlier for earlier, later in pairwise(keyframes)) if keyframes[1:] else None


def _middle(values: Sequence[float]) -> Sequence[float]:
    """Without the tenth that is smallest and the tenth that is largest."""
    ordered = sorted(values)
    cut = len(ordered) // 10
    return ordered[cut : len(ordered) - cut]


def _costs(arrivals: Sequence[Arrival], typical_s: float) -> dict[str, float] | None:
    keyframes = [number for number, arrival in enumerate(arrivals) if arrival.keyframe]
    if len(keyframes) < 2 or typical_s <= 0:  # noqa: PLR2004 - a group of pictures has a beginning and an end
        return None
    whole = arrivals[keyframes[0] : keyframes[-1]]
    return {f"{fps:g}": decoded_per_s(whole, fps=fps, spacing_s=typical_s) for fps in RATES}


def decoded_per_s(gops: Sequence[Arrival], *, fps: float, spacing_s: float) -> float:
    """Pictures decoded a second at `fps` pictures sent a second, once the planner knows the camera.

    `gops` are whole groups of pictures; they are planned as an endless stream whose pictures are `spacing_s` apart.
    """
    planner, clock = Planner(fps), MediaClock()
    decoded, held = 0, list[float]()
    counted_from = len(gops)  # the first turn is for learning
    for number in range(len(gops) * _TURNS):
        arrival = gops[number % len(gops)]
        at = clock.note(number * spacing_s, number * spacing_s)
        verdict = planner.consider(at, keyframe=arrival.keyframe, size_bytes=arrival.size_bytes, late_s=0.0)
        if verdict is Verdict.DROP or arrival.keyframe:
            held.clear()
        if verdict is not Verdict.DROP:
            held.append(at)
        if verdict is Verdict.DECODE:
            if number >= counted_from:
                decoded += len(held)
            for each in held:
                planner.owed(each)
            held.clear()
    return decoded / (len(gops) * (_TURNS - 1) * spacing_s)


def rounded(value: Any) -> Any:
    """The same findings, as JSON values of three decimals."""
    if isinstance(value, dict):
        return {key: rounded(each) for key, each in value.items()}
    return round(value, 3) if isinstance(value, float) else value
