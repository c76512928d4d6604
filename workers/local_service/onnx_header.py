"""Reader of the metadata and the input shape of an ONNX file, which OpenCV does not expose.

This module parses the protobuf wire format only for the fields that it needs. The field numbers come from onnx.proto
(ModelProto, GraphProto, ValueInfoProto, TypeProto, TensorShapeProto).
"""

from __future__ import annotations

import ast
import mmap
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_MODEL_GRAPH: Final = 7
_MODEL_METADATA: Final = 14
_GRAPH_INITIALIZER: Final = 5
_GRAPH_INPUT: Final = 11
_TENSOR_NAME: Final = 8
_MAX_SIDE: Final = 8192  # pixels; a larger input would need gigabytes of memory
_IMAGE_DIMENSIONS: Final = 4  # batch, channels, height, width


class HeaderError(ValueError):
    """The file is not an ONNX model that the service can use."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxHeader:
    """Input size and classes of a model. Ultralytics writes both as metadata."""

    input_size: tuple[int, int] | None  # width and height in pixels; None if the model accepts any size
    names: dict[int, str] | None  # classes by number; None if the file contains no classes


def read_header(path: Path) -> OnnxHeader:
    """Read the header of a model. Raises `OSError`, or `HeaderError` if the file is not a model."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise HeaderError("the file is empty")
        # Map the file into memory, because only a few bytes among tens of megabytes of weights are needed.
        model = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    try:
        (graph,) = _submessages(model, _MODEL_GRAPH)
        metadata = {_text(entry, 1): _text(entry, 2) for entry in _submessages(model, _MODEL_METADATA)}
        size = _input_size(graph) or _image_size(metadata.get("imgsz"))
        names = _names(metadata.get("names"))
    except HeaderError:
        raise
    except (IndexError, ValueError) as error:
        raise HeaderError("the file is not an ONNX model") from error
    if size is not None and max(size) > _MAX_SIDE:
        raise HeaderError(f"its input is larger than {_MAX_SIDE} x {_MAX_SIDE} pixels")
    return OnnxHeader(input_size=size, names=names)


def _input_size(graph: memoryview) -> tuple[int, int] | None:
    """Return the width and height of the first image input with a fixed size; None if the model has no fixed size.

    Raises `HeaderError` if no input can be an image.
    """
    weights = {_text(tensor, _TENSOR_NAME) for tensor in _submessages(graph, _GRAPH_INITIALIZER)}
    shapes = [_shape(value) for value in _submessages(graph, _GRAPH_INPUT) if _text(value, 1) not in weights]
    if all(len(shape) not in {0, _IMAGE_DIMENSIONS} for shape in shapes):
        raise HeaderError("it has no input for images")
    return next(
        ((shape[3], shape[2]) for shape in shapes if len(shape) == _IMAGE_DIMENSIONS and min(shape[2:]) > 0), None
    )


def _shape(value: memoryview) -> list[int]:
    """Return the dimensions of an input. A dimension of any size is 0. If the shape is unknown, the list is empty."""
    return [
        next((size for number, size in _fields(dimension) if number == 1 and isinstance(size, int)), 0)
        for value_type in _submessages(value, 2)
        for tensor_type in _submessages(value_type, 1)
        for shape in _submessages(tensor_type, 2)
        for dimension in _submessages(shape, 1)
    ]


def _image_size(text: str | None) -> tuple[int, int] | None:
    """Parse Ultralytics' `imgsz` (height, width). Return width and height; None if invalid."""
    match _literal(text):
        case [int(height), int(width)] if height > 0 and width > 0:
            return width, height
        case _:
            return None


def _names(text: str | None) -> dict[int, str] | None:
    """Parse Ultralytics' `names`, such as `{0: 'person', 1: 'bicycle'}`, or the list that some exporters write."""
    match _literal(text):
        case dict() as named if all(isinstance(key, int) for key in named):
            return {key: str(name) for key, name in named.items()}
        case list() as listed:
            return dict(enumerate(map(str, listed)))
        case _:
            return None


def _literal(text: str | None) -> object:
    try:
        return ast.literal_eval(text or "None")
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # documented by `literal_eval`
        return None


def _text(message: memoryview, number: int) -> str:
    return next((str(value, "utf-8") for value in _submessages(message, number)), "")


def _submessages(message: memoryview, number: int) -> Iterator[memoryview]:
    """Yield each length-delimited field with this number."""
    return (value for key, value in _fields(message) if key == number and isinstance(value, memoryview))


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield each field of a protobuf message: its number and its value (an integer or bytes)."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        if not tag >> 3:  # stops early, even in a large file of zeros
            raise ValueError("not protobuf: a field has the number 0")
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("a field is longer than its message")
                yield tag >> 3, message[at : at + length]
                at += length
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                raise ValueError("not protobuf")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 64, 7):  # protobuf integers have 64 bits
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the continuation bit
            return value, at
    raise ValueError("not a varint")
