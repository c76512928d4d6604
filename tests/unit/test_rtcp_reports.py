"""RTCP reports about one stream, byte by byte (RFC 3550, 6.4.2 and appendix A)."""

from __future__ import annotations

from typing import Final, NamedTuple

import pytest

from nvision_hub.media.sources.rtcp_reports import ReceiverReports

CAMERA: Final = b"cam1"


def rtp(sequence: int, media_s: float = 0.0, ssrc: bytes = CAMERA) -> bytes:
    time = int(media_s * 90_000) % 2**32
    return b"\x80\x60" + (sequence % 2**16).to_bytes(2) + time.to_bytes(4) + ssrc + b"\x65"


class Block(NamedTuple):
    """The block of a report."""

    source: bytes
    lost_share: int  # in 256ths
    lost: int
    highest: int
    jitter: int
    sender_report: bytes
    since: int

    @classmethod
    def of(cls, report: bytes) -> Block:
        assert report[:4] == b"\x81\xc9\x00\x07"
        block = report[8:32]
        numbers = [int.from_bytes(block[place : place + 4]) for place in (8, 12, 20)]
        lost = int.from_bytes(block[5:8], signed=True)
        return cls(block[:4], block[4], lost, numbers[0], numbers[1], block[16:20], numbers[2])


def test_before_the_first_packet_a_report_only_names_the_hub() -> None:
    reports = ReceiverReports()
    report = reports.report(0.0)
    own = report[4:8]
    assert report[:12] == b"\x80\xc9\x00\x01" + own + b"\x81\xca\x00\x06"
    assert report[12:18] == own + b"\x01\x10"
    assert report[18:34].isascii()
    assert report[34:] == b"\0\0"
    assert reports.empty_rtp() == b"\x80" + bytes(7) + own
    assert ReceiverReports().report(0.0)[4:8] != own


def test_lost_packets_are_counted_since_the_last_report_and_in_total() -> None:
    reports = ReceiverReports()
    for number in (1, 2, 4, 3, 6, 8):
        reports.on_rtp(rtp(number), 0.0)
    assert Block.of(reports.report(1.0)) == (CAMERA, 64, 2, 8, 0, bytes(4), 0)
    reports.on_rtp(rtp(9), 1.0)
    assert Block.of(reports.report(2.0))[:4] == (CAMERA, 0, 2, 9)
    assert Block.of(reports.report(3.0))[:4] == (CAMERA, 0, 2, 9)


def test_repeated_packets_count_as_negative_losses() -> None:
    reports = ReceiverReports()
    for number in (1, 1, 1, 2):
        reports.on_rtp(rtp(number), 0.0)
    assert Block.of(reports.report(1.0))[:4] == (CAMERA, 0, -2, 2)


def test_sequence_numbers_wrap() -> None:
    reports = ReceiverReports()
    for number in range(65534, 65534 + 2 * 65536):
        reports.on_rtp(rtp(number), 0.0)
    assert Block.of(reports.report(1.0))[:4] == (CAMERA, 0, 0, 65533 + 2 * 65536)


def test_jitter_is_the_variation_of_the_transit_time() -> None:
    reports = ReceiverReports()
    begin = 2**32 / 90_000 - 1  # the timestamp wraps after a second
    for number in range(1000):
        reports.on_rtp(rtp(number, begin + number / 25), 10 + number / 25 + (0.010 if number % 2 else 0.0))
    assert Block.of(reports.report(60.0)).jitter == pytest.approx(900, abs=2)


def test_a_report_names_the_last_sender_report() -> None:
    reports = ReceiverReports()
    sender_report = b"\x80\xc8\x00\x06" + CAMERA + b"\1\2ntp!\3\4" + bytes(12)
    assert not reports.on_rtcp(sender_report, 0.0), "no stream so far"
    reports.on_rtp(rtp(1), 0.0)
    assert reports.on_rtcp(sender_report, 10.0)
    assert reports.on_rtcp(b"\x81\xca\x00\x06" + CAMERA, 11.0)
    assert not reports.on_rtcp(sender_report.replace(CAMERA, b"cam2"), 11.0)
    assert not reports.on_rtcp(b"\x80\xc8", 11.0)
    block = Block.of(reports.report(12.5))
    assert (block.sender_report, block.since) == (b"ntp!", int(2.5 * 65536))


def test_another_stream_is_counted_from_its_beginning() -> None:
    reports = ReceiverReports()
    assert reports.on_rtp(rtp(100), 0.0)
    assert not reports.on_rtp(rtp(105), 0.0)
    assert reports.on_rtp(rtp(7, ssrc=b"cam2"), 0.0)
    assert Block.of(reports.report(1.0)) == (b"cam2", 0, 0, 7, 0, bytes(4), 0)
