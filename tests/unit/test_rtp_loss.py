"""Which packets FFmpeg receives if RTP packets are lost, late, repeated or out of order."""

from __future__ import annotations

from typing import Final

import pytest

from nvision_hub.media.sources.rtp_loss import LossMarker, LossMarks, ReorderBuffer, parse
from nvision_hub.media.sources.rtp_media import Interleaved, MediaPath

H264: Final = 96
H265: Final = 97
OTHER: Final = 98
FIRST_SLICE, NEXT_SLICE = b"\x41\x9a", b"\x41\x44"
FIRST_PART, NEXT_PART = b"\x7c\x85\x88", b"\x7c\x05\x88"  # of a fragmented slice (FU-A)


def rtp(number: int, frame: int, payload: bytes = FIRST_SLICE, *, last: bool = False, kind: int = H264) -> bytes:
    head = bytes([0x80, kind | (0x80 if last else 0)])
    return head + (number % 65536).to_bytes(2) + (frame * 3600).to_bytes(4) + b"ssrc" + payload


@pytest.fixture
def marks() -> LossMarks:
    return LossMarks()


@pytest.fixture
def marker(marks: LossMarks) -> LossMarker:
    return LossMarker({H264: "H264", H265: "H265"}, marks)


def numbers(packets: list[bytes]) -> list[int]:
    return [header.sequence for header in map(parse, packets) if header is not None]


def test_without_loss_packets_are_unchanged(marker: LossMarker, marks: LossMarks) -> None:
    sent = [rtp(number, number // 2, last=number % 2 == 1) for number in range(65530, 65542)]
    assert [each for packet in sent for each in marker.push(packet)] == sent
    assert not marks.is_pending
    assert marks.lost_share == 0


def test_a_gap_within_a_frame_marks_this_frame(marker: LossMarker, marks: LossMarks) -> None:
    marker.push(rtp(1, 5, FIRST_PART))
    out = marker.push(rtp(3, 5, NEXT_PART, last=True))
    assert numbers(out) == [2, 3]
    mark = parse(out[0])
    assert mark is not None
    assert (mark.timestamp, mark.payload[0], mark.payload_type) == (5 * 3600, 12, H264)
    assert marks.is_pending
    assert marks.find(FIRST_SLICE + mark.payload + NEXT_PART) == (True, True)
    assert not marks.is_pending


def test_a_gap_between_frames_marks_the_frame_before(marker: LossMarker, marks: LossMarks) -> None:
    marker.push(rtp(1, 5, last=True))
    out = marker.push(rtp(3, 6))
    assert numbers(out) == [2, 3]
    mark = parse(out[0])
    assert mark is not None
    assert mark.timestamp == 5 * 3600
    assert marks.find(mark.payload) == (False, True)


@pytest.mark.parametrize("payload", [NEXT_SLICE, NEXT_PART, b"\x7c\x45\x88"])
def test_a_frame_that_has_lost_its_beginning_is_dropped(marker: LossMarker, marks: LossMarks, payload: bytes) -> None:
    marker.push(rtp(1, 5))
    out = marker.push(rtp(3, 6, payload))
    assert numbers(out) == [2]
    assert marks.find(out[0]) == (True, True), "the end of frame 5 is missing as well"
    assert marker.push(rtp(4, 6, NEXT_SLICE, last=True)) == []
    assert numbers(marker.push(rtp(5, 7))) == [5]


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (H264, b"\x67\x64"),
        (H264, b"\x18\0\2\x67\x64"),
        (H264, FIRST_PART),
        (H265, b"\x40\x01\x0c"),
        (H265, b"\x02\x01\xd0"),
        (H265, b"\x60\x01\0\2\x40\x01"),
        (H265, b"\x62\x01\x93\xaf"),
    ],
)
def test_a_frame_that_has_its_beginning_is_forwarded(marker: LossMarker, kind: int, payload: bytes) -> None:
    marker.push(rtp(1, 5, last=True, kind=kind))
    assert numbers(marker.push(rtp(3, 6, payload, kind=kind))) == [2, 3]


def test_other_codecs_are_not_marked(marker: LossMarker, marks: LossMarks) -> None:
    assert numbers(marker.push(rtp(1, 5, kind=OTHER)) + marker.push(rtp(9, 6, kind=OTHER))) == [1, 9]
    assert not marks.is_pending
    assert marker.push(b"\x80") == [b"\x80"]


def test_the_share_of_lost_packets_is_an_average(marker: LossMarker, marks: LossMarks) -> None:
    for number in range(2000):
        if number % 20:
            marker.push(rtp(number, number, last=True))
    assert marks.lost_share == pytest.approx(0.05, abs=0.005)


def test_datagrams_are_put_in_order() -> None:
    order = ReorderBuffer()
    packets = {number: rtp(number, number) for number in (65534, 65535, 65536, 65537)}
    assert list(order.push(packets[65534], 0.0)) == [packets[65534]]
    assert list(order.push(packets[65536], 0.0)) == []
    assert order.is_waiting
    assert list(order.push(packets[65537], 0.0)) == []
    assert list(order.push(packets[65535], 0.01)) == [packets[65535], packets[65536], packets[65537]]
    assert list(order.push(packets[65535], 0.01)) == [], "repeated"
    assert not order.is_waiting


def test_a_datagram_waits_for_an_earlier_one_for_a_limited_time() -> None:
    order = ReorderBuffer()
    list(order.push(rtp(1, 1), 0.0))
    assert list(order.push(rtp(3, 3), 1.0)) == []
    assert list(order.release(1.05)) == []
    assert numbers(list(order.release(1.11))) == [3]
    assert numbers(list(order.push(rtp(4, 4), 1.12))) == [4]


def test_a_camera_may_begin_another_sequence() -> None:
    order = ReorderBuffer()
    list(order.push(rtp(1, 1), 0.0))
    assert numbers(list(order.push(rtp(30000, 2), 0.0)) + list(order.push(rtp(30001, 3), 0.0))) == [30000, 30001]


def test_packets_on_the_connection_may_arrive_in_parts() -> None:
    packets = [(0, rtp(1, 1)), (1, b"rtcp"), (0, rtp(3, 2))]
    data = b"".join(b"$" + bytes([channel]) + len(each).to_bytes(2) + each for channel, each in packets)
    reader = Interleaved()
    assert [each for place in range(len(data)) for each in reader.feed(data[place : place + 1])] == packets
    path = MediaPath(b"m=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n")
    out = b"".join(path.feed(data[place : place + 1]) for place in range(len(data)))
    channels = [channel for channel, _ in Interleaved().feed(out)]
    assert channels == [0, 1, 0, 0], "a mark takes the place of packet 2"
    assert MediaPath(b"m=video 0 RTP/AVP 26\r\n").feed(data) == data


def test_many_lost_datagrams_delay_each_packet_for_a_limited_time() -> None:
    order, waits, arrived = ReorderBuffer(), list[float](), dict[int, float]()
    for number in range(3000):
        now = number / 250
        if number % 10:
            arrived[number] = now
        released = order.push(rtp(number, number), now) if number % 10 else order.release(now)
        waits += [now - arrived[each] for each in numbers(list(released))]
    assert len(waits) > 2600
    assert max(waits) <= 0.1 + 1 / 250 + 1e-6
