"""Compare the hub with the agent in the service's documentation: frame rates, results and true ages of frames.

The true age of a frame is the time from its push in the camera until the service has received the complete JPEG. The
number in the JPEG identifies the push. The age includes delays in the camera's server, the network and FFmpeg's parser.
The parser returns a frame only when the next frame begins, 40 ms later at 25 frames per second. The hub's own metric
`frame_age_seconds` covers only the time from capture to socket, without the shortest delay from camera to hub.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from tests.bench.bench import bench, wait
from tests.bench.report import Goal, Report, percentile
from tests.support import clips, counter

if TYPE_CHECKING:
    from tests.support.recorder import Received, Recorder
    from tests.support.rtsp import GstCamera

CAMERAS: Final = {"h264-1080p": ("/h264", 5.0), "h265-720p": ("/h265", 2.0)}
SETTLED_S: Final = 5.0  # the first frames from a server may be old
EDGE_S: Final = 10.0
MAX_AGE_MS: Final = 80.0
HALF_TIMEOUT_S: Final = 0.025
NEARLY_ALL_TIMEOUT_S: Final = 0.08
MAX_GROWN_MS: Final = 10.0
MAX_RATE_OFF: Final = 0.03


def run(*, quick: bool) -> Report:
    """Run all agents at once, with the same cameras and the same service."""
    seconds = 20.0 if quick else 60.0
    report = Report(
        name="rates",
        columns=[
            "agent",
            "target /s",
            "sent /s",
            "frames",
            "corrupt",
            "age p50, first 10 s",
            "p99",
            "age p50, last 10 s",
            "p99",
        ],
    )
    with bench() as own:
        camera = own.cameras({"/h264": clips.H264_1080P, "/h265": clips.H265_720P})
        recorder = own.recorder()
        entries = [{"id": name, "url": camera.url(mount), "fps": fps} for name, (mount, fps) in CAMERAS.items()]
        documented = own.contender(
            "documented", recorder, camera=camera.url("/h264"), source_id="documented", fps=5.0, width=None
        )
        with own.hub(entries, recorder) as hub, documented:
            for name in (*CAMERAS, "documented"):
                recorder.wait_for(1, name, 30)
            wait(seconds)
            answered = {name: [event["frame_id"] for event in hub.events(name)] for name in CAMERAS}
            ages = {name: hub.status(name)["metrics"]["histograms"]["frame_age_seconds"] for name in CAMERAS}
        for name, (mount, fps) in CAMERAS.items():
            _judge(
                report,
                name=name,
                mount=mount,
                fps=fps,
                camera=camera,
                recorder=recorder,
                answered=answered[name],
            )
            report.goals += [
                Goal(
                    what=f"{name}: share of frames more than {1000 * timeout_s:g} ms from capture to socket",
                    value=_share_beyond(ages[name], timeout_s),
                    at_most=at_most,
                )
                for timeout_s, at_most in ((HALF_TIMEOUT_S, 0.5), (NEARLY_ALL_TIMEOUT_S, 0.01))
            ]
        _judge(report, name="documented", mount="/h264", fps=5.0, camera=camera, recorder=recorder, answered=None)
    return report


def _judge(
    report: Report,
    *,
    name: str,
    mount: str,
    fps: float,
    camera: GstCamera,
    recorder: Recorder,
    answered: list[str] | None,
) -> None:
    # GStreamer's server first sends frames captured before the connection. No agent can influence their age.
    every = recorder.received(name)
    records = [record for record in every if record.at - every[0].at >= SETTLED_S]
    seen = _seen(records, mount, camera, recorder)
    corrupt = len(records) - len(seen)
    ages = [(record.at, 1000 * (record.at - push.at)) for record, push in seen]
    first = [age for at, age in ages if at - records[0].at <= EDGE_S]
    last = [age for at, age in ages if records[-1].at - at <= EDGE_S]
    rate = (len(records) - 1) / (records[-1].at - records[0].at)
    edges = [percentile(first, 0.5), percentile(first, 0.99), percentile(last, 0.5), percentile(last, 0.99)]
    report.rows.append(
        [name, f"{fps:g}", f"{rate:.3f}", f"{len(records)}", f"{corrupt}", *(f"{age:.0f} ms" for age in edges)]
    )
    if answered is None:
        return
    serials = [push.serial for _, push in seen]
    names = [record.frame_id for record in every]
    twice = len(names) - len(set(names)) + sum(later <= earlier for earlier, later in pairwise(serials))
    strangers = sum(a != b for a, b in zip(answered, names, strict=False)) + max(0, len(answered) - len(names))
    report.goals += [
        Goal(what=f"{name}: rate error", value=abs(rate / fps - 1), at_most=MAX_RATE_OFF),
        Goal(what=f"{name}: frames sent twice", value=twice, at_most=0),
        Goal(what=f"{name}: corrupt frames sent", value=corrupt, at_most=0),
        Goal(what=f"{name}: events out of order or without a frame sent", value=strangers, at_most=0),
        Goal(what=f"{name}: age p50, last 10 s minus first, ms", value=edges[2] - edges[0], at_most=MAX_GROWN_MS),
        Goal(what=f"{name}: true age p99 in the last 10 s, ms", value=edges[3], at_most=MAX_AGE_MS),
    ]


def _share_beyond(ages: dict[str, Any], timeout_s: float) -> float:
    """Return the share of a histogram's values above `timeout_s`, which must be one of its bounds."""
    beyond = sum(ages["counts"][ages["bounds"].index(timeout_s) + 1 :])
    return float(beyond / sum(ages["counts"]))


def _seen(
    records: list[Received], mount: str, camera: GstCamera, recorder: Recorder
) -> list[tuple[Received, counter.Push]]:
    unwrapper = counter.Unwrapper(camera.push_times(mount))
    pairs = []
    for record in records:
        number = counter.of_jpeg(recorder.frame(record))
        if number is not None:
            pairs.append((record, unwrapper.find(number, record.at)))
    return pairs
