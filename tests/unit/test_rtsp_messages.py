"""The RTSP parser: the same messages and packets for any split of the bytes, and an error or a result for any bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.media.sources.rtsp_messages import RtspMessage, RtspReader, RtspSyntaxError, RtspTooLongError

RESPONSE = RtspMessage("RTSP/1.0 200 OK", (("CSeq", "7"), ("Content-Length", "3")), b"v=0")
PLAYING = RtspMessage("RTSP/1.0 200 OK", (("CSeq", "8"),))
REQUEST = RtspMessage("OPTIONS rtsp://10.0.0.5/cam RTSP/1.0", (("CSeq", "1"), ("X-Latin", "\udce9")))


def packet(size: int, channel: int = 0) -> bytes:
    return b"$" + bytes([channel]) + size.to_bytes(2, "big") + b"$" * size


STREAM = b"".join(
    (RESPONSE.encode(), packet(0), packet(1400), PLAYING.encode(), packet(3), b"\r\n", REQUEST.encode(), packet(1))
)


def read(data: bytes, cuts: list[int], *, resyncs: bool = False) -> tuple[bytes, list[RtspMessage]]:
    """Return all packets as one string, and all messages."""
    reader = RtspReader()
    reader.resyncs = resyncs
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    found = [part for start, end in itertools.pairwise(places) for part in reader.feed(data[start:end])]
    packets = b"".join(part for part in found if isinstance(part, bytes))
    return packets, [part for part in found if isinstance(part, RtspMessage)]


@given(cuts=st.lists(st.integers(0, 4000), max_size=40))
def test_any_split_gives_the_same_packets_and_messages(cuts: list[int]) -> None:
    packets, messages = read(STREAM, cuts)
    assert packets == packet(0) + packet(1400) + packet(3) + packet(1)
    assert messages == [RESPONSE, PLAYING, REQUEST]


def test_single_bytes_give_the_same_packets_and_messages() -> None:
    packets, messages = read(STREAM, [*range(len(STREAM))])
    assert packets == packet(0) + packet(1400) + packet(3) + packet(1)
    assert messages == [RESPONSE, PLAYING, REQUEST]


def test_a_chunk_of_packets_is_not_copied() -> None:
    chunk = packet(1400) * 20 + packet(1400)[:100]
    assert next(RtspReader().feed(chunk)) is chunk


def test_stray_bytes_are_an_error_or_skipped() -> None:
    stray = packet(3) + b"\x00\xffgarbage\r\n\r\n" + packet(4)
    with pytest.raises(RtspSyntaxError):
        read(stray, [])
    assert read(stray, [], resyncs=True)[0] == packet(3) + packet(4)


@pytest.mark.parametrize(
    "text",
    [
        b"RTSP/1.0 200 OK\r\n" + b"X: y\r\n" * 5000,
        b"RTSP/1.0 200 OK\r\nContent-Length: " + b"9" * 5000 + b"\r\n\r\n",
        b"RTSP/1.0 200 OK\r\nContent-Length: 65537\r\n\r\n",
    ],
)
def test_long_messages_are_an_error(text: bytes) -> None:
    with pytest.raises(RtspTooLongError):
        read(text, [])


@pytest.mark.parametrize(
    "text", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9\r\n", b"RTSP/1.0 OK\r\n\r\n"]
)
def test_other_protocols_are_an_error(text: bytes) -> None:
    with pytest.raises(RtspSyntaxError):
        read(text, [])


def test_a_message_hidden_in_a_header_stays_a_header() -> None:
    hidden = b"RTSP/1.0 200 OK\r\nContent-Length: +9\r\nX: y\n\nRTSP/1.0 302 Found\nLocation: rtsp://other/\r\n\r\n"
    _, (message,) = read(hidden, [])
    assert b"\r\n\r\n" not in message.encode()[:-4]
    assert message.encode().count(b"\n") == message.encode().count(b"\r\n")
    assert b"+9" not in message.encode()


@pytest.mark.parametrize("line", [b"\0: ", b"\0", b"$\x01\x01\x01: ", b"$ABC: y", b": y", b"RTSP/1.0 302 Found"])
def test_lines_that_are_no_headers_are_removed(line: bytes) -> None:
    _, (message,) = read(b"RTSP/1.0 200 OK\r\n%s\r\nX: a\0b\r\n\r\n" % line, [])
    assert message.encode() == b"RTSP/1.0 200 OK\r\nX: a?b\r\n\r\n"


@pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\xa0", "\u2003"])
def test_only_spaces_and_tabs_separate_the_status(space: str) -> None:
    assert RtspMessage(f"RTSP/1.0{space}200 302 Found").status == 0


def test_headers_are_replaced_regardless_of_case() -> None:
    changed = RESPONSE.with_header("cseq", "9").with_header("CONTENT-LENGTH", None)
    assert changed.headers == (("cseq", "9"),)
    assert changed.sequence == 9
    assert changed.with_header("CSeq", "\u0663").sequence is None


FRAGMENTS = st.sampled_from(
    [
        b"$",
        b"\r\n",
        b"\r\n\r\n",
        b"RTSP/1.0 200 OK\r\n",
        b"OPTIONS * RTSP/1.0",
        b"CSeq: 1",
        b"Content-Length: 9",
        b":",
        b"$\x00\x00\x05",
        b"\xff",
        b" ",
    ]
) | st.binary(max_size=8)


@given(parts=st.lists(FRAGMENTS, max_size=30), cuts=st.lists(st.integers(0, 300), max_size=8), resyncs=st.booleans())
def test_any_bytes_give_packets_messages_or_an_error(parts: list[bytes], cuts: list[int], *, resyncs: bool) -> None:
    data = b"".join(parts)
    try:
        packets, messages = read(data, cuts, resyncs=resyncs)
    except (RtspSyntaxError, RtspTooLongError):
        return
    assert len(packets) + sum(len(message.body) for message in messages) <= len(data)
    for message in messages:
        assert message.is_response is (message.status > 0)
        lines = [message.start, *(f"{name}: {value}" for name, value in message.headers)]
        assert all(line and not set(line) & {"\r", "\n"} for line in lines)
