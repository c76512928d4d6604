"""Cases 19, 22, 25 and 26: lost and corrupt packets, timestamp jumps, and one frame every 15 s.

A relay drops the datagrams, with the same effect as netem, which some kernels lack.
"""

from __future__ import annotations

import itertools
import random
import time
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.metrics import catalogue
from tests.support import clips
from tests.support.patience import is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.line import Alter, Line
    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault

CAMERA: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LIVELY: Final = clips.H264_720P
FPS: Final = 5.0
SETTLED_S: Final = 6.0  # at first, the filter withholds all corrupt frames, for up to two seconds
COUNTED_S: Final = 12.0


def losing(share: float) -> Alter:
    random_ = random.Random(1)  # noqa: S311 - the same faults at every run
    return lambda packet, _rtcp: None if random_.random() < share else packet


def corrupting(share: float) -> Alter:
    """Flip one to eight random bits in each affected RTP packet. `share` is the share of affected packets (0 to 1)."""
    random_ = random.Random(1)  # noqa: S311 - the same faults at every run

    def alter(packet: bytearray, rtcp: bool) -> bytearray:  # noqa: FBT001
        if not rtcp and random_.random() < share:
            for _ in range(random_.randint(1, 8)):
                packet[random_.randrange(len(packet))] ^= 1 << random_.randrange(8)
        return packet

    return alter


def rates_of(*watched: Watching) -> list[float]:
    """Watch for `COUNTED_S`. Return the frames per second that were sent, or were late because this machine is busy."""

    def counts() -> list[float]:
        return [len(watching.frames) + watching.dropped("late") for watching in watched]

    before = counts()
    watched[0].watch_for(COUNTED_S)
    return [(later - earlier) / COUNTED_S for earlier, later in zip(before, counts(), strict=True)]


@pytest.mark.long
def test_a_camera_with_lost_datagrams_still_streams(
    gst_camera: Callable[..., GstCamera],
    line: Callable[..., Line],
    watch: Callable[..., Watching],
) -> None:
    port = gst_camera(LIVELY).port
    shares = {0.05: 0.9, 0.2: None}
    watched = [watch(line(port, losing(share)).url(), fps=FPS, transport="udp") for share in shares]
    for watching in watched:
        watching.wait_for(1)
    watched[0].watch_for(SETTLED_S)
    for watching, rate, (share, at_least) in zip(watched, rates_of(*watched), shares.items(), strict=True):
        assert rate <= FPS * 1.1, share
        assert rate >= FPS * (at_least or 0.1), share
        assert watching.capture.state == "streaming", share
        measured(
            19,
            f"UDP loses {share:.0%}",
            injected="relay that drops datagrams, 720p at 2 Mbit/s",
            target="keeps streaming" if at_least is None else f"keeps streaming; at least {at_least:.0%} of the rate",
            measured=f"{rate / FPS:.0%} of the rate, "
            f"{watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL):.0f} reconnects",
        )


