"""Real time over RTSP: every structure of video arrives whole, and lost packets damage no frame that is sent."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Final, NamedTuple

import av
import pytest

from nvision_hub.metrics import catalogue
from tests.support import counter, encodings
from tests.support.encoded_camera import MIN_PSNR_DB

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tests.support.line import Line
    from tests.support.rtsp import GstCamera
    from tests.support.watching import CapturedFrame, Watching

pytestmark = pytest.mark.long

SECONDS: Final = 10.0
LOSSY_S: Final = 60.0
RATE: Final = 5.0
OPEN_TIMEOUT_S: Final = 60.0  # GStreamer's server begins one stream after the other, each with a keyframe
# After a lost packet, the hub waits for a keyframe, which comes once a second.
LOSSY: Final = ("x264, closed GOP", "x264, B-pyramid", "x264, open GOP", "x265, open GOP", "x265, temporal layers")


def worst_db(frames: Sequence[CapturedFrame]) -> float:
    """Return the quality of the worst part of the worst frame; 0 if a frame shows no number."""
    decibels = [99.0]
    for captured in frames:
        (frame,) = av.VideoCodecContext.create("mjpeg", "r").decode(av.Packet(captured.frame.jpeg))
        number = counter.of_frame(frame)
        decibels.append(0.0 if number is None else encodings.quality(frame, number))
    return min(decibels)


class Count(NamedTuple):
    """Numbers of frames since the start of a camera."""

    packets: float  # that the camera has sent, one per frame
    sent: int
    late: float  # decoded too late, because this machine is busy
    torn: float

    @classmethod
    def of(cls, watching: Watching) -> Count:
        packets = watching.meter.total(catalogue.PACKETS_RECEIVED_TOTAL)
        return cls(packets, len(watching.frames), watching.dropped("late"), watching.dropped("torn"))


class Losing:
    """Alteration that drops one of each 100 RTP packets, at random."""

    def __init__(self) -> None:
        self._random = random.Random(1)  # noqa: S311 - the same faults at every run
        self._packets = self._dropped = 0

    def __call__(self, packet: bytearray, rtcp: bool) -> bytearray | None:  # noqa: FBT001 - as `Line` calls it
        if rtcp:
            return packet
        if self._packets % 100 == 0:
            self._dropped = self._packets + self._random.randrange(100)
        self._packets += 1
        return None if self._packets - 1 == self._dropped else packet


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_every_structure_streams_over_rtsp(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching], transport: str
) -> None:
    progressive = [each for each in encodings.ENCODINGS.values() if not each.interlaced]
    assert len(progressive) >= 12
    mounts = {f"/{number}": encoding for number, encoding in enumerate(progressive)}
    camera = gst_camera(mounts)
    rates = {mount: (0.5, 1.0, 2.0, 5.0)[number % 4] for number, mount in enumerate(mounts)}
    watched = {
        mount: watch(camera.url(mount), fps=fps, transport=transport, stall_timeout=OPEN_TIMEOUT_S)
        for mount, fps in rates.items()
    }
    for watching in watched.values():
        watching.wait_for(1)
    # While GStreamer's server begins other streams, it discards frames of a stream, and numbers the packets afterwards.
    # The next keyframe ends the damage.
    next(iter(watched.values())).watch_for(max(each.gop for each in progressive) / encodings.FPS)
    before = {mount: Count.of(watching) for mount, watching in watched.items()}
    next(iter(watched.values())).watch_for(SECONDS)
    after = {mount: Count.of(watching) for mount, watching in watched.items()}
    for mount, watching in watched.items():
        begin, end = before[mount], after[mount]
        name, due = mounts[mount].name, rates[mount] * (end.packets - begin.packets) / encodings.FPS
        assert end.sent + end.late - begin.sent - begin.late == pytest.approx(due, abs=2 + 0.01 * due), name
        assert due > 0.5 * rates[mount] * SECONDS, "the camera streams, even on a busy machine"
        assert worst_db(watching.frames[begin.sent : end.sent]) >= MIN_PSNR_DB, name
        assert end.torn == begin.torn, name
        assert (watching.dropped("refreshing") > 0) == (mounts[mount].first > 0), name


def test_lost_datagrams_damage_no_frame_that_is_sent(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    camera = gst_camera({f"/{number}": encodings.ENCODINGS[name] for number, name in enumerate(LOSSY)})
    urls = [line(camera.port, Losing()).url(f"/{number}") for number in range(len(LOSSY))]
    watched = [watch(url, fps=RATE, transport="udp", stall_timeout=OPEN_TIMEOUT_S) for url in urls]
    for watching in watched:
        watching.wait_for(1)
    before = [Count.of(watching) for watching in watched]
    watched[0].watch_for(LOSSY_S)
    after = [Count.of(watching) for watching in watched]
    for name, watching, begin, end in zip(LOSSY, watched, before, after, strict=True):
        assert worst_db(watching.frames[: end.sent]) >= MIN_PSNR_DB, name
        assert end.sent + end.late - begin.sent - begin.late >= 0.7 * RATE * LOSSY_S, name
        assert end.torn > begin.torn, name
        assert watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL) == 0, name


def test_after_lost_datagrams_an_intra_refresh_shows_the_whole_image_again(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    name = "x264, intra-refresh"
    way = line(gst_camera({"/cam": encodings.ENCODINGS[name]}).port, Losing())
    watching = watch(way.url(), fps=RATE, transport="udp", stall_timeout=OPEN_TIMEOUT_S)
    watching.wait_for(1)
    # Where the clip begins again, its first frame builds on frames that no longer exist.
    left = encodings.SECONDS - encodings.ENCODINGS[name].first / encodings.FPS
    number = watching.frames[0].number
    assert number is not None
    frames = watching.watch_for(left - number / encodings.FPS)
    assert worst_db(frames) >= MIN_PSNR_DB
    assert watching.dropped("torn") > 0
    assert len(frames) > RATE
