"""The wire, against the message that the official encoder wrote and against its own definition."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub import wire
from nvision_hub.wire import NvisionRequest, Options, WireError
from tests.support.wire_code import generated

# Written by npm @nipacloud/nvision 0.1.7 (see its use in tests/sdk): source cam-1, frame 7, all three parameters.
GOLDEN = bytes.fromhex(
    "1a0563616d2d312201372a18323032302d30312d30325430333a30343a30352e3637385a3204ffd8ffd9421a0a124f757470757443726f707065"
    "64496d616765120474727565421a0a13436f6e666964656e63655468726573686f6c641203302e31421d0a154f757470757456697375616c697a"
    "6564496d616765120474727565"
)
ALL = Options(confidence_threshold=0.1, output_cropped_image=True, output_visualized_image=True)


def test_a_request_is_byte_for_byte_the_official_encoders() -> None:
    assert (
        wire.encode_request(
            source_id="cam-1",
            frame_id="7",
            created_at="2020-01-02T03:04:05.678Z",
            image=b"\xff\xd8\xff\xd9",
            options=ALL,
        )
        == GOLDEN
    )


def test_the_official_message_reads_as_it_was_meant() -> None:
    message = wire.decode(GOLDEN)
    assert (message.source_id, message.frame_id, message.raw_data) == ("cam-1", "7", b"\xff\xd8\xff\xd9")
    assert wire.options_of((option.parameter, option.value) for option in message.configurations) == ALL


def test_generated_code_is_what_the_definition_generates(tmp_path: Path) -> None:
    package = Path(wire.__file__).parent
    for file in generated(tmp_path):
        assert (package / file.name).read_text() == file.read_text(), (
            f"run python -m tests.support.wire_code: {file.name}"
        )


@given(st.floats(0, 1))
def test_every_threshold_arrives_as_it_was_sent(threshold: float) -> None:
    data = wire.encode_request(
        source_id="", frame_id="", created_at="", image=b"", options=Options(confidence_threshold=threshold)
    )
    sent = [(option.parameter, option.value) for option in wire.decode(data).configurations]
    assert "e" not in sent[0][1]
    assert wire.options_of(sent) == Options(confidence_threshold=threshold)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except WireError:
        return
    assert isinstance(message, NvisionRequest)


def test_a_text_message_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="text"):
        wire.decode("hello")


@pytest.mark.parametrize("threshold", ["-0.1", "1.1", "nan", "inf", "much"])
def test_a_threshold_out_of_range_is_a_wire_error(threshold: str) -> None:
    with pytest.raises(WireError, match="from 0 to 1"):
        wire.options_of([("ConfidenceThreshold", threshold)])


def test_options_left_out_or_empty_have_their_defaults() -> None:
    assert wire.options_of([("ConfidenceThreshold", ""), ("Unheard", "of")]) == Options()


def test_a_flag_that_is_neither_is_a_wire_error() -> None:
    with pytest.raises(WireError, match="OutputCroppedImage"):
        wire.options_of([("OutputCroppedImage", "yes")])


def test_a_base64_picture_is_decoded_as_the_message_says() -> None:
    picture = bytes(range(256))
    lines = base64.encodebytes(picture)
    assert wire.picture_of(NvisionRequest(encoding=NvisionRequest.BASE64, raw_data=lines)) == picture
    assert wire.picture_of(NvisionRequest(raw_data=lines)) == lines
    with pytest.raises(WireError, match="base64"):
        wire.picture_of(NvisionRequest(encoding=NvisionRequest.BASE64, raw_data=picture))
    with pytest.raises(WireError, match="encoding"):
        # Field 1 is the encoding; 9 is none, and proto3 carries it all the same.
        wire.picture_of(wire.decode(b"\x08\x09"))


def test_a_rest_answer_has_every_key_of_the_documentation() -> None:
    result = NvisionRequest()
    found = result.detected_objects.add(name="tvmonitor", parent="electronic", confidence=0.995)
    found.bounding_box.bottom, found.bounding_box.top = 251, 167
    found.bounding_box.right, found.bounding_box.left = 479, 361
    assert wire.answer_as_json(result, "object-detection") == {
        "source_id": "",
        "frame_id": "",
        "service_id": "",
        "detected_objects": [
            {
                "bounding_box": {"bottom": 251, "top": 167, "right": 479, "left": 361},
                "parent": "electronic",
                "cropped_image": "",
                "confidence": 0.995,
                "name": "tvmonitor",
            }
        ],
    }
    assert wire.answer_as_json(NvisionRequest(), "face-detection")["detected_faces"] == []


def test_pictures_in_a_result_are_base64() -> None:
    result = NvisionRequest(raw_data=b"drawn")
    result.detected_faces.add(name="face", cropped_image=b"crop")
    shown = wire.result_as_json(result)
    assert base64.b64decode(shown["raw_data"]) == b"drawn"
    assert base64.b64decode(shown["detected_faces"][0]["cropped_image"]) == b"crop"
