"""Loss of RTP packets (RFC 3550): detects missing packets, and marks the frames that they damage. Performs no I/O.

FFmpeg passes incomplete H.265 frames to the decoder without a sign of damage, and the decoder does not notice that a
reference frame is missing. `LossMarker` therefore inserts a NAL unit of filler data into the frame before a gap.
Decoders ignore filler data (H.264, 7.3.2.7; H.265, 7.3.2.8), and the source finds the mark in FFmpeg's packet. A mark
travels with the video, so no clock has to relate RTP packets to FFmpeg's packets.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_HEADER_BYTES: Final = 12
_SEQUENCES: Final = 2**16
_MAX_REORDERED: Final = 500  # maximum number of packets that wait for an earlier packet
_MAX_REORDER_S: Final = 0.1  # FFmpeg also waits this long for UDP packets
_AVERAGED: Final = 400
_MIN_SHARE: Final = 1e-4
_MARK_BYTES: Final = 12
_INCOMPLETE, _LOST_AFTER = 0x81, 0x82  # kinds of marks; they contain no zero bytes, which could imitate a start code

# Types of NAL units and RTP payloads (H.264, table 7-1; RFC 6184, 5.2; H.265, table 7-1; RFC 7798, 4.4).
_H264_FIRST: Final = frozenset({6, 7, 8, 9})  # types that begin a frame: SEI, parameter sets, delimiter
_H264_STAP_A, _H264_FU_A = 24, 28
_H265_FIRST: Final = frozenset({32, 33, 34, 35, 39})
_H265_SLICES: Final = 32
_H265_AP, _H265_FU = 48, 49
_FILLER: Final = {"H264": b"\x0c", "H265": b"\x4c\x01"}


class RtpHeader(NamedTuple):
    """The fields of an RTP packet that this module needs."""

    sequence: int
    timestamp: int
    marker: bool  # whether the packet is the last one of its frame
    payload_type: int
    payload: bytes


def parse(packet: bytes) -> RtpHeader | None:
    """Return the header and the payload; None if the packet is not an RTP packet."""
    if len(packet) < _HEADER_BYTES or packet[0] >> 6 != 2:  # noqa: PLR2004 - the version of RTP
        return None
    begin = _HEADER_BYTES + 4 * (packet[0] & 15)
    if packet[0] & 0x10:  # the packet has an extension, whose third and fourth bytes contain its length in words
        begin += 4 + 4 * int.from_bytes(packet[begin + 2 : begin + 4])
    return RtpHeader(
        sequence=int.from_bytes(packet[2:4]),
        timestamp=int.from_bytes(packet[4:8]),
        marker=bool(packet[1] & 0x80),
        payload_type=packet[1] & 0x7F,
        payload=packet[begin:],
    )


class ReorderBuffer:
    """Buffer that restores the order of datagrams. All times are monotonic seconds."""

    def __init__(self) -> None:
        self._next: int | None = None
        self._waiting: dict[int, tuple[float, bytes]] = {}  # by sequence number: time of arrival, and the packet

    @property
    def is_waiting(self) -> bool:
        """Whether packets are waiting for an earlier packet."""
        return bool(self._waiting)

    def push(self, packet: bytes, now: float) -> Iterator[bytes]:
        """Yield the packets that are now in order. Ignore duplicates and packets that arrive too late."""
        header = parse(packet)
        if header is None:
            return
        ahead = 0 if self._next is None else (header.sequence - self._next) % _SEQUENCES
        if ahead >= _SEQUENCES - _MAX_REORDERED:
            return
        self._waiting[header.sequence] = now, packet
        if ahead > _MAX_REORDERED:  # the camera has started another sequence
            yield from self.restart()
            self._next = (header.sequence + 1) % _SEQUENCES
        else:
            yield from self.release(now)

    def release(self, now: float) -> Iterator[bytes]:
        """Yield the packets that are in order or have waited too long."""
        while self._waiting:
            number = self._first()
            arrived, packet = self._waiting[number]
            is_overdue = now - arrived >= _MAX_REORDER_S or len(self._waiting) >= _MAX_REORDERED
            if number != self._next and self._next is not None and not is_overdue:
                return
            del self._waiting[number]
            self._next = (number + 1) % _SEQUENCES
            yield packet

    def _first(self) -> int:
        """Return the first sequence number of the waiting packets."""
        begin = next(iter(self._waiting)) if self._next is None else self._next
        return min(self._waiting, key=lambda sequence: (sequence - begin) % _SEQUENCES)

    def restart(self) -> Iterator[bytes]:
        """Yield all waiting packets, and accept any sequence number in the next packet."""
        packets = [packet for _, packet in self._waiting.values()]
        self._waiting.clear()
        self._next = None
        yield from packets


class LossMarks:
    """Marks of one connection. The relay's thread inserts them, and the capture thread finds them."""

    def __init__(self) -> None:
        self.inserted = 0
        self.lost_share = 0.0  # share of lost packets among approximately the last `_AVERAGED` packets
        self._found = 0
        # A camera cannot know this mark. The mark contains no zero bytes, which could imitate a start code.
        self._mark = bytes(1 + byte % 255 for byte in secrets.token_bytes(_MARK_BYTES))

    def create(self, codec: str, *, incomplete: bool) -> bytes:
        """Return a NAL unit which marks that a gap follows the preceding frame.

        `incomplete` means that the gap begins within this frame.
        """
        self.inserted += 1
        return _FILLER[codec] + self._mark + bytes([_INCOMPLETE if incomplete else _LOST_AFTER])

    def count(self, lost: int) -> None:
        """Count a packet that has arrived after `lost` missing packets."""
        share = 1 - (1 - self.lost_share) * (1 - 1 / _AVERAGED) ** min(lost, _AVERAGED)
        share *= 1 - 1 / _AVERAGED
        self.lost_share = share if share > _MIN_SHARE else 0.0

    def find(self, data: bytes) -> tuple[bool, bool]:
        """Return whether a coded frame is incomplete, and whether packets are missing after it."""
        kinds = [part[0] for part in data.split(self._mark)[1:] if part]
        self._found += len(kinds)
        return _INCOMPLETE in kinds, bool(kinds)

    @property
    def is_pending(self) -> bool:
        """Whether an inserted mark has not been found yet."""
        return self.inserted > self._found


