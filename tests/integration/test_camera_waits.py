"""Cameras with long gaps between frames: a pause or a stop does not wait for the next frame."""

from __future__ import annotations

import time
from fractions import Fraction
from typing import TYPE_CHECKING, Final

import av
import numpy as np
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.http_camera import HttpCamera
    from tests.support.watching import Watching

APART_S: Final = 28  # a longer time would exceed the limit on frames after a pause
AT_ONCE_S: Final = 25.0  # generous for a busy machine, but below `APART_S`


@pytest.fixture(params=["snapshot", "file"])
def sparse(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    http_camera: Callable[..., HttpCamera],
    watch: Callable[..., Watching],
) -> Watching:
    """Watch a camera that sends a frame every `APART_S`."""
    if request.param == "snapshot":
        return watch("snapshot+" + http_camera().url("/snapshot.jpg"), fps=1 / APART_S)
    path = tmp_path / "sparse.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mjpeg", rate=1)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(3):
            frame = av.VideoFrame.from_ndarray(np.zeros((72, 64), np.uint8), format="yuvj420p")
            frame.pts, frame.time_base = number * APART_S, Fraction(1, 1)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return watch(f"file:{path}", fps=1, stall_timeout=2 * APART_S)


def test_a_pause_does_not_wait_for_the_next_frame(sparse: Watching) -> None:
    sparse.wait_until(lambda: bool(sparse.frames))
    began = time.monotonic()
    sparse.control.pause()
    sparse.wait_for_state("paused", AT_ONCE_S, since=began)
    frames = len(sparse.frames)
    sparse.control.resume()
    sparse.wait_until(lambda: len(sparse.frames) > frames, AT_ONCE_S)


def test_a_stop_does_not_wait_for_the_next_frame(sparse: Watching) -> None:
    sparse.wait_until(lambda: bool(sparse.frames))
    assert sparse.stop() < AT_ONCE_S
