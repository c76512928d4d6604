"""Nvision messages from and to bytes and JSON, and the options that travel in their configurations.

Facts are those of the service's documentation (v1) and of its JavaScript SDK 0.1.7: one protobuf message per
binary WebSocket message, every configuration value a string.
"""

from __future__ import annotations

import base64
import binascii
import math
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from google.protobuf.message import DecodeError

from nvision_hub.wire.nvision_pb2 import NvisionRequest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.wire.nvision_pb2 import ObjectDetection

Service = Literal["object-detection", "face-detection"]
SERVICES: Final[tuple[Service, ...]] = get_args(Service)
DEFAULT_CONFIDENCE_THRESHOLD: Final = 0.1


class WireError(ValueError):
    """Bytes that are no Nvision message, a picture that is not encoded as it says, or an option out of range."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Options:
    """What a request asks of the service besides detection."""

    confidence_threshold: float = DEFAULT_CONFIDENCE_THRESHOLD  # 0..1
    output_cropped_image: bool = False
    output_visualized_image: bool = False


def timestamp(at: datetime) -> str:
    """`at` as Nvision writes instants: ISO 8601, UTC, milliseconds, `Z`."""
    return at.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_request(*, source_id: str, frame_id: str, created_at: str, image: bytes, options: Options) -> bytes:
    """One request as the official SDK encodes it: parameters in its order, a false one left out.

    A threshold of 0, which the SDK cannot say, is sent: left out, the service would apply its default of 0.1.
    """
    message = NvisionRequest(source_id=source_id, frame_id=frame_id, created_at=created_at, raw_data=image)
    if options.output_cropped_image:
        message.configurations.add(parameter="OutputCroppedImage", value="true")
    message.configurations.add(parameter="ConfidenceThreshold", value=_number(options.confidence_threshold))
    if options.output_visualized_image:
        message.configurations.add(parameter="OutputVisualizedImage", value="true")
    return message.SerializeToString()


def decode(data: bytes | str) -> NvisionRequest:
    """The message in one WebSocket message. Raises `WireError` for text and for bytes that are none."""
    if isinstance(data, str):
        raise WireError("a text message where a binary one was due")
    try:
        return NvisionRequest.FromString(data)
    except DecodeError as error:
        raise WireError(f"{len(data)} bytes that are no Nvision message") from error


def _number(value: float) -> str:
    """`value` in plain decimals, as JavaScript writes it: 1 is "1" and 0.00001 has no exponent."""
    return format(Decimal(repr(value)).normalize(), "f")


def picture_of(message: NvisionRequest) -> bytes:
    """The picture's file bytes, base64 undone where the message says so. Raises `WireError` where it lies."""
    if message.encoding == NvisionRequest.BUFFER:
        return message.raw_data
    if message.encoding != NvisionRequest.BASE64:
        raise WireError(f"encoding must be 0 (BUFFER) or 1 (BASE64), not {message.encoding}")
    return decode_base64(message.raw_data)


def decode_base64(text: str | bytes) -> bytes:
    """The bytes in base64 `text`; line breaks are passed over. Raises `WireError` for anything else."""
    try:
        lines = text.encode("ascii") if isinstance(text, str) else text
        return base64.b64decode(b"".join(lines.split()), validate=True)
    except (binascii.Error, UnicodeEncodeError) as error:
        raise WireError("raw_data must be base64") from error


def options_of(configurations: Iterable[tuple[str, str]]) -> Options:
    """The options in (parameter, value) pairs; unknown parameters are passed over, the last of a kind counts.

    Raises `WireError` for a threshold that is no number from 0 to 1, or a flag that is neither true nor false.
    """
    found: dict[str, str] = dict(configurations)
    try:
        threshold = float(found.get("ConfidenceThreshold") or DEFAULT_CONFIDENCE_THRESHOLD)
    except ValueError as error:
        raise WireError("ConfidenceThreshold must be a number from 0 to 1") from error
    if math.isnan(threshold) or not 0 <= threshold <= 1:
        raise WireError("ConfidenceThreshold must be a number from 0 to 1")
    return Options(
        confidence_threshold=threshold,
        output_cropped_image=_flag(found, "OutputCroppedImage"),
        output_visualized_image=_flag(found, "OutputVisualizedImage"),
    )


def _flag(found: dict[str, str], parameter: str) -> bool:
    value = (found.get(parameter) or "false").lower()
    if value not in {"true", "false"}:
        raise WireError(f'{parameter} must be "true" or "false"')
    return value == "true"


def answer_as_json(result: NvisionRequest, service: Service) -> dict[str, Any]:
    """A result as the REST service answers and the callback posts it: a picture that was not asked for is ""."""
    shown = result_as_json(result)
    if service == "face-detection":
        shown.setdefault("detected_faces", [])
    for found in (*shown["detected_objects"], *shown.get("detected_faces", ())):
        found.setdefault("cropped_image", "")
    return shown


def result_as_json(result: NvisionRequest) -> dict[str, Any]:
    """A result as consumers receive it; pictures as base64, only where there are any.

    The list of the service that answered is always there. Which one that was, a message does not say: objects
    unless faces were found; the caller that knows better adds the other list.
    """
    shown: dict[str, Any] = {
        "service_id": result.service_id,
        "source_id": result.source_id,
        "frame_id": result.frame_id,
        "detected_objects": [_detection_as_json(found) for found in result.detected_objects],
    }
    if result.detected_faces:
        shown["detected_faces"] = [_detection_as_json(found) for found in result.detected_faces]
    if result.raw_data:
        shown["raw_data"] = base64.b64encode(result.raw_data).decode("ascii")
    return shown


def _detection_as_json(found: ObjectDetection) -> dict[str, Any]:
    box = found.bounding_box
    shown: dict[str, Any] = {
        "name": found.name,
        "parent": found.parent,
        "confidence": found.confidence,
        "bounding_box": {"left": box.left, "top": box.top, "right": box.right, "bottom": box.bottom},
    }
    if found.cropped_image:
        shown["cropped_image"] = base64.b64encode(found.cropped_image).decode("ascii")
    return shown
