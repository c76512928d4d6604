"""Decode pipeline of one open stream: turns packets into due frames.

A closed motion gate receives the packets; otherwise, the planner receives them. Both return the packets to decode. The
source decodes these packets, and the planner selects the due frames. This module imports neither the encoder nor
sources.
"""

from __future__ import annotations

import time
from dataclasses import InitVar, dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.media.decode.corrupt_frames import Withheld
from nvision_hub.media.decode.decode_planner import IN_TIME_S, LATE_S, Planner
from nvision_hub.media.decode.lag_monitor import LagMonitor
from nvision_hub.media.decode.media_clock import MediaClock
from nvision_hub.metrics import catalogue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from nvision_hub.media.decode.decode_planner import DecodeBatch, FrameBudget
    from nvision_hub.media.decode.event_gate import EventGate
    from nvision_hub.media.decode.motion_gate import MotionGate
    from nvision_hub.media.sources import Packet, Source
    from nvision_hub.metrics.meter import Meter

_SAME_TIME_S: Final = 0.001  # media times less than this apart belong to the same frame
_MAX_CATCH_UP_S: Final = 15.0


@dataclass(kw_only=True, eq=False)
class DecodePipeline:
    """Stages of one stream, and the loop that runs them."""

    source: Source
    fps: InitVar[float]
    meter: Meter
    # Receives the frame, its capture time (monotonic seconds), and whether the frame is late because of a pre-roll.
    on_frame: Callable[[Any, float, bool], None]
    is_wanted: Callable[[], bool] = lambda: True  # called before each packet is decoded; False ends the batch early
    gate: MotionGate | EventGate | None = None
    budget: InitVar[FrameBudget | None] = None
    now: Callable[[], float] = time.monotonic
    checked: float = float("-inf")  # monotonic time at which the gate was last known to be rightly closed

    def __post_init__(self, fps: float, budget: FrameBudget | None) -> None:
        self.lag = LagMonitor()
        self._clock, self._planner = MediaClock(), Planner(fps, budget)
        self._has_gap = False  # whether packets since the last decoded packet were skipped
        self._whole_from_s: float | None = None  # frames with an earlier media time build on skipped packets
        self._sent = float("-inf")  # capture time of the last frame sent
        # Start time while the pre-roll and its backlog are decoded; otherwise None.
        self._catching_up_since: float | None = None
        self._worked_s = 0.0  # seconds spent on the last packet
        self._done = self.now()  # time at which the pipeline finished the last packet

    @property
    def gop_s(self) -> float | None:
        """Longest recent keyframe interval in seconds; None until two keyframes have been seen."""
        return self._planner.gop_s

    @property
    def is_moving(self) -> bool | None:
        """Whether the motion gate is open; None without a motion gate."""
        return None if self.gate is None else self.gate.is_open

    def push(self, packet: Packet, fps: float) -> None:
        """Process the next packet at the frame rate `fps`."""
        began = self.now()
        waited_s = began - self._done
        at = self._clock.update(packet.media_s, packet.arrived, waited_s=waited_s)
        late_s = packet.arrived - at
        self.lag.add_packet(arrived=packet.arrived, late_s=late_s, waited_s=waited_s, worked_s=self._worked_s)
        self._planner.set_rate(fps)
        gate = self.gate
        if gate is None or gate.passes(packet, at):
            self._plan(packet, at, late_s)
        else:
            self._planner.bypass(packet, at)
            self._check(gate, packet, at)
        self._done = self.now()
        self._worked_s = self._done - began

    def _plan(self, packet: Packet, at: float, late_s: float) -> None:
        """Decode the packets that the planner returns, and send the due frames among them."""
        if self._catching_up_since is not None:
            if late_s < IN_TIME_S or packet.arrived - self._catching_up_since > _MAX_CATCH_UP_S:
                self._catching_up_since = None
            else:
                late_s = 0.0
        batch = self._planner.push(packet, at, late_s=late_s, reorders=self.source.facts.reorders)
        if batch.packets:
            for frame, captured in self._decode(batch):
                self._offer(frame, captured)
        elif batch.is_frame_lost:
            self._count_lost()

    def _check(self, gate: MotionGate | EventGate, packet: Packet, at: float) -> None:
        """Decode the packets that the closed gate returns, and check for motion."""
        batch = gate.push(packet, at, self._planner.gop_s)
        if batch is None:  # the camera has reported motion
            self._send_pre_roll(gate, packet, at, is_decoded=not packet.keyframe)
            return
        if not batch.packets:
            self._has_gap = True
            if not gate.checks_frames:
                self.checked = self.now()
            return
        for frame, captured in self._decode(batch):
            if gate.is_open:  # an earlier frame of this batch opened the gate
                self._offer(frame, captured)
            elif batch.is_alone or gate.is_check_due(captured):
                match gate.check(frame, captured):
                    case True:
                        self._send_pre_roll(gate, packet, at, is_decoded=not batch.is_alone)
                    case False:
                        self._send_idle(gate, frame, captured)

    def _send_pre_roll(self, gate: MotionGate | EventGate, packet: Packet, at: float, *, is_decoded: bool) -> None:
        """Send the due frames from before the motion.

        `packet` opened the gate. If `is_decoded` is False, the planner receives it after the pre-roll.
        """
        self._catching_up_since = self.now()
        begin, frames, batch = gate.release()
        if is_decoded:
            self._planner.resume()
        for frame, captured in chain(frames, self._decode(batch)):
            if begin <= captured and (is_decoded or captured < at):
                self._offer(frame, captured)
        if not is_decoded:
            self._plan(packet, at, packet.arrived - at)

    def _send_idle(self, gate: MotionGate | EventGate, frame: Any, at: float) -> None:
        self.checked = self.now()
        # The service also charges for these frames, so they count against the planner's budget.
        if at > self._sent and self._planner.can_add(at) and gate.accept(at):
            self._planner.add(at)
            self._send(frame, at, is_behind=False)

    def _offer(self, frame: Any, at: float) -> None:
        """Send the frame if it is due and not too late."""
        if self.gate is not None and self.gate.is_check_due(at):
            self.gate.check(frame, at)
        # The hub may have sent some frames of the pre-roll already while the gate was closed.
        if at <= self._sent or not self._planner.accept(at):
            return
        is_behind = self._catching_up_since is not None
        if not is_behind and self.now() - at > LATE_S:
            self._count_lost()
            return
        self.lag.add_sent()
        self._send(frame, at, is_behind=is_behind)

    def _send(self, frame: Any, at: float, *, is_behind: bool) -> None:
        self._sent = at
        self.on_frame(frame, at, is_behind)

    def _count_lost(self) -> None:
        self.lag.add_lost()
        self.meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="late")

    def _decode(self, batch: DecodeBatch) -> Iterator[tuple[Any, float]]:
        """Yield the frames of a batch, each with its capture time."""
        self._has_gap = self._has_gap or batch.after_gap
        for packet in batch.packets:
            if not self.is_wanted():
                return
            if batch.is_alone:
                self._has_gap, self._whole_from_s = True, None
                frames = self.source.decode(packet, is_alone=True)
            else:
                at = self._clock.captured(packet.media_s, packet.arrived)
                is_due = self._planner.can_become_due(at) or (self.gate is not None and self.gate.is_check_due(at))
                is_entry = packet.keyframe or packet.begins_refresh
                frames = self.source.decode(self._after_gap(packet) if is_entry else packet, is_due=is_due)
            for media_s, frame in frames:
                self.meter.count(catalogue.FRAMES_DECODED_TOTAL)
                if self._whole_from_s is not None and media_s is not None and media_s < self._whole_from_s:
                    continue
                if isinstance(frame, Withheld):
                    self.meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason=str(frame))
                else:
                    yield frame, self._clock.captured(media_s, packet.arrived)

    def _after_gap(self, entry: Packet) -> Packet:
        """Return the packet. Mark it as a discontinuity if the decoder may still hold frames from before a gap.

        `entry` is a keyframe or begins a refresh. Without the mark, the decoder treats the beginning of a refresh like
        any packet.
        """
        is_after_gap, self._has_gap = self._has_gap and (self.source.facts.reorders or entry.begins_refresh), False
        if not is_after_gap:
            self._whole_from_s = None
            return entry
        # In an open GOP, B-frames that come before the keyframe in presentation order also build on the previous GOP.
        self._whole_from_s = None if entry.media_s is None else entry.media_s - _SAME_TIME_S
        return replace(entry, discontinuity=True)
