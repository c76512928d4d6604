"""Models of cameras.yaml: every key with its range and default.

The models hold the values of the file, and pydantic generates the JSON Schema from the models. `load` merges `defaults`
and `nvision` into `Config.cameras`. The models do not read files or the environment. Rules that involve several keys
are in `checks.py`.
"""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, PrivateAttr, ValidationInfo, WithJsonSchema, field_validator

from nvision_hub.config.budget_section import Budget, PeriodLimits
from nvision_hub.config.camera_address import CameraAddress  # noqa: TC001 - pydantic reads it at run time
from nvision_hub.config.field_types import (
    TOPIC_PATTERN,
    AsList,
    EmptyIfNull,
    FilePath,
    Fraction,
    Id,
    IncludePatterns,
    Key,
    Line,
    Names,
    NoneIfEmpty,
    PerSecond,
    Polygon,
    Seconds,
    Section,
    WebhookSecrets,
)
from nvision_hub.config.gateway_section import Gateway
from nvision_hub.config.redis_section import Redis
from nvision_hub.config.schedule_section import ScheduleEntry  # noqa: TC001 - pydantic reads it at run time
from nvision_hub.config.server_addresses import MqttAddress, ServiceAddress, WebhookAddress
from nvision_hub.config.tls_policy import TlsPolicy  # noqa: TC001 - pydantic reads it at run time
from nvision_hub.config.tracking_section import Lines, NamedSections, Tracking, TrackingOrOff, WebhookEvent, Zones
from nvision_hub.config.value_types import Labels, Secret, ServiceName
from nvision_hub.errors import InvalidValueError

if TYPE_CHECKING:
    from collections.abc import Mapping


class Nvision(Section):
    """The Nvision service that analyzes the frames."""

    url: ServiceAddress = ServiceAddress("local")
    """`local` for the service that the hub starts itself, or the ws:// or wss:// base address of an Nvision service."""
    service: ServiceName = "object-detection"
    """What the service detects: objects or faces."""
    streaming_key: Annotated[Key | None, NoneIfEmpty] = None
    """The service's streaming key, from its portal. Required unless url is `local`."""
    confidence_threshold: Fraction = 0.1
    """Minimum confidence of the detections that are reported, 0 to 1."""
    model: Annotated[Literal["moving"] | FilePath | None, NoneIfEmpty] = None
    """Object detector of the local service: an ONNX model of the YOLO family, or `moving` to detect moving objects.

    By default, the model that comes with nvision-hub. This setting applies to all cameras."""
    labels: Annotated[FilePath | None, NoneIfEmpty] = None
    """Names of the classes of `model`: a text file with one name per line.

    By default, the names in the model's file, or else the names of COCO."""
    face_model: Annotated[FilePath | None, NoneIfEmpty] = None
    """A YuNet ONNX model for the local service. By default, the model that comes with nvision-hub."""
    output_cropped_image: bool = False
    """Return an image of each detection."""
    output_visualized_image: bool = False
    """Return the frame with the detections drawn on it."""


class Motion(Section):
    """Motion detection for `when: motion`."""

    source: Literal["video", "onvif"] = "video"
    """`video`: the hub detects motion in the frames. `onvif`: the camera reports motion; this requires an onvif:// URL.

    With `onvif`, the hub neither decodes nor sends a frame while the camera reports no motion."""
    sensitivity: Fraction = 0.5
    """0 detects only large movements; 1 detects the smallest."""
    cooldown: Seconds = 10.0
    """Seconds for which the full rate continues after the last motion."""
    idle_fps: PerSecond = 0.1
    """Frames per second sent while nothing moves."""
    ignore: Annotated[tuple[Polygon, ...], EmptyIfNull] = ()
    """Polygons in which the hub ignores motion; points are fractions (0 to 1) of the width and the height."""


