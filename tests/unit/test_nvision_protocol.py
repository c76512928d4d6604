"""Encoding of the protocol, compared with a message from the official encoder.

The generated code is compared with the .proto definition.
"""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.nvision import protocol
from nvision_hub.nvision.nvision_pb2 import NvisionRequest, ObjectDetection
from nvision_hub.nvision.protocol import ProtocolError, RequestOptions
from tests.support.protobuf_code import generate

# Written by npm @nipacloud/nvision 0.1.7 (see its use in tests/sdk): source cam-1, frame 7, all three parameters.
GOLDEN = bytes.fromhex(
    "1a0563616d2d312201372a18323032302d30312d30325430333a30343a30352e3637385a3204ffd8ffd9421a0a124f757470757443726f707065"
    "64496d616765120474727565421a0a13436f6e666964656e63655468726573686f6c641203302e31421d0a154f757470757456697375616c697a"
    "6564496d616765120474727565"
)
ALL = RequestOptions(confidence_threshold=0.1, output_cropped_image=True, output_visualized_image=True)


def test_a_request_is_byte_for_byte_the_official_encoders() -> None:
    assert (
        protocol.encode_request(
            source_id="cam-1",
            frame_id="7",
            created_at="2020-01-02T03:04:05.678Z",
            image=b"\xff\xd8\xff\xd9",
            options=ALL,
        )
        == GOLDEN
    )


def test_the_official_message_is_decoded_correctly() -> None:
    message = protocol.decode(GOLDEN)
    assert (message.source_id, message.frame_id, message.raw_data) == ("cam-1", "7", b"\xff\xd8\xff\xd9")
    assert protocol.parse_options((option.parameter, option.value) for option in message.configurations) == ALL


def test_generated_code_is_what_the_definition_generates(tmp_path: Path) -> None:
    package = Path(protocol.__file__).parent
    for file in generate(tmp_path):
        assert (package / file.name).read_text() == file.read_text(), (
            f"run python -m tests.support.protobuf_code: {file.name}"
        )


@given(st.floats(0, 1))
def test_every_threshold_arrives_as_it_was_sent(threshold: float) -> None:
    data = protocol.encode_request(
        source_id="", frame_id="", created_at="", image=b"", options=RequestOptions(confidence_threshold=threshold)
    )
    sent = [(option.parameter, option.value) for option in protocol.decode(data).configurations]
    assert "e" not in sent[0][1]
    assert protocol.parse_options(sent) == RequestOptions(confidence_threshold=threshold)


@given(st.binary(max_size=200))
def test_any_bytes_are_a_message_or_a_wire_error(data: bytes) -> None:
    try:
        message = protocol.decode(data)
    except ProtocolError:
        return
    assert isinstance(message, NvisionRequest)


def test_a_text_message_is_a_wire_error() -> None:
    with pytest.raises(ProtocolError, match="text"):
        protocol.decode("hello")


def test_a_message_with_too_many_detections_is_a_wire_error() -> None:
    found = ObjectDetection()
    most = NvisionRequest(detected_objects=[found] * (protocol.MAX_DETECTIONS - 1), detected_faces=[found])
    assert protocol.decode(most.SerializeToString()) == most
    most.detected_faces.append(found)
    with pytest.raises(ProtocolError, match="10001 detections"):
        protocol.decode(most.SerializeToString())


@pytest.mark.parametrize("threshold", ["-0.1", "1.1", "nan", "inf", "much"])
def test_a_threshold_out_of_range_is_a_wire_error(threshold: str) -> None:
    with pytest.raises(ProtocolError, match="from 0 to 1"):
        protocol.parse_options([("ConfidenceThreshold", threshold)])


def test_options_left_out_or_empty_have_their_defaults() -> None:
    assert protocol.parse_options([("ConfidenceThreshold", ""), ("Unheard", "of")]) == RequestOptions()


def test_a_flag_that_is_neither_true_nor_false_is_a_wire_error() -> None:
    with pytest.raises(ProtocolError, match="OutputCroppedImage"):
        protocol.parse_options([("OutputCroppedImage", "yes")])


def test_a_base64_image_is_decoded_if_the_message_says_so() -> None:
    image = bytes(range(256))
    lines = base64.encodebytes(image)
    assert protocol.image_bytes(NvisionRequest(encoding=NvisionRequest.BASE64, raw_data=lines)) == image
    assert protocol.image_bytes(NvisionRequest(raw_data=lines)) == lines
    with pytest.raises(ProtocolError, match="base64"):
        protocol.image_bytes(NvisionRequest(encoding=NvisionRequest.BASE64, raw_data=image))
    with pytest.raises(ProtocolError, match="encoding"):
        # Field 1 is the encoding. The value 9 is undefined, but proto3 accepts it.
        protocol.image_bytes(protocol.decode(b"\x08\x09"))


def test_a_rest_response_has_every_documented_key() -> None:
    result = NvisionRequest()
    found = result.detected_objects.add(name="tvmonitor", parent="electronic", confidence=0.995)
    found.bounding_box.bottom, found.bounding_box.top = 251, 167
    found.bounding_box.right, found.bounding_box.left = 479, 361
    assert protocol.response_json(result, "object-detection") == {
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
    assert protocol.response_json(NvisionRequest(), "face-detection")["detected_faces"] == []


def test_images_in_a_result_are_base64() -> None:
    result = NvisionRequest(raw_data=b"drawn")
    result.detected_faces.add(name="face", cropped_image=b"crop")
    shown = protocol.result_json(result)
    assert base64.b64decode(shown["raw_data"]) == b"drawn"
    assert base64.b64decode(shown["detected_faces"][0]["cropped_image"]) == b"crop"
