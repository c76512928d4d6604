"""Codec for Nvision messages (bytes and JSON), and the parser of request options.

Sources: the service's documentation (v1) and its JavaScript SDK 0.1.7. A binary WebSocket message contains one protobuf
message. Every configuration value in the message is a string.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.message import DecodeError

from nvision_hub.config.value_types import DEFAULT_CONFIDENCE_THRESHOLD, ServiceName
from nvision_hub.nvision.nvision_pb2 import NvisionRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.nvision.nvision_pb2 import ObjectDetection

MAX_DETECTIONS: Final = 10_000  # of one message; many times what a frame can show


class ProtocolError(ValueError):
    """Invalid Nvision message, image encoding or option."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestOptions:
    confidence_threshold: float = DEFAULT_CONFIDENCE_THRESHOLD  # 0..1
    output_cropped_image: bool = False
    output_visualized_image: bool = False


def encode_request(*, source_id: str, frame_id: str, created_at: str, image: bytes, options: RequestOptions) -> bytes:
    """Encode one request like the official SDK: parameters in the SDK's order, without the parameters that are false.

    Unlike the SDK, this function also sends a threshold of 0. Without a threshold, the service would apply its default,
    0.1.
    """
    message = NvisionRequest(source_id=source_id, frame_id=frame_id, created_at=created_at, raw_data=image)
    if options.output_cropped_image:
        message.configurations.add(parameter="OutputCroppedImage", value="true")
    # Format numbers like JavaScript but without an exponent: 1 is "1" and 0.00001 is "0.00001".
    threshold = format(Decimal(repr(options.confidence_threshold)).normalize(), "f")
    message.configurations.add(parameter="ConfidenceThreshold", value=threshold)
    if options.output_visualized_image:
        message.configurations.add(parameter="OutputVisualizedImage", value="true")
    return message.SerializeToString()


def decode(data: bytes | str) -> NvisionRequest:
    """Decode one WebSocket message.

    Raises `ProtocolError` for a text message, for invalid bytes and for more than `MAX_DETECTIONS` detections.
    """
    if isinstance(data, str):
        raise ProtocolError("a text message instead of a binary one")
    try:
        message = NvisionRequest.FromString(data)
    except DecodeError as error:
        raise ProtocolError(f"{len(data)} bytes that are not an Nvision message") from error
    count = len(message.detected_objects) + len(message.detected_faces)
    if count > MAX_DETECTIONS:  # an empty one has 2 bytes in the message, and about 100 as JSON
        raise ProtocolError(f"{count} detections; at most {MAX_DETECTIONS} are allowed")
    return message


def image_bytes(message: NvisionRequest) -> bytes:
    """Return the image file, decoded if the message declares base64. Raises `ProtocolError` for invalid base64."""
    if message.encoding == NvisionRequest.BUFFER:
        return message.raw_data
    if message.encoding != NvisionRequest.BASE64:
        raise ProtocolError(f"encoding must be 0 (BUFFER) or 1 (BASE64), not {message.encoding}")
    return decode_base64(message.raw_data)


def decode_base64(text: str | bytes) -> bytes:
    """Decode base64, ignoring whitespace. Raises `ProtocolError` for invalid base64."""
    try:
        lines = text.encode("ascii") if isinstance(text, str) else text
        return base64.b64decode(b"".join(lines.split()), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise ProtocolError("raw_data must be base64") from error


def parse_options(configurations: Iterable[tuple[str, str]]) -> RequestOptions:
    """Parse (parameter, value) pairs. Ignore unknown parameters. For a repeated parameter, use the last value.

    Raises `ProtocolError` if the threshold is not a number from 0 to 1, or if a flag is neither true nor false.
    """
    values = dict(configurations)
    try:
        threshold = float(values.get("ConfidenceThreshold") or DEFAULT_CONFIDENCE_THRESHOLD)
    except ValueError:
        threshold = -1.0
    if not 0 <= threshold <= 1:  # also rejects NaN
        raise ProtocolError("ConfidenceThreshold must be a number from 0 to 1")
    return RequestOptions(
        confidence_threshold=threshold,
        output_cropped_image=_flag(values, "OutputCroppedImage"),
        output_visualized_image=_flag(values, "OutputVisualizedImage"),
    )


def _flag(values: dict[str, str], parameter: str) -> bool:
    value = (values.get(parameter) or "false").lower()
    if value not in {"true", "false"}:
        raise ProtocolError(f'{parameter} must be "true" or "false"')
    return value == "true"


def response_json(result: NvisionRequest, service: ServiceName) -> dict[str, Any]:
    """Return a result in the format of the REST service and the callback. A crop that was not requested is ""."""
    response = result_json(result)
    if service == "face-detection":
        response.setdefault("detected_faces", [])
    for detection in (*response["detected_objects"], *response.get("detected_faces", ())):
        detection.setdefault("cropped_image", "")
    return response


def is_representable(result: NvisionRequest) -> bool:
    """Return whether JSON can represent a result. JSON has neither NaN nor infinity."""
    return all(math.isfinite(each.confidence) for each in (*result.detected_objects, *result.detected_faces))


def result_json(result: NvisionRequest) -> dict[str, Any]:
    """Return a result in the format that consumers receive, with its images as base64.

    A message does not name its service. `detected_faces` is therefore present only if the result contains faces.
    """
    fields: dict[str, Any] = {
        "service_id": result.service_id,
        "source_id": result.source_id,
        "frame_id": result.frame_id,
        "detected_objects": [_detection_json(detection) for detection in result.detected_objects],
    }
    if result.detected_faces:
        fields["detected_faces"] = [_detection_json(detection) for detection in result.detected_faces]
    if result.raw_data:
        fields["raw_data"] = base64.b64encode(result.raw_data).decode("ascii")
    return fields


def _detection_json(detection: ObjectDetection) -> dict[str, Any]:
    box = detection.bounding_box
    fields: dict[str, Any] = {
        "name": detection.name,
        "parent": detection.parent,
        "confidence": detection.confidence,
        "bounding_box": {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom},
    }
    if detection.cropped_image:
        fields["cropped_image"] = base64.b64encode(detection.cropped_image).decode("ascii")
    return fields
