from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class NvisionRequest(_message.Message):
    __slots__ = ("encoding", "service_id", "source_id", "frame_id", "created_at", "raw_data", "target_classes", "configurations", "detected_objects", "detected_faces")
    class EncodeType(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        BUFFER: _ClassVar[NvisionRequest.EncodeType]
        BASE64: _ClassVar[NvisionRequest.EncodeType]
    BUFFER: NvisionRequest.EncodeType
    BASE64: NvisionRequest.EncodeType
    ENCODING_FIELD_NUMBER: _ClassVar[int]
    SERVICE_ID_FIELD_NUMBER: _ClassVar[int]
    SOURCE_ID_FIELD_NUMBER: _ClassVar[int]
    FRAME_ID_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    RAW_DATA_FIELD_NUMBER: _ClassVar[int]
    TARGET_CLASSES_FIELD_NUMBER: _ClassVar[int]
    CONFIGURATIONS_FIELD_NUMBER: _ClassVar[int]
    DETECTED_OBJECTS_FIELD_NUMBER: _ClassVar[int]
    DETECTED_FACES_FIELD_NUMBER: _ClassVar[int]
    encoding: NvisionRequest.EncodeType
    service_id: str
    source_id: str
    frame_id: str
    created_at: str
    raw_data: bytes
    target_classes: _containers.RepeatedScalarFieldContainer[str]
    configurations: _containers.RepeatedCompositeFieldContainer[Configuration]
    detected_objects: _containers.RepeatedCompositeFieldContainer[ObjectDetection]
    detected_faces: _containers.RepeatedCompositeFieldContainer[ObjectDetection]
    def __init__(self, encoding: _Optional[_Union[NvisionRequest.EncodeType, str]] = ..., service_id: _Optional[str] = ..., source_id: _Optional[str] = ..., frame_id: _Optional[str] = ..., created_at: _Optional[str] = ..., raw_data: _Optional[bytes] = ..., target_classes: _Optional[_Iterable[str]] = ..., configurations: _Optional[_Iterable[_Union[Configuration, _Mapping]]] = ..., detected_objects: _Optional[_Iterable[_Union[ObjectDetection, _Mapping]]] = ..., detected_faces: _Optional[_Iterable[_Union[ObjectDetection, _Mapping]]] = ...) -> None: ...

class Configuration(_message.Message):
    __slots__ = ("parameter", "value")
    PARAMETER_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    parameter: str
    value: str
    def __init__(self, parameter: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...

class ObjectDetection(_message.Message):
    __slots__ = ("cropped_image", "bounding_box", "name", "parent", "confidence")
    CROPPED_IMAGE_FIELD_NUMBER: _ClassVar[int]
    BOUNDING_BOX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    PARENT_FIELD_NUMBER: _ClassVar[int]
    CONFIDENCE_FIELD_NUMBER: _ClassVar[int]
    cropped_image: bytes
    bounding_box: BoundingBox
    name: str
    parent: str
    confidence: float
    def __init__(self, cropped_image: _Optional[bytes] = ..., bounding_box: _Optional[_Union[BoundingBox, _Mapping]] = ..., name: _Optional[str] = ..., parent: _Optional[str] = ..., confidence: _Optional[float] = ...) -> None: ...

class BoundingBox(_message.Message):
    __slots__ = ("bottom", "left", "right", "top")
    BOTTOM_FIELD_NUMBER: _ClassVar[int]
    LEFT_FIELD_NUMBER: _ClassVar[int]
    RIGHT_FIELD_NUMBER: _ClassVar[int]
    TOP_FIELD_NUMBER: _ClassVar[int]
    bottom: int
    left: int
    right: int
    top: int
    def __init__(self, bottom: _Optional[int] = ..., left: _Optional[int] = ..., right: _Optional[int] = ..., top: _Optional[int] = ...) -> None: ...
