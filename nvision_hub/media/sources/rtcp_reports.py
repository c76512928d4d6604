"""RTCP reports about one RTP stream over UDP (RFC 3550, 6.4.2). Performs no I/O.

Some cameras end the session of a receiver that sends no reports. FFmpeg sends no reports, because it receives the media
from the relay over TCP.
"""

from __future__ import annotations

import base64
import secrets
from typing import Final

_HEADER_BYTES: Final = 12  # size of the header of an RTP packet
_SENDER_REPORT, _RECEIVER_REPORT, _SOURCE_DESCRIPTION = 200, 201, 202
_SENDER_REPORT_BYTES: Final = 28  # size without report blocks
_CLOCK_HZ: Final = 90_000  # clock rate of all video formats (RFC 6184, 7798 and 2435)
_CNAME: Final = 1
_JITTER_SHARE: Final = 1 / 16  # weight of a new value in the average (RFC 3550, A.8)
_HALF: Final = 2**15  # half the number of sequence numbers
_MAX_LOST: Final = 2**23 - 1


class ReceiverReports:
    """Packet counts of one stream, and the RTCP reports about them. All times are monotonic seconds."""

    def __init__(self) -> None:
        self.source: bytes | None = None  # SSRC of the camera's stream; None before the first packet
        self._own = secrets.token_bytes(4)  # the hub's SSRC
        # Random name without meaning for the camera (RFC 7022, 4.2).
        self._name = base64.b64encode(secrets.token_bytes(12))
        self._restart(b"", 0)

    def _restart(self, source: bytes, sequence: int) -> None:
        self.source = source or None
        self._highest = sequence  # highest sequence number, with the number of wraparounds in the upper bits
        self._first = sequence
        self._received = 0
        self._reported = (0, 0)  # packets expected and received at the time of the last report
        self._jitter, self._transit = 0.0, 0.0
        # Middle 32 bits of the report's NTP time, and the time of its arrival.
        self._sender_report, self._sender_report_at = b"", 0.0

    def on_rtp(self, packet: bytes, now: float) -> bool:
        """Count a packet in order of arrival. Return whether the camera has started another stream."""
        sequence, timestamp = int.from_bytes(packet[2:4]), int.from_bytes(packet[4:8])
        source = packet[8:_HEADER_BYTES]
        transit = now * _CLOCK_HZ - timestamp
        is_new = source != self.source
        if is_new:
            self._restart(source, sequence)
            self._transit = transit
        ahead = (sequence - self._highest) % 2**16
        if ahead < _HALF:
            self._highest += ahead
        self._received += 1
        difference = (transit - self._transit + 2**31) % 2**32 - 2**31  # timestamps wrap around
        self._jitter += (abs(difference) - self._jitter) * _JITTER_SHARE
        self._transit = transit
        return is_new

    def on_rtcp(self, packet: bytes, now: float) -> bool:
        """Record the time of a sender report. Return whether the packet belongs to this stream."""
        if len(packet) < 8 or packet[4:8] != self.source:  # noqa: PLR2004 - the header and the SSRC
            return False
        if packet[1] == _SENDER_REPORT and len(packet) >= _SENDER_REPORT_BYTES:
            self._sender_report, self._sender_report_at = packet[10:14], now
        return True

    def empty_rtp(self) -> bytes:
        """Return an RTP packet without a payload."""
        return b"\x80" + bytes(7) + self._own

    def report(self, now: float) -> bytes:
        """Return a report together with the hub's name, which each report must contain (RFC 3550, 6.1)."""
        block = b"" if self.source is None else self._block(self.source, now)
        name = self._own + bytes([_CNAME, len(self._name)]) + self._name
        name += bytes(4 - len(name) % 4)  # at least one zero byte ends the list
        return _rtcp(_RECEIVER_REPORT, self._own + block, int(bool(block))) + _rtcp(_SOURCE_DESCRIPTION, name, 1)

    def _block(self, source: bytes, now: float) -> bytes:
        expected = self._highest - self._first + 1
        newly_expected, newly_received = expected - self._reported[0], self._received - self._reported[1]
        self._reported = expected, self._received
        newly_lost = newly_expected - newly_received  # negative if packets were repeated
        share = 0 if newly_expected <= 0 or newly_lost <= 0 else min(255, 256 * newly_lost // newly_expected)
        lost = max(-_MAX_LOST - 1, min(_MAX_LOST, expected - self._received))
        since = int((now - self._sender_report_at) * 2**16) % 2**32 if self._sender_report else 0
        return (
            source
            + bytes([share])
            + lost.to_bytes(3, signed=True)
            + (self._highest % 2**32).to_bytes(4)
            + min(int(self._jitter), 2**32 - 1).to_bytes(4)
            + (self._sender_report or bytes(4))
            + since.to_bytes(4)
        )


def _rtcp(kind: int, content: bytes, count: int) -> bytes:
    return bytes([0x80 | count, kind]) + (len(content) // 4).to_bytes(2) + content
