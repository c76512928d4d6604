"""What goes over the wire to Nvision and back: bytes in, messages out. No sockets here."""

from nvision_hub.wire.messages import (
    SERVICES,
    Options,
    Service,
    WireError,
    answer_as_json,
    decode,
    decode_base64,
    encode_request,
    options_of,
    picture_of,
    result_as_json,
    timestamp,
)
from nvision_hub.wire.nvision_pb2 import BoundingBox, Configuration, NvisionRequest, ObjectDetection

__all__ = [
    "SERVICES",
    "BoundingBox",
    "Configuration",
    "NvisionRequest",
    "ObjectDetection",
    "Options",
    "Service",
    "WireError",
    "answer_as_json",
    "decode",
    "decode_base64",
    "encode_request",
    "options_of",
    "picture_of",
    "result_as_json",
    "timestamp",
]