class CameraOptions(Section):
    """All settings of a camera that `defaults` may set."""

    fps: PerSecond = 5.0
    """Frames per second sent, above 0 and up to 60; 0.2 is one frame every 5 seconds."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 85
    """JPEG quality of the frames sent, 1 to 100."""
    max_width: Annotated[Annotated[int, Field(ge=16, le=16384)] | None, NoneIfEmpty] = None
    """Maximum width of the frames sent, in pixels; null for no limit. Wider frames are scaled down proportionally."""
    transport: Literal["auto", "tcp", "udp"] = "auto"
    """Transport of RTSP media: `tcp`, `udp`, or `auto`: TCP first, and UDP if the camera refuses TCP."""
    when: Literal["always", "motion"] = "always"
    """When to send at the full rate: always, or only during motion."""
    stall_timeout: Seconds = 10.0
    """Seconds without a packet before the hub reconnects to the camera."""
    hwaccel: Literal["none", "auto", "cuda", "qsv", "drm"] = "none"
    """Hardware decoder for the video."""
    username: Annotated[Line | None, NoneIfEmpty] = None
    """The camera's user name; unlike in the URL, special characters need no escapes."""
    password: Annotated[Secret | None, NoneIfEmpty] = None
    """The camera's password; unlike in the URL, special characters need no escapes."""
    tls: Annotated[TlsPolicy | None, NoneIfEmpty] = None
    """How to verify the identity of a camera that uses TLS: `verify`, `fingerprint:<sha256>` or `insecure`.

    By default, the hub verifies the certificates of cameras with host names. It remembers the certificate of a camera
    with an IP address, and later accepts only that certificate."""
    auth: Literal["any", "digest"] = "any"
    """Authentication methods that the camera may request: Digest and Basic, or only Digest."""
    nvision: Nvision = Nvision()
    """Nvision settings for this camera; they override the general settings."""
    labels: Labels = Labels()
    """Names and values copied into every event."""
    masks: Annotated[tuple[Polygon, ...], EmptyIfNull] = ()
    """Polygons to blank in every frame that is sent; points are fractions (0 to 1) of the width and the height."""
    motion: Motion = Motion()
    """Motion detection for `when: motion`."""
    schedule: Annotated[tuple[ScheduleEntry, ...], EmptyIfNull] = ()
    """Times at which the camera sends at another rate or not at all. The first entry that applies takes effect."""
    priority: Literal["low", "normal", "high"] = "normal"
    """Priority of the camera when the site's budget is not enough for all cameras."""
    budget: PeriodLimits = PeriodLimits()
    """Limits of the images that this camera sends."""
    tracking: TrackingOrOff = Tracking()
    """How results become tracks, or `off`."""
    zones: Zones = Field(default_factory=NamedSections, json_schema_extra={"default": {}})
    """Areas of the frame, by name, in which objects are counted and timed."""
    lines: Lines = Field(default_factory=NamedSections, json_schema_extra={"default": {}})
    """Lines in the frame, by name, on which objects are counted by direction."""
    placement: Labels = Labels()
    """Labels of the machines that Kubernetes or Ray should prefer for this camera."""


class RuntimeSettings(Section):
    """Changes to the four settings that need no restart of a camera's worker.

    A setting that is left out does not change. `max_width` null removes the limit.
    """

    fps: PerSecond = 5.0
    """Frames per second sent, above 0 and up to 60."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 85
    """JPEG quality of the frames sent, 1 to 100."""
    max_width: Annotated[int, Field(ge=16, le=16384)] | None = None
    """Maximum width of the frames sent, in pixels; wider frames are scaled down."""
    confidence_threshold: Fraction = 0.1
    """Minimum confidence of the detections that are reported, 0 to 1."""

    def given(self) -> dict[str, Any]:
        """Return the settings to change."""
        return self.model_dump(include=self.model_fields_set)


class Camera(CameraOptions):
    """One camera, with every setting resolved."""

    id: Id
    """The camera's name in events, channels and metrics: lower-case letters, digits, - and _; unique."""
    name: Annotated[Line | None, NoneIfEmpty] = None
    """The name to display."""
    url: CameraAddress
    """The source of the frames: rtsp(s), http(s), snapshot+http(s), onvif(s), usb, file or demo."""

    @property
    def address(self) -> CameraAddress:
        """The URL to connect to, with credentials."""
        return self.url.with_credentials(self.username, self.password)

    @property
    def highest_fps(self) -> float:
        """The highest rate of the camera and its schedule."""
        return max([self.fps, *(entry.fps or 0.0 for entry in self.schedule)])

    @property
    def run_time_values(self) -> dict[str, Any]:
        """The values that `RuntimeSettings` may change."""
        values = self.model_dump(include={"fps", "jpeg_quality", "max_width"})
        return {**values, "confidence_threshold": self.nvision.confidence_threshold}

    def tuned(self, values: Mapping[str, Any]) -> Camera:
        """Return a copy of the camera with the given values of `RuntimeSettings`."""
        options = {name: value for name, value in values.items() if name != "confidence_threshold"}
        if "confidence_threshold" in values:
            threshold = {"confidence_threshold": values["confidence_threshold"]}
            options["nvision"] = self.nvision.model_copy(update=threshold)
        return self.model_copy(update=options)

    def shown(self) -> dict[str, Any]:
        """Return the settings in effect as JSON values, with `***` in place of secrets."""
        return self.model_dump(mode="json", by_alias=True)

    @field_validator("url")
    @classmethod
    def _relative_to_file(cls, url: CameraAddress, info: ValidationInfo) -> CameraAddress:
        return url if info.context is None else url.beside(info.context["path"].parent)