@pytest.mark.long
def test_corrupt_packets_do_not_change_the_rate(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    way = line(gst_camera(LIVELY).port, corrupting(0.01))
    watching = watch(way.url(), fps=FPS)
    watching.wait_for(1)
    watching.watch_for(SETTLED_S)
    counted = len(watching.frames)
    (rate,) = rates_of(watching)
    frames = watching.frames[counted:]
    gap_s = max(later.at - earlier.at for earlier, later in itertools.pairwise(frames))
    assert 0.9 * FPS <= rate <= 1.1 * FPS
    assert is_on_time(gap_s, 2)
    measured(
        22,
        "corrupt packets",
        injected="relay that flips 1 to 8 bits in 1 % of the RTP packets, 720p at 2 Mbit/s over TCP",
        target="keeps streaming; at least 90 % of the frames",
        measured=f"{rate / FPS:.0%}, longest gap {gap_s:.1f} s, "
        f"{watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL):.0f} reconnects",
    )


class SetClock:
    """Alteration that shifts the RTP timestamps, including those in sender reports (RFC 3550, 6.4.1)."""

    HZ: Final = 90_000  # RTP clock rate of H.264 (RFC 6184, 5.1)

    def __init__(self, near_wrap_s: float | None = None) -> None:
        self._first: int | None = None
        self._near_wrap_s = near_wrap_s  # seconds from the first timestamp to its 32-bit wraparound
        self.ahead_s = 0.0

    def __call__(self, packet: bytearray, rtcp: bool) -> bytearray:  # noqa: FBT001
        place = slice(16, 20) if rtcp else slice(4, 8)
        if rtcp and (len(packet) < place.stop or packet[1] != 200):
            return packet
        then = int.from_bytes(packet[place])
        if self._first is None:
            self._first = then
        moved = then + round(self.ahead_s * self.HZ)
        if self._near_wrap_s is not None:
            moved += 2**32 - round(self._near_wrap_s * self.HZ) - self._first
        packet[place] = (moved % 2**32).to_bytes(4)
        return packet


@pytest.mark.long
@pytest.mark.slow
def test_timestamp_jumps_do_not_change_the_rate(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    port = gst_camera(CAMERA).port
    clocks = {"wraps": SetClock(near_wrap_s=3.0), "jumps 5 s back": SetClock(), "jumps 1 h ahead": SetClock()}
    watched = {fault: watch(line(port, clock).url(), fps=FPS) for fault, clock in clocks.items()}
    for watching in watched.values():
        watching.wait_for(5)
    late = {fault: watching.dropped("late") for fault, watching in watched.items()}
    clocks["jumps 5 s back"].ahead_s = -5.0
    clocks["jumps 1 h ahead"].ahead_s = 3600.0
    began = time.monotonic()
    next(iter(watched.values())).watch_for(6.0)
    for fault, watching in watched.items():
        frames = [frame for frame in list(watching.frames) if frame.at >= began]
        numbers = [frame.number or 0 for frame in frames]
        steps = [(after - before) % (25 * CAMERA.seconds) for before, after in itertools.pairwise(numbers)]
        rate = (len(frames) - 1) / (sum(steps) / 25)  # by the camera's clock
        accounted = rate * (1 + (watching.dropped("late") - late[fault]) / (len(frames) - 1))
        gap_s = max(later.at - earlier.at for earlier, later in itertools.pairwise(frames))
        assert rate <= 1.1 * FPS, fault
        assert accounted >= 0.9 * FPS, fault
        assert is_on_time(frames[0].at - began, 1)
        assert is_on_time(gap_s, 1)
        assert watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL) == 0
        measured(
            25,
            f"timestamp {fault}",
            injected="relay that alters RTP and RTCP timestamps",
            target="rate within 10 %",
            measured=f"{rate / FPS:.0%} of the rate, longest gap {gap_s:.2f} s",
        )


class OneFrame:
    """Alteration that passes one complete frame per interval and drops all other frames."""

    def __init__(self, every_s: float) -> None:
        self._every_s = every_s
        self._due = float("-inf")
        self._passing = False
        self._begins = True  # the next packet is the first of a frame
        self._sequence = 0

    def __call__(self, packet: bytearray, rtcp: bool) -> bytearray | None:  # noqa: FBT001
        if rtcp:
            return packet
        if self._begins and time.monotonic() >= self._due:
            self._passing, self._due = True, max(self._due + self._every_s, time.monotonic())
        elif self._begins:
            self._passing = False
        self._begins = bool(packet[1] & 0x80)  # the marker bit is set in the last packet of a frame (RFC 2435, 3)
        if not self._passing:
            return None
        packet[2:4] = (self._sequence % 2**16).to_bytes(2)  # without gaps, so that the client detects no loss
        self._sequence += 1
        return packet


@pytest.mark.long
def test_a_slow_camera_is_not_reconnected(
    gst_camera: Callable[..., GstCamera], line: Callable[..., Line], watch: Callable[..., Watching]
) -> None:
    spec = clips.ClipSpec(codec="mjpeg", width=640, height=360, seconds=2)
    way = line(gst_camera(spec).port, OneFrame(11.0))  # longer than the default of stall_timeout
    watching = watch(way.url(), fps=1, stall_timeout=25)
    worst_s = 0.0
    while len(watching.frames) < 3:
        watching.watch_for(0.5)
        deadline = watching.capture.deadline()
        worst_s = max(worst_s, (time.monotonic() - deadline.at) / deadline.timeout_s)
        assert not deadline.is_missed(time.monotonic())
    assert watching.meter.total(catalogue.CAMERA_RECONNECTS_TOTAL) == 0
    measured(
        26,
        "slow camera",
        injected="relay that passes one frame every 11 s, stall_timeout 25",
        target="no false restart",
        measured=f"{len(watching.frames)} frames, no reconnect, at most {worst_s:.0%} of stall_timeout used",
    )
