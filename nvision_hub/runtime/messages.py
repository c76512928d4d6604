"""Messages between the supervisor, its workers and its subscribers, and their codec.

A message is a frozen dataclass. On a pipe, a message is one record: the class name, a space, and the fields as JSON.

    supervisor -> worker       Drain, Configure, RequestPreview, FramesAnswered,
                               ConnectSlotGranted, ReconnectTurnGranted
    worker -> supervisor       Status, RequestConnectSlot, ReleaseConnectSlot, RequestReconnectTurn
    supervisor -> subscriber   ProcessChanged, StatusReported, ProcessRemoved, Reply
    subscriber -> supervisor   Forward, RestartProcess, PauseCamera, ResumeCamera, SetCamera, RemoveCamera,
                               RequestInFile (with an AddCamera)

A subscriber, such as the gateway, is a worker that follows all other processes. If a subscriber reads slowly, a newer
status of a process replaces an older one.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any, Final, get_args
from uuid import uuid4

from pydantic import JsonValue, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from nvision_hub.errors import Diagnostic  # noqa: TC001 - pydantic reads the annotation
from nvision_hub.metrics.snapshot import MetricSnapshot, StrictData
from nvision_hub.runtime.memory_file import MemoryFile  # noqa: TC001 - pydantic reads it at run time
from nvision_hub.runtime.status import Status

MAX_RECORD_BYTES: Final = 128 * 1024  # a packet larger than Linux's default socket buffer cannot be sent
MAX_FILE_BYTES: Final = 2 * 1024 * 1024  # limit for a request in a file; the API accepts bodies of 1 MiB

# Maximum wait for a turn to reconnect. A camera without a turn, or without a reply from the supervisor, reconnects at a
# random moment within this time.
MAX_RECONNECT_DELAY_S: Final = 6.25

RuntimeValues = dict[str, int | float | None]  # values of some fields of `config.RuntimeSettings`


class MessageError(ValueError):
    """A record is not a message, or a message cannot be encoded as a record."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Drain(StrictData):
    """Finish the current work, then end."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Configure(StrictData):
    """Apply these settings to a running camera."""

    fps: float
    jpeg_quality: int
    max_width: int | None  # pixels; None if the worker does not scale frames
    confidence_threshold: float
    paused: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestPreview(StrictData):
    """Publish previews of a camera for `duration_s` seconds."""

    width: int | None  # pixels; None for the width of the sent frames
    fps: float
    duration_s: float


@dataclass(frozen=True, kw_only=True, slots=True)
class PostedDetection(StrictData):
    """One detection in a result that arrived by callback. The box is (left, top, right, bottom) in pixels."""

    name: str
    parent: str
    confidence: float
    box: tuple[float, float, float, float]


@dataclass(frozen=True, kw_only=True, slots=True)
class AnsweredFrame(StrictData):
    """A frame whose result arrived by callback."""

    frame_id: str
    at: float  # monotonic seconds at which the result arrived
    detections: tuple[PostedDetection, ...] = ()  # also empty if the camera's tracking is off


@dataclass(frozen=True, kw_only=True, slots=True)
class FramesAnswered(StrictData):
    """Frames whose results arrived by callback."""

    frames: tuple[AnsweredFrame, ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraFacts(StrictData):
    """Facts about one configured camera, without secrets. Settings are JSON values."""

    index: int  # position in cameras.yaml
    settings: dict[str, Any] = field(default_factory=dict)  # settings in effect, as returned by `Camera.shown`
    overrides: RuntimeValues = field(default_factory=dict)
    values_in_file: RuntimeValues = field(default_factory=dict)
    paused: bool = False
    added: bool = False  # whether an operator added the camera at run time


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhooksFacts(StrictData):
    """The configured webhooks, without secrets, as JSON."""

    webhooks: tuple[dict[str, Any], ...]


@dataclass(frozen=True, kw_only=True, slots=True)
class HubFacts(StrictData):
    site: str
    version: str
    redis: str | None = None  # URL without a password
    config_reloads: dict[str, int] = field(default_factory=dict)  # by outcome
    reload_error: str | None = None  # why the hub rejected the last change of cameras.yaml


ProcessFacts = CameraFacts | WebhooksFacts | HubFacts


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessInfo(StrictData):
    """Information about one process for subscribers, without its status."""

    name: str  # for example "camera:lobby"
    phase: str  # value of a `process_state.Phase`
    pid: int | None = None  # None while no process runs
    started_at: float | None = None  # monotonic seconds; None before the first start
    due_in_s: float | None = None  # seconds until the next start; None unless a start is scheduled
    crash_loop: bool = False
    restarts: dict[str, int] = field(default_factory=dict)  # number of restarts by reason
    facts: ProcessFacts | None = None  # from the `ProcessSpec`
    past: MetricSnapshot = field(default_factory=MetricSnapshot)  # metrics of the earlier processes


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessChanged(StrictData):
    """A process is new, or information about it other than its status has changed."""

    info: ProcessInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class StatusReported(StrictData):
    name: str
    status: Status


@dataclass(frozen=True, kw_only=True, slots=True)
class ProcessRemoved(StrictData):
    name: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Reply(StrictData):
    request_id: str
    error: str | None  # why the request failed; None if it succeeded
    diagnostics: tuple[Diagnostic, ...] = ()  # one per invalid value, with a path relative to the request's values


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestData(StrictData):
    """Base class of all requests. A reply has the same `request_id` as its request."""

    request_id: str = field(default_factory=lambda: uuid4().hex)


@dataclass(frozen=True, kw_only=True, slots=True)
class Forward(RequestData):
    """Send `message` to the process called `target`."""

    target: str
    message: Configure | RequestPreview | FramesAnswered


@dataclass(frozen=True, kw_only=True, slots=True)
class RestartProcess(RequestData):
    target: str


@dataclass(frozen=True, kw_only=True, slots=True)
class PauseCamera(RequestData):
    """Disconnect from a camera, and send no frames until an operator resumes it."""

    camera: str


@dataclass(frozen=True, kw_only=True, slots=True)
class ResumeCamera(RequestData):
    camera: str


@dataclass(frozen=True, kw_only=True, slots=True)
class SetCamera(RequestData):
    """Change settings of a camera. The hub validates the values."""

    camera: str
    values: RuntimeValues


@dataclass(frozen=True, kw_only=True, slots=True)
class AddCamera(RequestData):
    """Add a camera. `entry` is an entry of cameras.yaml as JSON. The hub validates the entry."""

    entry: dict[str, JsonValue] = field(repr=False)  # the camera's url may contain a password


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestInFile(RequestData):
    """Perform the `AddCamera` in the memory file that arrives with this record. Both have the same `request_id`.

    The memory file keeps the secrets of the `AddCamera` out of the supervisor's memory.
    """


@dataclass(frozen=True, kw_only=True, slots=True)
class RemoveCamera(RequestData):
    camera: str


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestConnectSlot(StrictData):
    """Ask for permission to connect to the camera."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ReleaseConnectSlot(StrictData):
    """Release the slot, or withdraw the request for it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ConnectSlotGranted(StrictData):
    """Connect to the camera now."""


@dataclass(frozen=True, kw_only=True, slots=True)
class RequestReconnectTurn(StrictData):
    service: str  # URL


@dataclass(frozen=True, kw_only=True, slots=True)
class ReconnectTurnGranted(StrictData):
    """Reconnect to the service after `delay_s` seconds."""

    delay_s: float


CameraMessage = Configure | RequestPreview | FramesAnswered
TurnRequest = RequestConnectSlot | ReleaseConnectSlot | RequestReconnectTurn
Event = ProcessChanged | StatusReported | ProcessRemoved | Reply
CameraRequest = PauseCamera | ResumeCamera | SetCamera | AddCamera | RemoveCamera
Request = Forward | RestartProcess | CameraRequest
Message = (
    Status
    | Drain
    | CameraMessage
    | TurnRequest
    | ConnectSlotGranted
    | ReconnectTurnGranted
    | Event
    | Request
    | RequestInFile
)

_ADAPTERS: Final[dict[bytes, TypeAdapter[Message]]] = {
    kind.__name__.encode(): TypeAdapter(kind) for kind in get_args(Message)
}
_STATUS: Final = b"Status "


def encode(message: Message) -> bytes:
    """Return a message as one record. Raises `MessageError` for invalid Unicode (a lone surrogate)."""
    # Each camera reports 60 series per second. Pydantic's serializer takes a quarter of the time that `json` takes.
    name = type(message).__name__.encode()
    try:
        return name + b" " + _ADAPTERS[name].dump_json(message)
    except PydanticSerializationError as error:
        raise MessageError(f"{type(message).__name__} contains text that is not Unicode") from error


def decode(record: bytes) -> Message:
    """Decode a record. Raises `MessageError`, and no other error, for an invalid record."""
    name, _, fields = record.partition(b" ")
    adapter = _ADAPTERS.get(name)
    if adapter is None:
        raise MessageError("not a message: unknown type")
    try:
        return adapter.validate_json(fields)
    except ValidationError:  # pydantic's error would quote the fields, which may contain secrets
        raise MessageError(f"not a message: malformed {name.decode()}") from None


@dataclass(frozen=True, kw_only=True, slots=True)
class SealedRequest:
    """An `AddCamera` that arrived as a `RequestInFile`.

    The supervisor keeps its descriptor but does not read the file.
    """

    request_id: str
    file: MemoryFile | None  # None if the file did not arrive: it was not sent, or no descriptor was free

    def read(self) -> AddCamera:
        """Return the request. Raises `MessageError` if the file is missing or does not contain the request."""
        if self.file is None:
            raise MessageError("its file did not arrive")
        try:
            request = decode(self.file.read(MAX_FILE_BYTES))
        except ValueError as error:  # `MessageError` is a ValueError
            raise MessageError(f"no request in the file: {error}") from None
        if not isinstance(request, AddCamera) or request.request_id != self.request_id:
            raise MessageError("no request in the file: another message")
        return request


def is_status(record: bytes) -> bool:
    """Return whether a record claims to be a `Status`. Does not decode the record."""
    return record.startswith(_STATUS)


def status_reported(name: str, record: bytes) -> bytes:
    """Return a `StatusReported` record that contains the record of a status. Does not decode the status."""
    return b'StatusReported {"name":%b,"status":%b}' % (json.dumps(name).encode(), record.removeprefix(_STATUS))


def process_changed(info: ProcessInfo) -> bytes:
    """Return a `ProcessChanged` record. If it would be too large, omit the facts and the past metrics."""
    record = encode(ProcessChanged(info=info))
    if len(record) > MAX_RECORD_BYTES:
        return encode(ProcessChanged(info=replace(info, facts=None, past=MetricSnapshot())))
    return record
