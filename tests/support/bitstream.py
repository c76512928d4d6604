"""Changes to H.264 bitstreams that no encoder can produce."""

from __future__ import annotations

from typing import Final

_START_CODE: Final = b"\x00\x00\x01"
_SPS: Final = 7  # H.264, table 7-1


def without_reordering_limits(unit: bytes) -> bytes:
    """Return a coded frame whose sequence parameter set omits how many frames a decoder must hold back.

    Many cameras omit this information (H.264, E.2.1: bitstream_restriction_flag), so decoders have to guess.
    """
    head, *nals = unit.split(_START_CODE)
    return _START_CODE.join((head, *(_without_vui(nal) if nal[0] & 31 == _SPS else nal for nal in nals)))


def _without_vui(nal: bytes) -> bytes:
    payload = nal.rstrip(b"\x00").replace(b"\x00\x00\x03", b"\x00\x00")
    reader = _Bits(payload, 8 + 24)  # the header, profile, constraints and level
    profile = payload[1]
    reader.ue()  # seq_parameter_set_id
    if profile >= 100:  # High and above
        for _ in range(3):
            reader.ue()  # chroma_format_idc and the bit depths
        reader.skip(1)
        assert not reader.skip(1), "no scaling matrix"
    reader.ue()  # log2_max_frame_num
    if (kind := reader.ue()) == 0:
        reader.ue()  # log2_max_pic_order_cnt_lsb
    assert kind != 1
    reader.ue()  # max_num_ref_frames
    reader.skip(1)
    reader.ue()  # width
    reader.ue()  # height
    if not reader.skip(1):  # frame_mbs_only_flag
        reader.skip(1)
    reader.skip(1)
    if reader.skip(1):  # frame_cropping_flag
        for _ in range(4):
            reader.ue()
    bits = reader.text[: reader.at] + "01"  # no VUI, and the stop bit
    bits += "0" * (-len(bits) % 8)
    rest = int(bits, 2).to_bytes(len(bits) // 8)
    assert b"\x00\x00" not in rest, "needs no emulation prevention"
    return rest


class _Bits:
    def __init__(self, data: bytes, at: int) -> None:
        self.text = "".join(f"{byte:08b}" for byte in data)
        self.at = at

    def skip(self, count: int) -> int:
        """Return the next `count` bits as a number."""
        self.at += count
        return int(self.text[self.at - count : self.at], 2)

    def ue(self) -> int:
        """Return the next number, decoded from the Exp-Golomb code."""
        zeros = self.text.index("1", self.at) - self.at
        self.at += zeros
        return self.skip(zeros + 1) - 1
