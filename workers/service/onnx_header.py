"""What an ONNX file says of itself: its metadata and the shape of its input. Reads bytes, runs nothing.

OpenCV loads the network but tells neither. The few fields needed are read from the protobuf wire format; field
numbers are those of onnx.proto (ModelProto, GraphProto, ValueInfoProto, TypeProto, TensorShapeProto).
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
_TENSOR_TYPE: Final = 1
_IMAGE_DIMENSIONS: Final = 4  # pictures, channels, height, width


class HeaderError(ValueError):
    """A file that is no ONNX model."""


@dataclass(frozen=True, kw_only=True, slots=True)
class OnnxHeader:
    """`input_size` is width and height in pixels, None where the model leaves it open.

    `names` are its classes by number, None where the file does not tell; Ultralytics writes both as metadata.
    """

    input_size: tuple[int, int] | None
    names: dict[int, str] | None


def read_header(path: Path) -> OnnxHeader:
    """The header of the model in `path`. Raises `OSError`, or `HeaderError` for a file that is no model."""
    with path.open("rb") as file:
        if not path.stat().st_size:
            raise HeaderError("the file is empty")
        # Mapped, not read: a model is tens of megabytes of weights around the few bytes that are wanted.
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped:
            view = memoryview(mapped)
            try:
                return _parse(view)
            except (IndexError, ValueError, UnicodeDecodeError) as error:
                raise HeaderError("the file is no ONNX model") from error
            finally:
                view.release()


def _parse(model: memoryview) -> OnnxHeader:
    metadata: dict[str, str] = {}
    size: tuple[int, int] | None = None
    graphs = 0
    for number, value in _fields(model):
        if number == _MODEL_METADATA and isinstance(value, memoryview):
            entry = {key: str(text, "utf-8") for key, text in _fields(value) if isinstance(text, memoryview)}
            metadata[entry.get(1, "")] = entry.get(2, "")
        elif number == _MODEL_GRAPH and isinstance(value, memoryview):
            graphs += 1
            size = _graph_input_size(value)
    if graphs != 1:
        raise ValueError("no graph")
    return OnnxHeader(input_size=size or _metadata_size(metadata.get("imgsz")), names=_names(metadata.get("names")))


def _graph_input_size(graph: memoryview) -> tuple[int, int] | None:
    """Width and height of the first input that is a picture and no weight."""
    weights: set[str] = set()
    inputs: list[tuple[str, tuple[int, ...]]] = []
    for number, value in _fields(graph):
        if not isinstance(value, memoryview):
            continue
        if number == _GRAPH_INITIALIZER:
            weights.add(str(_sub(value, _TENSOR_NAME), "utf-8"))
        elif number == _GRAPH_INPUT:
            shape = _sub(_sub(_sub(value, 2), _TENSOR_TYPE), 2)
            dimensions = tuple(
                next((size for key, size in _fields(dim) if key == 1 and isinstance(size, int)), 0)
                for key, dim in _fields(shape)
                if key == 1 and isinstance(dim, memoryview)
            )
            inputs.append((str(_sub(value, 1), "utf-8"), dimensions))
    for name, dimensions in inputs:
        if name not in weights and len(dimensions) == _IMAGE_DIMENSIONS and min(dimensions[2:]) > 0:
            return dimensions[3], dimensions[2]
    return None


def _metadata_size(text: str | None) -> tuple[int, int] | None:
    """Ultralytics' `imgsz`, which is height, width."""
    match _literal(text):
        case [int(height), int(width)] if height > 0 and width > 0:
            return width, height
        case _:
            return None


def _names(text: str | None) -> dict[int, str] | None:
    """Ultralytics' `names`, such as `{0: 'person', 1: 'bicycle'}`; some exporters write a list."""
    match _literal(text):
        case dict() as named if all(isinstance(key, int) for key in named):
            return {key: str(name) for key, name in named.items()}
        case list() as listed:
            return dict(enumerate(map(str, listed)))
        case _:
            return None


def _literal(text: str | None) -> object:
    if text is None:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


def _sub(message: memoryview, number: int) -> memoryview:
    """The first length-delimited field of that number; empty where there is none."""
    found = (value for key, value in _fields(message) if key == number and isinstance(value, memoryview))
    return next(found, message[:0])


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field of a protobuf message: its number, and its value as an integer or its bytes."""
    at = 0
    while at < len(message):
        tag, at = _varint(message, at)
        match tag & 7:
            case 0:
                value, at = _varint(message, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(message, at)
                if at + length > len(message):
                    raise ValueError("a field longer than its message")
                yield tag >> 3, message[at : at + length]
                at += length
            case 1:
                at += 8
            case 5:
                at += 4
            case _:
                raise ValueError("no protobuf")


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:  # noqa: PLR2004 - the bit that says more follows
            return value, at
        shift += 7
        if shift > 63:  # noqa: PLR2004 - protobuf's integers have 64 bits
            raise ValueError("no varint")
