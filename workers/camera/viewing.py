"""One open stream: its packets in, the pictures that are owed out. Carries out what planner and sentry decide.

Knows no encoder and no camera's address; whoever reads the source hands on each packet.
"""

from __future__ import annotations

import time
from collections import deque
from typing import TYPE_CHECKING, Any, Final

from workers.camera.lateness import Lateness
from workers.camera.luma import small_luma
from workers.camera.media_clock import MediaClock
from workers.camera.planner import IN_TIME_S, LATE_S, Planner, Verdict
from workers.camera.sentry import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.status import Meter
    from workers.camera.sentry import Sentry
    from workers.camera.source import Packet, Source

BEHIND_AT_MOST_S: Final = 15.0
RECENT: Final = 3  # pictures of a camera that is followed, kept for the time before an alarm


class Viewing:
    """`show` takes a picture, when it was captured (monotonic), and whether it is late on purpose."""

    def __init__(
        self,
        *,
        source: Source,
        fps: float,
        meter: Meter,
        show: Callable[[Any, float, bool], None],
        wanted: Callable[[], bool],
        sentry: Sentry | None,
    ) -> None:
        self._source = source
        self._meter = meter
        self._show = show
        self._wanted = wanted  # asked before each decoding: False ends a long one
        self._sentry = sentry
        self._clock, self._planner = MediaClock(), Planner(fps)
        self._held: list[Packet] = []
        self._recent: deque[tuple[Any, float]] = deque(maxlen=RECENT)
        self._shown = float("-inf")  # when the last picture shown was captured
        self._behind_since: float | None = None  # catching up after an alarm since then
        self.looked = float("-inf")  # monotonic seconds of the last good look while nothing moved
        self.lateness = Lateness()
        self._worked_s = 0.0  # on the last packet
        self._done = time.monotonic()  # with it

    @property
    def gop_s(self) -> float | None:
        """The learned seconds from keyframe to keyframe; None until two were seen."""
        return self._planner.gop_s

    @property
    def moving(self) -> bool | None:
        """Whether something moves; None where nobody looks."""
        return None if self._sentry is None else self._sentry.moving

    def take(self, packet: Packet, fps: float) -> None:
        """The next packet; pictures are owed at this rate from now on."""
        began = time.monotonic()
        waited_s = began - self._done
        at = self._clock.note(packet.media_s, packet.arrived, waited_s=waited_s)
        self.lateness.turn(
            arrived=packet.arrived, late_s=packet.arrived - at, waited_s=waited_s, worked_s=self._worked_s
        )
        self._planner.tune(fps)
        self._judge(packet, at)
        self._done = time.monotonic()
        self._worked_s = self._done - began

    def _judge(self, packet: Packet, at: float) -> None:
        sentry = self._sentry
        if sentry is None:
            self._send(packet, at)
            return
        if packet.keyframe and sentry.calm(at):
            sentry.rest()
        if sentry.moving:
            self._send(packet, at)
        else:
            self._watch(sentry, packet, at)

    def _send(self, packet: Packet, at: float) -> None:
        """By the planner: every picture owed."""
        late_s = packet.arrived - at
        if self._behind_since is not None:
            if late_s < IN_TIME_S or packet.arrived - self._behind_since > BEHIND_AT_MOST_S:
                self._behind_since = None
            else:
                late_s = 0.0
        verdict = self._planner.consider(at, keyframe=packet.keyframe, size_bytes=packet.size_bytes, late_s=late_s)
        if verdict is Verdict.DROP and self._planner.late and self._planner.owed(at):
            self._lose()
        if verdict is Verdict.DROP or packet.keyframe:
            self._held.clear()
        if verdict is not Verdict.DROP:
            self._held.append(packet)
        if verdict is Verdict.DECODE:
            for each in self._held:
                for picture, captured in self._decoded(each):
                    self._offer(picture, captured)
            self._held.clear()

    def _offer(self, picture: Any, at: float) -> None:
        sentry = self._sentry
        if sentry is not None and sentry.due(at) and (luma := small_luma(picture)) is not None:
            sentry.look(luma, at)
        # Of what is decoded for an alarm, some was sent while nothing moved.
        if (sentry is not None and at <= self._shown) or not self._planner.owed(at):
            return
        behind = self._behind_since is not None
        if not behind and time.monotonic() - at > LATE_S:
            self._lose()
            return
        self.lateness.made()
        self._show_it(picture, at, behind=behind)

    def _lose(self) -> None:
        """One that was owed, to lateness."""
        self.lateness.lost()
        self._meter.count("frames_dropped_total", reason="late")

    def _watch(self, sentry: Sentry, packet: Packet, at: float) -> None:
        """By the sentry: hardly any, until something moves."""
        self._planner.learn(at, keyframe=packet.keyframe)
        self._held.clear()
        match sentry.consider(packet, at, self.gop_s):
            case Watch.LOOK:
                picture = self._source.decode_alone(packet)
                self._meter.count("frames_decoded_total")
                luma = None if picture is None else small_luma(picture)
                if luma is None:
                    return
                if sentry.look(luma, at):
                    self._catch_up(sentry, at)
                    self._send(packet, at)
                else:
                    self._idle(sentry, picture, at)
            case Watch.FOLLOW:
                for each in sentry.followed(packet):
                    for picture, captured in self._decoded(each):
                        self._follow(sentry, picture, captured)
            case Watch.HOLD | Watch.DROP:
                pass

    def _idle(self, sentry: Sentry, picture: Any, at: float) -> None:
        self.looked = time.monotonic()
        if at > self._shown and sentry.owed(at):
            self._show_it(picture, at, behind=False)

    def _follow(self, sentry: Sentry, picture: Any, at: float) -> None:
        if sentry.moving:  # since a picture before this one
            self._offer(picture, at)
            return
        if not sentry.due(at) or (luma := small_luma(picture)) is None:
            return
        self._recent.append((picture, at))
        if not sentry.look(luma, at):
            self._idle(sentry, picture, at)
            return
        begin, _ = sentry.alarm()
        self._planner.caught_up()
        self._behind_since = time.monotonic()
        for earlier, captured in self._recent:
            if captured >= begin:
                self._offer(earlier, captured)
        self._recent.clear()

    def _catch_up(self, sentry: Sentry, at: float) -> None:
        """Movement began: the pictures owed of the time before, from what is held. The latest held is still to come."""
        self._behind_since = time.monotonic()
        begin, held = sentry.alarm()
        for packet in held[:-1]:
            for picture, captured in self._decoded(packet):
                if begin <= captured < at:
                    self._offer(picture, captured)

    def _decoded(self, packet: Packet) -> Iterator[tuple[Any, float]]:
        if not self._wanted():
            return
        at = self._clock.captured(packet.media_s, packet.arrived)
        wanted = self._planner.may_be_owed(at) or (self._sentry is not None and self._sentry.due(at))
        for media_s, picture in self._source.decode(packet, wanted=wanted):
            self._meter.count("frames_decoded_total")
            if picture is None:
                self._meter.count("frames_dropped_total", reason="torn")
            else:
                yield picture, self._clock.captured(media_s, packet.arrived)

    def _show_it(self, picture: Any, at: float, *, behind: bool) -> None:
        self._shown = at
        self._show(picture, at, behind)
