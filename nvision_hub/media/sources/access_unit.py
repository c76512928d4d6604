"""Properties of coded H.264 and H.265 frames that FFmpeg's packets do not reveal. Performs no I/O.

Some cameras send no keyframes. With intra-refresh, each frame contains a few columns without references to earlier
frames. After a number of frames, the camera has renewed the whole image. The SEI message "recovery point" marks the
first frame of this refresh. In H.264, FFmpeg reports this frame as a keyframe, although it does not contain the whole
image.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

_START_CODE: Final = b"\x00\x00\x01"
_MAX_HEAD_BYTES: Final = 4096  # parameter sets and SEI messages precede the first slice
_RECOVERY_POINT: Final = 6  # payload type of the SEI message (H.264, D.1.1; H.265, D.2.1)


class _Codec(NamedTuple):
    """NAL unit types of one codec (H.264, table 7-1; H.265, table 7-1)."""

    header_bytes: int
    sei: int
    slices: range
    keyframes: range
    # Position of the size of a NAL unit's length in the decoder configuration record of MP4 and Matroska.
    length_at: int


_CODECS: Final = {
    "h264": _Codec(header_bytes=1, sei=6, slices=range(1, 6), keyframes=range(5, 6), length_at=4),
    "hevc": _Codec(header_bytes=2, sei=39, slices=range(32), keyframes=range(16, 24), length_at=21),
}


class AccessUnits:
    """Reader of one stream's coded frames. `extradata` comes from the stream's container; None or empty over RTSP."""

    def __init__(self, codec: str, extradata: bytes | None) -> None:
        self._name, self._codec = codec, _CODECS.get(codec)
        # A first byte of 1 identifies a configuration record. Each NAL unit then begins with its length instead of a
        # start code.
        self._length_bytes = 0
        if self._codec is not None and extradata and extradata[0] == 1 and len(extradata) > self._codec.length_at:
            self._length_bytes = (extradata[self._codec.length_at] & 3) + 1

    def begins_refresh(self, packet: Any, *, keyframe: bool) -> bool:
        """Return whether a gradual refresh begins at this frame, which renews the whole image some frames later.

        `packet` supports the buffer protocol. `keyframe` says whether FFmpeg reports the frame as a keyframe.
        """
        codec = self._codec
        if codec is None or (keyframe and self._name == "hevc") or (not keyframe and self._name == "h264"):
            return False
        is_refresh = False
        for nal in self._nals(memoryview(packet)[:_MAX_HEAD_BYTES].tobytes()):
            kind = nal[0] & 31 if codec.header_bytes == 1 else nal[0] >> 1 & 63
            if kind == codec.sei:
                is_refresh = is_refresh or _recovers_later(nal[codec.header_bytes :], signed=codec.header_bytes > 1)
            elif kind in codec.slices:
                return is_refresh and kind not in codec.keyframes
        return False

    def _nals(self, data: bytes) -> Iterator[bytes]:
        """Yield the NAL units that begin in `data`. The last one may be incomplete."""
        if not self._length_bytes:
            yield from filter(None, data.split(_START_CODE)[1:])
            return
        position = 0
        while position + self._length_bytes < len(data):
            begin = position + self._length_bytes
            position = begin + int.from_bytes(data[position:begin])
            if position > begin:
                yield data[begin:position]


def _recovers_later(message: bytes, *, signed: bool) -> bool:
    """Return whether SEI messages contain a recovery point later than this frame (H.264, 7.3.2.3.1 and D.1.8)."""
    data = message.replace(b"\x00\x00\x03", b"\x00\x00")
    position = 0
    while position + 2 < len(data):
        kind, position = _sum_of_bytes(data, position)
        size, position = _sum_of_bytes(data, position)
        if kind == _RECOVERY_POINT and position < len(data):
            # The number of frames is an Exp-Golomb code, so a first bit of 1 means 0 (H.264, 9.1). In H.265, the number
            # is signed, and a last bit of 1 means a negative number (H.265, 9.2.2).
            bits = "".join(f"{byte:08b}" for byte in data[position : position + size])
            zeros = len(bits) - len(bits.lstrip("0"))
            return zeros > 0 and not (signed and bits[2 * zeros : 2 * zeros + 1] == "1")
        position += size
    return False


def _sum_of_bytes(data: bytes, position: int) -> tuple[int, int]:
    """Return a number that is coded as the sum of bytes up to the first byte below 255, and the position after it."""
    number = 0
    while position < len(data):
        number += data[position]
        position += 1
        if data[position - 1] != 0xFF:  # noqa: PLR2004 - the continuation byte
            break
    return number, position
