"""Where a gradual refresh begins, in bitstreams of real encoders and in single SEI messages."""

from __future__ import annotations

import pytest

from nvision_hub.media.sources.access_unit import AccessUnits
from tests.support import encodings

START = b"\0\0\0\1"
H264_SLICE, H264_KEYFRAME = b"\x41\x9a", b"\x65\x88"
H265_SLICE, H265_KEYFRAME = b"\x02\x01\xd0", b"\x26\x01\xaf"
H265_SEI = b"\x4e\x01"


@pytest.mark.parametrize(
    ("name", "begins"), [("x264, intra-refresh", [50, 75]), ("x264, open GOP", []), ("x264, B-frames", [])]
)
def test_a_refresh_begins_only_in_streams_without_keyframes(name: str, begins: list[int]) -> None:
    units = encodings.make(encodings.ENCODINGS[name], 4)[:70]
    reader = AccessUnits("h264", None)
    assert [unit.pts for unit in units if reader.begins_refresh(unit.data, keyframe=True)] == begins
    assert not any(reader.begins_refresh(unit.data, keyframe=False) for unit in units)


def message(payload: bytes, kind: int = 6) -> bytes:
    return bytes([kind, len(payload)]) + payload + b"\x80"


@pytest.mark.parametrize(
    ("sei", "begins"),
    [
        (message(b"\x09\x20"), True),  # 17 frames
        (message(b"\xc0"), False),  # the frame itself is whole
        (message(b"\x09\x20", kind=5), False),
        (message(b"\xff" * 16, kind=5)[:-1] + message(b"\x09\x20"), True),
        (b"\xff\xff\x06\x02\x09\x20\x80", False),  # type 516
        (b"\x06", False),
        (b"", False),
    ],
)
def test_the_recovery_point_decides(sei: bytes, begins: bool) -> None:  # noqa: FBT001 - a case
    unit = START + b"\x09\xf0" + START + b"\x06" + sei + START
    reader = AccessUnits("h264", b"")
    assert reader.begins_refresh(unit + H264_SLICE, keyframe=True) == begins
    assert not reader.begins_refresh(unit + H264_KEYFRAME, keyframe=True)


@pytest.mark.parametrize(("payload", "begins"), [(b"\x09\x40", True), (b"\x09\xc0", False), (b"\xc0", False)])
def test_h265_counts_the_frames_with_a_sign(payload: bytes, begins: bool) -> None:  # noqa: FBT001 - a case
    unit = START + H265_SEI + message(payload) + START
    reader = AccessUnits("hevc", None)
    assert reader.begins_refresh(unit + H265_SLICE, keyframe=False) == begins
    assert not reader.begins_refresh(unit + H265_KEYFRAME, keyframe=False)
    assert not reader.begins_refresh(unit + H265_SLICE, keyframe=True)


def test_nal_units_of_files_begin_with_their_length() -> None:
    nals = (b"\x06" + message(b"\x09\x20"), H264_SLICE)
    unit = b"".join(len(nal).to_bytes(4) + nal for nal in nals)
    assert AccessUnits("h264", b"\x01\x64\x00\x1f\xff\xe1").begins_refresh(unit, keyframe=True)
    assert not AccessUnits("h264", None).begins_refresh(unit, keyframe=True)


def test_other_codecs_have_no_refresh() -> None:
    assert not AccessUnits("vp8", None).begins_refresh(START + H264_SLICE, keyframe=True)