class Webhook(Section):
    """An endpoint to which the hub posts results and events of tracks."""

    id: Id
    """The webhook's name in metrics and commands; unique."""
    url: WebhookAddress
    """The http:// or https:// address of the endpoint."""
    secret: Annotated[WebhookSecrets, AsList]
    """The Standard Webhooks secret (whsec_...) that signs each delivery; a list of two during a rotation."""
    events: Annotated[tuple[WebhookEvent, ...], Field(min_length=1)] = ("result",)
    """Kinds of events to send: results (the default), or events of tracks, each as a CloudEvent."""
    cameras: Names | None = None
    """Ids of the cameras whose results and events are sent; all if omitted."""
    classes: Names | None = None
    """Classes of the detections and tracks that are sent; all if omitted."""
    zones: Names | None = None
    """Ids of the zones whose events are sent; all if omitted. Other events are not affected."""
    min_confidence: Fraction = 0.0
    """Minimum confidence of the detections and tracks that are sent, 0 to 1."""
    max_age: Annotated[Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)] | None, NoneIfEmpty] = None
    """Maximum age, in seconds, of an event that is sent; older ones are dropped. No limit if omitted."""
    allow_private: bool = False
    """Allow private and loopback addresses for this webhook."""


class Mqtt(Section):
    """The MQTT broker for results, tracks and states. Requires the extra mqtt: pip install 'nvision-hub[mqtt]'."""

    url: Annotated[MqttAddress | None, NoneIfEmpty] = None
    """The broker's mqtt:// or mqtts:// address; if omitted, the hub publishes nothing on MQTT."""
    username: Annotated[Line | None, NoneIfEmpty] = None
    """The user name for the broker; unlike in the URL, special characters need no escapes."""
    password: Annotated[Secret | None, NoneIfEmpty] = None
    """The password for the broker; unlike in the URL, special characters need no escapes."""
    prefix: Annotated[str, Field(pattern=TOPIC_PATTERN, examples=["nvision"])] = "nvision"
    """Prefix of all topics."""
    discovery: Annotated[Literal["homeassistant"] | None, NoneIfEmpty] = None
    """System to which the hub announces the cameras: `homeassistant` (2024.11 or later); null for none."""


class Config(Section):
    """All settings of cameras.yaml."""

    _path: Path = PrivateAttr(default_factory=Path)

    version: Annotated[int, Field(ge=1, le=1)] = 1
    """The version of this file's format."""
    site: Annotated[Line, Field(min_length=1, max_length=63, examples=["demo"])] = "nvision-hub"
    """Name of this installation, used as a label in metrics and events."""
    nvision: Nvision = Nvision()
    """The Nvision service that analyzes the frames."""
    redis: Redis = Redis()
    """The Redis server on which the hub publishes results."""
    gateway: Gateway = Gateway()
    """The hub's own HTTP server: ops page, API, metrics, callback."""
    state_dir: Annotated[Path, Field(validate_default=True), WithJsonSchema({"type": "string"})] = Path(".nvision-hub")
    """Folder for logs, spools, run-time changes and the embedded broker's data; relative to this file."""
    budget: Budget = Budget()
    """Limits of the images that all cameras send together."""
    defaults: CameraOptions = CameraOptions()
    """Settings for all cameras; each camera may override them."""
    cameras: Annotated[tuple[Camera, ...], EmptyIfNull] = ()
    """The cameras. With `include`, also those of the included files, which follow those of this file."""
    include: IncludePatterns = ()
    """Files with more cameras: a pattern or a list of patterns, such as `cameras.d/*.yaml`, relative to this file.

    Each file contains only `cameras`. Only the file name may contain wildcards."""
    webhooks: Annotated[tuple[Webhook, ...], EmptyIfNull] = ()
    """Endpoints to which the hub posts results."""
    mqtt: Mqtt = Mqtt()
    """The MQTT broker for results and states."""
    elsewhere: Annotated[tuple[Id, ...], EmptyIfNull] = ()
    """Ids of cameras that belong to other hubs on the same Redis; this hub's webhooks may refer to them."""

    @property
    def path(self) -> Path:
        """Absolute path of the file."""
        return self._path

    def camera(self, camera_id: str) -> Camera:
        """Return the camera with this id. Raises `KeyError`."""
        return {camera.id: camera for camera in self.cameras}[camera_id]

    def model_post_init(self, context: Mapping[str, Path] | None, /) -> None:
        """Store the file's path, which is not a key in the file."""
        if context is not None:
            self._path = context["path"]

    @field_validator("state_dir")
    @classmethod
    def _relative_to_file(cls, state_dir: Path, info: ValidationInfo) -> Path:
        if info.context is None:
            return state_dir
        try:
            return Path(os.path.normpath(info.context["path"].parent / state_dir.expanduser()))
        except RuntimeError as error:
            raise InvalidValueError("begins with ~, but there is no such home folder", "write the full path") from error