class LossMarker:
    """Marker of gaps in one sequence of RTP packets. `codecs` maps payload types to their SDP names."""

    def __init__(self, codecs: dict[int, str], marks: LossMarks) -> None:
        self._codecs, self._marks = codecs, marks
        self._last: bytes | None = None
        self._next = -1  # sequence number of the next packet; -1 before the first packet
        self._dropped: int | None = None  # timestamp of a frame whose beginning was lost

    def push(self, packet: bytes) -> list[bytes]:
        """Return the packets to forward in place of the next packet."""
        if self._dropped is None and len(packet) >= _HEADER_BYTES and packet[2] << 8 | packet[3] == self._next:
            # Nearly every packet ends here. Parsing each packet would take another 0.3 % of a core (measured at 4
            # Mbit/s).
            self._last, self._next = packet, (self._next + 1) % _SEQUENCES
            if self._marks.lost_share:
                self._marks.count(0)
            return [packet]
        return self._push_after_gap(packet)

    def _push_after_gap(self, packet: bytes) -> list[bytes]:
        header = parse(packet)
        last = None if self._last is None else parse(self._last)
        codec = None if header is None else self._codecs.get(header.payload_type)
        if header is None or codec is None:
            return [packet]
        out = []
        missing = 0 if last is None else (header.sequence - last.sequence - 1) % _SEQUENCES
        if self._last is not None and self._last[8:_HEADER_BYTES] != packet[8:_HEADER_BYTES]:
            missing = 1  # another stream (SSRC), whose numbers do not continue the earlier numbers
        if missing >= _SEQUENCES - _MAX_REORDERED:  # a packet that the camera sent late or twice
            return []
        self._last, self._next = packet, (header.sequence + 1) % _SEQUENCES
        self._marks.count(missing)
        if last is not None and missing:
            is_same = header.timestamp == last.timestamp
            nal = self._marks.create(codec, incomplete=is_same or not last.marker)
            out.append(_in_place_of_lost(packet, header, last, nal))
            # FFmpeg would treat the rest of a frame without its beginning as a part of the previous frame.
            self._dropped = None if is_same or _begins_frame(codec, header.payload) else header.timestamp
        if header.timestamp == self._dropped:
            return out
        self._dropped = None
        out.append(packet)
        return out


def _in_place_of_lost(packet: bytes, header: RtpHeader, last: RtpHeader, payload: bytes) -> bytes:
    """Return an RTP packet with the number of the packet lost before `packet` and the time of the frame before it."""
    sequence = (header.sequence - 1) % _SEQUENCES
    kind = bytes([0x80, header.payload_type])
    return kind + sequence.to_bytes(2) + last.timestamp.to_bytes(4) + packet[8:_HEADER_BYTES] + payload


def _begins_frame(codec: str, payload: bytes) -> bool:
    """Return whether a payload begins a frame: with a parameter set, a delimiter, SEI, or the frame's first slice."""
    padded = payload + bytes(8)
    if codec == "H264":
        kind, at = padded[0] & 31, 0
        if kind == _H264_STAP_A:
            kind, at = padded[3] & 31, 3
        elif kind == _H264_FU_A:
            kind, at = padded[1] & 31 if padded[1] & 0x80 else 0, 1
        # first_mb_in_slice is 0 if its first bit is 1 (H.264, 7.3.3)
        return kind in _H264_FIRST or (kind in {1, 5} and bool(padded[at + 1] & 0x80))
    kind, at = padded[0] >> 1 & 63, 0
    if kind == _H265_AP:
        kind, at = padded[4] >> 1 & 63, 4
    elif kind == _H265_FU:
        kind, at = padded[2] & 63 if padded[2] & 0x80 else _H265_FU, 1
    # first_slice_segment_in_pic_flag (H.265, 7.3.6.1)
    return kind in _H265_FIRST or (kind < _H265_SLICES and bool(padded[at + 2] & 0x80))
