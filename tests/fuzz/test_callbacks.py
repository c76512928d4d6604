"""JSON that anyone who knows the callback's URL can post."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from nvision_hub.nvision import result_events
from nvision_hub.nvision.result_events import EventOrigin
from tests.fuzz.harness import json_values
from workers.gateway.api.callback import read_result
from workers.gateway.api.problem_details import ProblemError

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

ORIGIN: Final = EventOrigin(site="test", camera="lobby", labels={}, service=None)
BOX: Final = {"left": 1, "top": 2, "right": 30, "bottom": 40}
DETECTION: Final = {"name": "person", "parent": "human", "confidence": 0.5, "bounding_box": BOX, "cropped_image": ""}
RESULT: Final[dict[str, Any]] = {
    "service_id": "s",
    "source_id": "lobby",
    "frame_id": "0199b2a0-0000-7000-8000-000000000000",
    "detected_objects": [DETECTION],
    "detected_faces": None,
}
SAMPLES: Final = (
    json.dumps(RESULT).encode(),
    json.dumps({**RESULT, "detected_faces": [DETECTION, DETECTION], "hub": {"id": 1}}).encode(),
    json.dumps({**RESULT, "frame_id": "x\ud800"}).encode(),
)
TOKENS: Final = (b"[" * 2000, b'{"a":' * 500, b"null", b"true", b"Infinity", b"\\ud800", b"-0.0", b"{}", b"1E400", b",")
VALUES: Final = json_values(DETECTION, [DETECTION], BOX)
BUILT: Final = st.builds(
    lambda more, detection: json.dumps({**RESULT, **more, "detected_faces": [{**DETECTION, **detection}]}).encode(),
    st.dictionaries(st.sampled_from([*RESULT, "hub", "raw_data"]), VALUES, max_size=2),
    st.dictionaries(st.sampled_from([*DETECTION, *BOX]), VALUES, max_size=2),
)


def check(body: bytes) -> None:
    try:
        result = read_result(body)
    except ProblemError:
        return
    event = result_events.callback_event(result, ORIGIN, received_at=1.8e9)
    encoded = result_events.encode(event)
    stored = json.loads(encoded, parse_constant=reject)
    for detection in (*stored["detected_objects"], *stored.get("detected_faces", ())):
        assert isinstance(detection["name"], str)


def reject(name: str) -> None:
    raise AssertionError(f"{name} is no JSON")


def test_callbacks(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
