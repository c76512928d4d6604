"""Compare the CPU time for only the keyframes of a stream with B-frames with that for all of its frames.

Both runs read the same file through the hub's pipeline, and do not encode the frames. The runs alternate.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal

from nvision_hub.media.decode.pipeline import DecodePipeline
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from tests.bench.report import Goal, Report, median, spread
from tests.support import clips
from tests.support.clip_files import opened, reordered

if TYPE_CHECKING:
    from tests.support.clips import ClipSpec

MAX_RATIO: Final = 0.3
SPEC: Final = clips.ClipSpec(codec="h264", width=1280, height=720, kbit_s=2000, gop_s=1.0)
KEYFRAME_RATE: Final = 1.0
Encoder = Literal["libx264", "libx265"]
CASES: Final[dict[str, tuple[Encoder, str]]] = {
    "720p25 H.264, B-frames": ("libx264", ""),
    "720p25 H.264, open GOP": ("libx264", ":open-gop=1"),
    "720p25 H.265, open GOP": ("libx265", ":open-gop=1:log-level=none"),
}


def cpu_s(file: Path, spec: ClipSpec, fps: float) -> tuple[float, float]:
    """Return the CPU time in seconds to play a file at a rate, and the number of decoded frames."""
    meter = Meter()
    with contextlib.closing(opened(file)) as source:
        pipeline = DecodePipeline(source=source, fps=fps, meter=meter, on_frame=lambda *_: None)
        # The length of a GOP is known from the second keyframe on.
        packets = list(source.packets())
        learned = 2 * round(spec.fps * spec.gop_s)
        for packet in packets[:learned]:
            pipeline.push(packet, fps)
        decoded, began = meter.value(catalogue.FRAMES_DECODED_TOTAL), time.thread_time()
        for packet in packets[learned:]:
            pipeline.push(packet, fps)
        return time.thread_time() - began, meter.value(catalogue.FRAMES_DECODED_TOTAL) - decoded


def run(*, quick: bool) -> Report:
    report = Report(
        name="keyframes",
        columns=["stream", "keyframes, ms", "frames", "all, ms", "frames", "ratio", "range of runs"],
    )
    with tempfile.TemporaryDirectory(prefix="nvision-bench-") as name:
        for number, (what, (encoder, options)) in enumerate(CASES.items()):
            folder = Path(name) / str(number)
            folder.mkdir()
            reordered(SPEC, folder, encoder=encoder, options=options).close()
            pairs = [
                (cpu_s(folder / "b.mkv", SPEC, KEYFRAME_RATE), cpu_s(folder / "b.mkv", SPEC, SPEC.fps))
                for _ in range(3 if quick else 9)
            ]
            ratios = [keyframes / every for (keyframes, _), (every, _) in pairs]
            (_, few), (_, many) = pairs[0]
            own, every = (median([1000 * pair[place][0] for pair in pairs]) for place in range(2))
            figures = [f"{own:.0f}", f"{few:.0f}", f"{every:.0f}", f"{many:.0f}", f"{median(ratios):.2f}"]
            report.rows.append([what, *figures, spread(ratios)])
            report.goals.append(Goal.of(f"{what}: CPU of keyframes / all frames", ratios, at_most=MAX_RATIO))
    return report
