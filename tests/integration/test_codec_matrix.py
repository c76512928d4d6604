"""Every structure of video that encoders produce, at every rate, with real encoders and FFmpeg's decoder.

The files play on a virtual clock. The rate is kept, no sent frame is torn, and each drop is counted with its reason.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import pytest

from tests.support import encoded_camera, encodings

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.encodings import Encoding

RATES: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
REFRESHED: Final = 25  # x264 renews the whole image within this many frames
MAX_SHIFT_S: Final = 2.5 / encodings.FPS  # capture times may begin this late, because the first packets come early


def play(encoding: Encoding, folder: Path, rate: float, *, seconds: int = encodings.SECONDS) -> encoded_camera.Seen:
    """Play a clip at a rate, and check the frames sent and those dropped."""
    units = encodings.make(encoding, seconds)
    seen = encoded_camera.play(encoded_camera.write_file(encoding, units, folder / "clip.ts"), rate)
    assert seen.torn == [], f"{rate}/s: the worst frame has {seen.worst_db:.1f} dB"
    numbers = [number for number, _ in seen.sent]
    assert numbers == sorted(set(numbers))
    shifts = [at - number / encodings.FPS for number, at in seen.sent]
    assert max(shifts) - min(shifts) <= MAX_SHIFT_S
    # Without keyframes, the first frame is sent when the first refresh that has been received completely has ended.
    refreshing = seen.dropped.pop("refreshing", 0)
    assert (0 < refreshing <= REFRESHED) == (encoding.first > 0)
    assert numbers[0] <= encoding.first + (2 * REFRESHED if encoding.first else 0)
    assert seen.dropped == {}
    due = rate * (encoding.first + len(units) - numbers[0]) / encodings.FPS
    assert len(numbers) == pytest.approx(due, abs=1 + 0.01 * due)
    return seen


@pytest.mark.long
@pytest.mark.parametrize("encoding", encodings.ENCODINGS.values(), ids=lambda each: each.name)
def test_every_structure_keeps_every_rate_without_a_torn_frame(encoding: Encoding, tmp_path: Path) -> None:
    for rate in RATES:
        seen = play(encoding, tmp_path, rate)
        if encoding.has_keyframes and rate * encoding.gop <= encodings.FPS:
            # All of the first GOP may be decoded, because its length is unknown.
            assert seen.decoded <= len(seen.sent) + encoding.gop


@pytest.mark.parametrize("rate", [0.5, 5.0])
def test_frames_before_the_end_of_a_refresh_are_not_sent(rate: float, tmp_path: Path) -> None:
    play(encodings.ENCODINGS["x264, intra-refresh"], tmp_path, rate, seconds=10)
