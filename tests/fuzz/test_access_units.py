"""Coded frames of cameras: the hub looks for the beginning of a gradual refresh."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from nvision_hub.media.sources.access_unit import AccessUnits

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

RECOVERY: Final = b"\x06\x02\x09\x20\x80"
SAMPLES: Final = (
    b"\0\0\0\1\x67\x64\0\x1f\0\0\1\x68\xee\0\0\1\x06" + RECOVERY + b"\0\0\1\x41\x9a",
    b"\0\0\0\1\x40\1\0\0\1\x4e\1" + RECOVERY + b"\0\0\1\2\1\xd0",
    b"\0\0\0\x06\x06" + RECOVERY + b"\0\0\0\2\x41\x9a",
)
TOKENS: Final = (b"\0\0\1", b"\0\0\3", b"\x06", b"\x4e\1", b"\xff" * 9, RECOVERY)
READERS: Final = (
    AccessUnits("h264", None),
    AccessUnits("h264", b"\1\x64\0\x1f\xff"),
    AccessUnits("hevc", b""),
    AccessUnits("hevc", b"\1" + b"\0" * 20 + b"\xff"),
)


def check(data: bytes) -> None:
    for reader in READERS:
        for keyframe in (False, True):
            assert reader.begins_refresh(data, keyframe=keyframe) in {False, True}
    AccessUnits("h264", data)
    AccessUnits("hevc", data)


def test_coded_frames(fuzz: Fuzz) -> None:
    messages = st.lists(st.tuples(st.integers(0, 255), st.binary(max_size=300)), max_size=4)
    built = messages.map(
        lambda each: b"\0\0\1\x06" + b"".join(bytes([kind, min(255, len(data))]) + data for kind, data in each)
    )
    fuzz(check, samples=SAMPLES, built=built, tokens=TOKENS)
