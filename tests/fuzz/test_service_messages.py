"""Protobuf messages: results of a hostile service, and requests of hostile clients of the local service."""

from __future__ import annotations

import contextlib
import json
from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from nvision_hub.nvision import protocol, result_events
from nvision_hub.nvision.nvision_pb2 import NvisionRequest
from nvision_hub.nvision.protocol import ProtocolError, RequestOptions
from nvision_hub.nvision.result_events import EventOrigin, SentFrame

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.strategies import SearchStrategy

    from tests.fuzz.harness import Fuzz

ORIGIN: Final = EventOrigin(site="test", camera="lobby", labels={}, service="face-detection")
SENT: Final = SentFrame(
    frame_id="f", sequence=1, captured_at=None, sent_at=1.0, sent_mono=1.0, width=64, height=48, jpeg_bytes=9
)
BOX: Final = {"left": 1, "top": 2, "right": 30, "bottom": 40}
DETECTION: Final = {"name": "person", "parent": "human", "confidence": 0.5, "bounding_box": BOX, "cropped_image": b"x"}


def result(**fields: object) -> bytes:
    known = {"service_id": "s", "source_id": "lobby", "frame_id": "f", "detected_objects": [DETECTION] * 3}
    return NvisionRequest(**known, **fields).SerializeToString()  # type: ignore[arg-type]


SAMPLES: Final = (
    result(),
    result(detected_faces=[DETECTION], raw_data=b"\xff\xd8\xff\xd9"),
    result(encoding=NvisionRequest.BASE64, raw_data=b"/9j/2Q=="),
    protocol.encode_request(
        source_id="lobby",
        frame_id="f",
        created_at="2026-11-22T14:00:00.120Z",
        image=b"\xff\xd8\xff\xd9",
        options=RequestOptions(output_cropped_image=True, output_visualized_image=True),
    ),
)
TEXTS: Final = st.text(max_size=8) | st.sampled_from(["1e999", "nan", "-1", "TRUE", "ConfidenceThreshold"])
NUMBERS: Final = st.integers(-(2**31), 2**31 - 1)


def built(texts: SearchStrategy[str]) -> SearchStrategy[bytes]:
    """Return valid messages with unusual values."""
    boxes = st.fixed_dictionaries(dict.fromkeys(BOX, NUMBERS))
    detections = st.fixed_dictionaries({"name": texts, "confidence": st.floats(width=32), "bounding_box": boxes})
    options = st.fixed_dictionaries({"parameter": texts, "value": texts})
    fields = {
        "frame_id": texts,
        "detected_objects": st.lists(detections, max_size=2),
        "configurations": st.lists(options, max_size=2),
        "encoding": st.integers(-1, 3),
        "raw_data": st.binary(max_size=8),
    }
    message: Callable[..., NvisionRequest] = NvisionRequest
    return st.builds(message, **fields).map(NvisionRequest.SerializeToString)


def check(data: bytes) -> None:
    try:
        message = protocol.decode(data)
    except ProtocolError:
        return
    protocol.response_json(message, "face-detection")
    with contextlib.suppress(ProtocolError):
        protocol.image_bytes(message)
    with contextlib.suppress(ProtocolError):
        options = protocol.parse_options((each.parameter, each.value) for each in message.configurations)
        assert 0 <= options.confidence_threshold <= 1
    if protocol.is_representable(message):
        event = result_events.result_event(message, SENT, ORIGIN, received_at=2.0)
        assert json.loads(result_events.encode(event))["frame_id"] == "f"


def test_service_messages(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=built(TEXTS))
