"""Encoding and decoding preserve each message between processes, and invalid input raises one documented error."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.errors import Diagnostic
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime import messages
from nvision_hub.runtime.messages import (
    MAX_RECORD_BYTES,
    AddCamera,
    CameraFacts,
    Drain,
    Forward,
    HubFacts,
    Message,
    MessageError,
    ProcessChanged,
    ProcessInfo,
    Reply,
    StatusReported,
    WebhooksFacts,
    decode,
    encode,
    is_status,
    process_changed,
    status_reported,
)
from nvision_hub.runtime.status import CameraInfo, Deadline, Status, WorkerInfo

if TYPE_CHECKING:
    from collections.abc import Callable

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
NUMBER = st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=5,
)
st.register_type_strategy(float, NUMBER)
st.register_type_strategy(str, TEXT)
SETTINGS = st.dictionaries(TEXT, JSON, max_size=3)
VALUES = st.dictionaries(TEXT, st.none() | st.integers(-(2**53), 2**53) | NUMBER, max_size=3)
FACTS = st.none() | st.one_of(
    st.builds(CameraFacts, settings=SETTINGS, overrides=VALUES, values_in_file=VALUES),
    st.builds(WebhooksFacts, webhooks=st.lists(SETTINGS, max_size=3).map(tuple)),
    st.builds(HubFacts),
)
INFOS = st.builds(ProcessInfo, facts=FACTS)
STATUSES = st.builds(Status, pid=st.integers(1), at=NUMBER, info=st.none() | st.from_type(WorkerInfo))  # type: ignore[arg-type]
FIELDS: dict[type, dict[str, Any]] = {
    messages.SetCamera: {"values": VALUES},
    AddCamera: {"entry": SETTINGS},
    ProcessChanged: {"info": INFOS},
    StatusReported: {"status": STATUSES},
}
MESSAGES = STATUSES | st.one_of(
    *(st.builds(kind, **FIELDS.get(kind, {})) for kind in get_args(Message) if kind is not Status)
)


@given(MESSAGES)
def test_a_message_round_trips_unchanged(message: Message) -> None:
    assert decode(encode(message)) == message


@given(st.binary() | st.builds(lambda kind, rest: kind.__name__.encode() + b" " + rest,
       st.sampled_from(get_args(Message)), st.binary() | JSON.map(lambda it: json.dumps(it).encode())))  # fmt: skip
def test_any_record_is_decoded_or_rejected_with_one_error(record: bytes) -> None:
    try:
        message = decode(record)
    except MessageError:
        return
    assert decode(encode(message)) == message


@pytest.mark.parametrize(
    "fields",
    [
        b"",
        b"null",
        b"[]",
        b"{}",
        b'{"pid": 1, "at": 1, "state": "x", "more": 1}',
        b'{"pid": "1", "at": 1, "state": "x"}',
        b'{"deadlines": {"a": 1}, "pid": 1, "at": 1, "state": "x"}',
        b'{"deadlines": {"a": {"at": 1}}, "pid": 1, "at": 1, "state": "x"}',
        b'{"deadlines": {"a": {"at": "soon", "timeout_s": 1}}, "pid": 1, "at": 1, "state": "x"}',
        b'{"deadlines": {"a": {"at": null, "timeout_s": 1}}, "pid": 1, "at": 1, "state": "x"}',
        b'{"metrics": {"counters": [["a", {}, "1"]]}, "pid": 1, "at": 1, "state": "x"}',
        b'{"info": {"colour": "red"}, "pid": 1, "at": 1, "state": "x"}',
        b'{"state": "\\ud800"}',
        b"[" * 100_000,
    ],
    ids=range(14),
)
def test_a_malformed_status_is_rejected(fields: bytes) -> None:
    with pytest.raises(MessageError, match="malformed Status"):
        decode(b"Status " + fields)


def test_the_error_quotes_nothing_of_the_record() -> None:
    with pytest.raises(MessageError) as caught:
        decode(b'AddCamera {"request_id": "n1", "entry": "rtsp://viewer:canary@10.0.0.5/"}')
    assert "canary" not in str(caught.value)
    assert caught.value.__suppress_context__
    assert "canary" not in repr(AddCamera(request_id="n1", entry={"url": "rtsp://viewer:canary@10.0.0.5/"}))


def test_text_that_is_not_unicode_cannot_be_sent() -> None:
    with pytest.raises(MessageError, match="not Unicode"):
        encode(AddCamera(request_id="n1", entry={"name": "\ud800"}))


@given(STATUSES, TEXT)
def test_a_status_is_forwarded_byte_for_byte(status: Status, name: str) -> None:
    record = encode(status)
    assert is_status(record)
    assert not is_status(encode(Drain()))
    assert decode(status_reported(name, record)) == StatusReported(name=name, status=status)


def test_numbers_that_json_lacks_are_preserved() -> None:
    meter = Meter()
    meter.set_gauge(catalogue.SPOOL_EVENTS, float("nan"))
    meter.set_gauge(catalogue.RESULTS_WAITING, float("inf"))
    meter.set_gauge(catalogue.MOTION_ACTIVE, True)  # noqa: FBT003 - a gauge of a boolean counts as 1
    received = decode(encode(Status(state="x", metrics=meter.snapshot())))
    assert isinstance(received, Status)
    nan, inf, one = received.metrics.gauges.values()
    assert nan != nan  # noqa: PLR0124 - not a number
    assert (inf, one) == (float("inf"), 1)


def test_a_record_of_a_process_is_bounded() -> None:
    info = ProcessInfo(
        name="webhooks", phase="running", pid=7, facts=WebhooksFacts(webhooks=({"url": "x" * MAX_RECORD_BYTES},))
    )
    record = process_changed(info)
    assert len(record) <= MAX_RECORD_BYTES
    assert decode(record) == ProcessChanged(info=ProcessInfo(name="webhooks", phase="running", pid=7))


@pytest.mark.parametrize("kind", get_args(messages.CameraMessage))
@given(data=st.data())
def test_a_forwarded_message_keeps_its_type(kind: type, data: st.DataObject) -> None:
    message = data.draw(st.builds(kind))
    received = decode(encode(Forward(request_id="n1", target="camera:lobby", message=message)))
    assert isinstance(received, Forward)
    assert type(received.message) is kind


def test_reply_carries_diagnostics_as_data() -> None:
    diagnostic = Diagnostic(code="out_of_range", message="61 is out of range", fix="use up to 60", path=("masks", 0))
    reply = Reply(request_id="n1", error=str(diagnostic), diagnostics=(diagnostic,))
    assert decode(encode(reply)) == reply


def test_encoding_a_status_costs_less_than_json() -> None:
    """A camera reports 60 series each second, so encoding must take much less than a tenth of a worker's CPU time."""
    meter = Meter()
    for number in range(60):
        meter.count(catalogue.DETECTIONS_TOTAL, name=f"class {number}")
    meter.observe(catalogue.FRAME_AGE_SECONDS, 0.1)
    status = Status(
        state="streaming",
        deadlines={"capture": Deadline(at=1.0, timeout_s=25.0)},
        metrics=meter.snapshot(),
        info=CameraInfo(fps=5.0, seen=("person",)),
    )
    fields = json.loads(encode(status).partition(b" ")[2])

    def cost(act: Callable[[], object]) -> float:
        best = float("inf")
        for _ in range(20):
            began = time.process_time()
            for _ in range(50):
                act()
            best = min(best, time.process_time() - began)
        return best

    assert cost(lambda: encode(status)) < cost(lambda: json.dumps(fields).encode())
