"""Parser for RTSP messages and interleaved media packets (RFC 2326, 10.12). Performs no I/O.

An RTSP connection over TCP carries text messages and media packets. A packet begins with `$`, a channel number and its
length.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from nvision_hub.control_characters import replace_control_characters

if TYPE_CHECKING:
    from collections.abc import Iterator

_DOLLAR: Final = 0x24
_PACKET_HEAD_BYTES: Final = 4
_MAX_HEAD_BYTES: Final = 16 * 1024
_MAX_BODY_BYTES: Final = 64 * 1024
# Limit for Content-Length, because `int` raises `ValueError` for a number of more than 4,300 digits.
_MAX_LENGTH_DIGITS: Final = 9
_START: Final = re.compile(rb"[A-Z_]{1,16}(?:[ /]|\Z)")  # start of a message, or the part of it that has arrived
_START_BYTES: Final = 17
# FFmpeg separates words only at spaces and tabs. With `\s`, the hub and FFmpeg could read different statuses in a line.
_STATUS: Final = re.compile(r"RTSP/[!-~]*[ \t]+([0-9]{3})(?![0-9])")
_LINE_END: Final = re.compile(r"[\r\n]+")
_HEADER_NAME: Final = re.compile(r"[\w!#%&'*+.^`|~-]+", re.ASCII)  # RFC 9110, 5.6.2, without the dollar sign
_REQUEST: Final = re.compile(r"[A-Z_]+ \S+ RTSP/")


class RtspSyntaxError(ValueError):
    """The peer sends data that is not RTSP."""


class RtspTooLongError(ValueError):
    """The peer sends a message that exceeds the limits."""


@dataclass(frozen=True, slots=True)
class RtspMessage:
    """A request or a response. In its text, a lone surrogate represents each byte that is not UTF-8.

    A message from `RtspReader` has the same meaning for FFmpeg: it contains no control characters except tabs, and no
    header with an invalid name.
    """

    start: str  # the first line
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""

    @property
    def is_response(self) -> bool:
        return self.start.startswith("RTSP/")

    @property
    def status(self) -> int:
        """The status of a response; 0 for a request."""
        found = _STATUS.match(self.start)
        return int(found[1]) if found else 0

    @property
    def sequence(self) -> int | None:
        """The number in CSeq; None if it is missing or malformed."""
        text = (self.values("CSeq") or [""])[0]
        return int(text) if text.isascii() and text.isdecimal() and len(text) <= _MAX_LENGTH_DIGITS else None

    def values(self, name: str) -> list[str]:
        """Return the values of all headers with this name."""
        return [value for known, value in self.headers if known.lower() == name.lower()]

    def with_header(self, name: str, value: str | None) -> RtspMessage:
        """Return the message with exactly one header of this name, or with none if `value` is None."""
        kept = tuple((known, text) for known, text in self.headers if known.lower() != name.lower())
        return replace(self, headers=kept if value is None else (*kept, (name, value)))

    def encode(self) -> bytes:
        """Encode the message for the peer, with the Content-Length of its body."""
        sized = self.with_header("Content-Length", str(len(self.body)) if self.body else None)
        lines = [sized.start, *(f"{name}: {value}" for name, value in sized.headers), "", ""]
        return "\r\n".join(lines).encode("utf-8", "surrogateescape") + self.body


class RtspReader:
    """Reader that splits one direction of an RTSP connection into messages and media packets.

    Some cameras send stray bytes between packets. With `resyncs`, the reader skips bytes until the next `$`. Without
    it, stray bytes raise `RtspSyntaxError`.
    """

    def __init__(self) -> None:
        self.resyncs = False
        self._text = b""  # the beginning of a message or of a packet header
        self._packet_left = 0  # number of bytes of the current packet that are still missing

    def feed(self, data: bytes) -> Iterator[bytes | RtspMessage]:
        """Yield the media data in `data` as bytes (several packets or parts of them), and every complete message.

        Raises `RtspSyntaxError` and `RtspTooLongError`.
        """
        data, self._text = self._text + data if self._text else data, b""
        while data:
            if end := self._packets_end(data):
                yield data[:end] if end < len(data) else data
                data = data[end:]
            elif data[0] == _DOLLAR:  # the header of a packet is incomplete
                self._text = data
                return
            elif data[0] in b"\r\n":
                data = data.lstrip(b"\r\n")
            elif not _START.match(data[:_START_BYTES]):
                data = self._resynced(data)
            else:
                message, data = _message(data)
                if message is None:
                    self._text = data
                    return
                if message.status or _REQUEST.match(message.start):
                    yield message
                elif not self.resyncs:
                    raise RtspSyntaxError(message.start[:40])

    def _resynced(self, data: bytes) -> bytes:
        if not self.resyncs:
            raise RtspSyntaxError(repr(data[:_START_BYTES]))
        next_packet = data.find(b"$")
        return b"" if next_packet < 0 else data[next_packet:]

    def _packets_end(self, data: bytes) -> int:
        """Return the position at which the media packets at the beginning of `data` end."""
        position, size = self._packet_left, len(data)
        while position + _PACKET_HEAD_BYTES <= size and data[position] == _DOLLAR:
            position += _PACKET_HEAD_BYTES + (data[position + 2] << 8 | data[position + 3])
        self._packet_left = max(0, position - size)
        return min(position, size)


def _message(data: bytes) -> tuple[RtspMessage | None, bytes]:
    """Return the message at the beginning of `data` (None if it is incomplete) and the bytes after it."""
    head, blank, rest = data.partition(b"\r\n\r\n")
    if len(head) > _MAX_HEAD_BYTES:
        raise RtspTooLongError
    if not blank:
        return None, data
    # FFmpeg also ends a line at a single line feed. Otherwise, a peer could hide a second message in a header.
    # For FFmpeg, a line that begins with a zero byte ends the message, and a line that begins with `$` is a media
    # packet.
    lines = filter(None, _LINE_END.split(head.decode("utf-8", "surrogateescape")))
    start, *rows = (replace_control_characters(line) for line in lines)
    pairs = ((name.strip(), value.strip()) for name, _, value in (row.partition(":") for row in rows))
    message = RtspMessage(start.strip(), tuple(pair for pair in pairs if _HEADER_NAME.fullmatch(pair[0])))
    size = _body_bytes(message)
    if len(rest) < size:
        return None, data
    return replace(message, body=rest[:size]), rest[size:]


def _body_bytes(message: RtspMessage) -> int:
    """Return the size of the body; 0 if Content-Length is not a number."""
    text = (message.values("Content-Length") or ["0"])[0]
    if not (text.isascii() and text.isdecimal()):
        return 0
    if len(text) > _MAX_LENGTH_DIGITS or int(text) > _MAX_BODY_BYTES:
        raise RtspTooLongError
    return int(text)
