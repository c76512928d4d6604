"""Previews and results in Redis: the header of a preview, its JPEG, and the detections to draw."""

from __future__ import annotations

import contextlib
import json
from typing import Final

import numpy as np
import simplejpeg
from hypothesis import strategies as st

from tests.fuzz.harness import Fuzz, json_values
from workers.gateway.live.frame_image import HEADER_LENGTH_BYTES, DrawnResult, FrameImage

HEADER: Final = {"frame_id": "f", "width": 64, "height": 48, "captured_at": 1.8e9}
JPEG: Final[bytes] = simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8))
BOX: Final = {"left": 1.5, "top": 2, "right": 30, "bottom": 40}
DETECTION: Final = {"name": "person", "confidence": 0.5, "bounding_box": BOX}
RESULT: Final = {"detected_objects": [DETECTION], "detected_faces": []}


def record(header: object) -> bytes:
    text = json.dumps(header).encode()
    return len(text).to_bytes(HEADER_LENGTH_BYTES) + text + JPEG


VALUES: Final = json_values()
BUILT: Final = st.builds(
    lambda more, detection: record({**HEADER, **more, **RESULT, "detected_faces": [{**DETECTION, **detection}]}),
    st.dictionaries(st.sampled_from([*HEADER, *RESULT]), VALUES, max_size=2),
    st.dictionaries(st.sampled_from([*DETECTION, *BOX]), VALUES, max_size=2),
)
SAMPLES: Final = (record(HEADER), record({**HEADER, **RESULT}), record({**HEADER, "captured_at": None}))
TOKENS: Final = (b"[" * 2000, b"null", b"true", b"\\ud800", b"1E400", b"65536", b"0.5", b"}", b"\xff\xd8\xff\xc0")


def check(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        DrawnResult.model_validate_json(data[HEADER_LENGTH_BYTES:].partition(b"\xff\xd8")[0])
    try:
        frame = FrameImage.decode(data)
    except ValueError:
        return
    assert 0 < frame.width < 2**16
    assert frame.is_full_size in {True, False}


def test_preview_headers(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
