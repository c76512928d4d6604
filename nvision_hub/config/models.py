"""What cameras.yaml may hold: every key, its range and its default, once.

These models are the description of the file (the JSON Schema is made from them) and its value: `Config.cameras` are
effective cameras, into which `load` has merged `defaults` and `nvision`. They read no file and no environment; what
relates one key to another is in `checks.py`.
"""

from __future__ import annotations

import base64
import binascii
import os.path
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationInfo,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from nvision_hub.config.address import Listen, MqttAddress, RedisAddress, ServiceAddress, WebhookAddress
from nvision_hub.config.camera_address import CameraAddress  # noqa: TC001 - pydantic reads it at run time
from nvision_hub.config.labels import Labels
from nvision_hub.config.secret import Secret
from nvision_hub.wire import Service  # noqa: TC001 - pydantic reads it at run time

if TYPE_CHECKING:
    from collections.abc import Mapping

ID_PATTERN: Final = "[a-z0-9][a-z0-9_-]{0,62}"
PREFIX_PATTERN: Final = "[A-Za-z0-9][A-Za-z0-9_.:-]{0,63}"
HOST_PATTERN: Final = r"^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$"
TOPIC_PATTERN: Final = "[A-Za-z0-9_-]{1,63}(/[A-Za-z0-9_-]{1,63}){0,7}"
_WEBHOOK_SECRET_PREFIX: Final = "whsec_"  # noqa: S105 - the prefix that Standard Webhooks prescribes, no secret
_WEBHOOK_SECRET_BYTES: Final = range(24, 65)  # Standard Webhooks, "Signature scheme"


def _no_lines(value: object) -> object:
    """A list whose items are all commented out is an empty list."""
    return () if value is None else value


def _absent(value: object) -> object:
    """`${VAR:-}` that came out empty is a value not given."""
    return None if value == "" else value


def _listed(value: object) -> object:
    return (value,) if isinstance(value, str | Secret) else value


def _id(text: str) -> str:
    if re.fullmatch(ID_PATTERN, text) is None:
        raise ValueError("must be 1 to 63 lower-case letters, digits, - and _, the first no - or _, such as lobby-2")
    return text


def _prefix(text: str) -> str:
    if re.fullmatch(PREFIX_PATTERN, text) is None:
        raise ValueError("must be 1 to 64 letters, digits, _ . : and -, beginning with a letter or digit")
    return text


def _host_name(text: str) -> str:
    if re.fullmatch(HOST_PATTERN, text) is None:
        raise ValueError("must be a host's name in lower-case letters, digits, - and ., such as hub.example.com")
    return text


def _topic(text: str) -> str:
    if re.fullmatch(TOPIC_PATTERN, text) is None:
        raise ValueError("must be letters, digits, _ and -, with / between the levels, such as home/nvision")
    return text


def _webhook_secret(secret: Secret) -> Secret:
    text = secret.reveal()
    try:
        key = base64.b64decode(text.removeprefix(_WEBHOOK_SECRET_PREFIX), validate=True)
    except (binascii.Error, ValueError):
        key = b""
    if not text.startswith(_WEBHOOK_SECRET_PREFIX) or len(key) not in _WEBHOOK_SECRET_BYTES:
        raise ValueError(
            "must be whsec_ and then 24 to 64 bytes in base64; `echo whsec_$(openssl rand -base64 32)` makes one"
        )
    return secret


Absent = BeforeValidator(_absent)
NoLines = BeforeValidator(_no_lines)
Id = Annotated[str, AfterValidator(_id), Field(examples=["lobby"], json_schema_extra={"pattern": f"^{ID_PATTERN}$"})]
Prefix = Annotated[
    str, AfterValidator(_prefix), Field(examples=["nvision"], json_schema_extra={"pattern": f"^{PREFIX_PATTERN}$"})
]
Topic = Annotated[
    str, AfterValidator(_topic), Field(examples=["nvision"], json_schema_extra={"pattern": f"^{TOPIC_PATTERN}$"})
]
HostName = Annotated[
    str, AfterValidator(_host_name), Field(examples=["hub.example.com"], json_schema_extra={"pattern": HOST_PATTERN})
]
Names = Annotated[tuple[str, ...], Field(min_length=1)]
PerSecond = Annotated[float, Field(gt=0, le=60, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(gt=0, le=3600, allow_inf_nan=False)]
Point = tuple[Fraction, Fraction]
Polygon = Annotated[tuple[Point, ...], Field(min_length=3, max_length=1000)]
Key = Annotated[Secret, Field(examples=["${NVISION_STREAMING_KEY}"])]
WebhookSecret = Annotated[Secret, AfterValidator(_webhook_secret), Field(examples=["${ALARM_SECRET}"])]
WebhookSecrets = Annotated[tuple[WebhookSecret, ...], Field(min_length=1, max_length=2)]


class Section(BaseModel):
    """A mapping of cameras.yaml: immutable, and no key is known but those written here."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        hide_input_in_errors=True,
        use_attribute_docstrings=True,
    )

    @model_validator(mode="before")
    @classmethod
    def _no_lines(cls, value: object) -> object:
        """A section whose lines are all commented out is an empty section."""
        return {} if value is None else value


class Nvision(Section):
    """The Nvision service that looks at the pictures."""

    url: ServiceAddress = ServiceAddress(None)
    """`local` for the service that the hub starts itself, or the ws:// or wss:// base address of an Nvision service."""
    service: Service = "object-detection"
    """What to look for: objects or faces."""
    streaming_key: Annotated[Key | None, Absent] = None
    """The service's streaming key, from its portal. Required unless url is `local`."""
    confidence_threshold: Fraction = 0.1
    """Detections less certain than this are not reported, 0 to 1."""
    output_cropped_image: bool = False
    """Send back a picture of each detection."""
    output_visualized_image: bool = False
    """Send back the picture with the detections drawn on it."""


class Motion(Section):
    """How `when: motion` tells movement from stillness."""

    sensitivity: Fraction = 0.5
    """0 sees only large movements, 1 the smallest."""
    calm_after: Seconds = 10.0
    """Seconds without movement before the camera counts as still."""
    idle_fps: PerSecond = 0.1
    """Pictures per second sent while nothing moves."""
    ignore: Annotated[tuple[Polygon, ...], NoLines] = ()
    """Polygons in which movement does not count, points as 0..1 of width and height."""


class CameraSettings(Section):
    """Everything about a camera that `defaults` may set for all of them."""

    fps: PerSecond = 5.0
    """Pictures per second sent, above 0 and up to 60; 0.2 is one every 5 seconds."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 85
    """JPEG quality of the pictures sent, 1 to 100."""
    max_width: Annotated[Annotated[int, Field(ge=16, le=16384)] | None, Absent] = None
    """Wider pictures are scaled down to this many pixels, aspect kept; null sends them as they are."""
    transport: Literal["tcp", "udp"] = "tcp"
    """How RTSP media travels."""
    when: Literal["always", "motion"] = "always"
    """Send all the time, or at full rate only while something moves."""
    stall_timeout: Seconds = 10.0
    """Seconds without a packet before the source is opened anew."""
    hwaccel: Literal["none", "auto", "cuda", "qsv", "drm"] = "none"
    """Hardware that decodes the video."""
    username: Annotated[str | None, Absent] = None
    """The camera's user name; unlike in the URL, no character needs an escape."""
    password: Annotated[Secret | None, Absent] = None
    """The camera's password; unlike in the URL, no character needs an escape."""
    nvision: Nvision = Nvision()
    """Settings of the Nvision service that differ for this camera."""
    labels: Labels = Labels()
    """Names and values copied into every event."""
    masks: Annotated[tuple[Polygon, ...], NoLines] = ()
    """Polygons blanked before a picture leaves, points as 0..1 of width and height."""
    motion: Motion = Motion()
    """How `when: motion` tells movement from stillness."""
    placement: Labels = Labels()
    """Labels by which the distributed engine chooses a machine."""


class Camera(CameraSettings):
    """One camera, with every setting resolved."""

    id: Id
    """The camera's name in events, channels and metrics: lower-case letters, digits, - and _; unique."""
    name: Annotated[str | None, Absent] = None
    """A name for people."""
    url: CameraAddress
    """Where the pictures come from: rtsp, rtsps, http, https, snapshot+http, snapshot+https, usb, file or demo."""

    @property
    def address(self) -> CameraAddress:
        """Where to connect: the URL with the credentials of `username` and `password` in it."""
        return self.url.with_credentials(self.username, self.password)

    def shown(self) -> dict[str, Any]:
        """Every setting in force, as JSON values, secrets as `***`."""
        return self.model_dump(mode="json")

    @field_validator("url")
    @classmethod
    def _beside_the_file(cls, url: CameraAddress, info: ValidationInfo) -> CameraAddress:
        return url if info.context is None else url.beside(info.context["directory"])


class Redis(Section):
    """Where results are published."""

    url: RedisAddress = RedisAddress("embedded", Secret(""))
    """`embedded` for the broker that the hub starts itself, or a redis://, rediss:// or unix:// address."""
    embedded_port: Annotated[int, Field(ge=0, le=65535)] = 6379
    """Port of the embedded broker on loopback; the next free one if taken, any free one if 0."""
    prefix: Prefix = "nvision"
    """What the names of all channels and streams begin with."""
    stream_max_entries: Annotated[int, Field(ge=1, le=100_000_000)] = 100_000
    """The result stream is trimmed at about this many events."""
    spool_max_bytes: Annotated[int, Field(ge=2**20, le=2**40)] = 64 * 2**20
    """How many bytes of results each camera may keep on disk while Redis is away; beyond that the oldest are lost."""
    spool_max_age: Annotated[float, Field(gt=0, le=30 * 86_400, allow_inf_nan=False)] = 86_400.0
    """Seconds after which a result that waits for Redis is too old to be worth sending."""


class Gateway(Section):
    """The hub's own HTTP server: ops page, API, metrics, callback."""

    listen: Listen = Listen("127.0.0.1", 8080)
    """host:port, or `none` for no gateway; anything but loopback requires a token. 8080 or the next free port if left
    out."""
    token: Annotated[Secret | None, Absent] = None
    """What callers of the API and the page must present; optional on loopback."""
    hosts: Annotated[tuple[HostName, ...], NoLines] = ()
    """Names under which a proxy on this machine serves the gateway, such as hub.example.com."""
    callback_token: Annotated[Secret | None, Absent] = None
    """Enables POST /callback/<token>, the callback URL to set in the Nvision portal."""
    callback_max_bytes: Annotated[int, Field(ge=1024, le=2**28)] = 8 * 2**20
    """The largest body that the callback endpoint takes, in bytes."""


class Webhook(Section):
    """One endpoint that results are posted to."""

    id: Id
    """The webhook's name in metrics and commands; unique."""
    url: WebhookAddress
    """The http:// or https:// address that results are posted to."""
    secret: Annotated[WebhookSecrets, BeforeValidator(_listed, json_schema_input_type=WebhookSecret | WebhookSecrets)]
    """The Standard Webhooks secret (whsec_...) that signs each delivery; two while rotating."""
    cameras: Names | None = None
    """Ids of the cameras whose results are sent; all where left out."""
    classes: Names | None = None
    """Names of the detections that are sent; all where left out."""
    min_confidence: Fraction = 0.0
    """Detections less certain than this are not sent, 0 to 1."""
    allow_private: bool = False
    """Let this webhook reach private and loopback addresses."""


class Mqtt(Section):
    """Results and states passed on to an MQTT broker. Needs the extra of that name: pip install 'nvision-hub[mqtt]'."""

    url: Annotated[MqttAddress | None, Absent] = None
    """The broker's mqtt:// or mqtts:// address; left out, nothing is passed on."""
    username: Annotated[str | None, Absent] = None
    """The user name at the broker; unlike in the URL, no character needs an escape."""
    password: Annotated[Secret | None, Absent] = None
    """The password at the broker; unlike in the URL, no character needs an escape."""
    prefix: Topic = "nvision"
    """What all topics begin with."""
    discovery: Annotated[Literal["homeassistant"] | None, Absent] = None
    """Whom to tell which cameras there are; null tells nobody."""


class Config(Section):
    """The whole of cameras.yaml, ready to run."""

    _path: Path = PrivateAttr(default_factory=Path)

    version: Annotated[int, Field(ge=1, le=1)] = 1
    """The version of this file's format."""
    site: Annotated[str, Field(min_length=1, max_length=63, examples=["demo"])] = "nvision-hub"
    """A name for this installation; labels metrics and events."""
    nvision: Nvision = Nvision()
    """The Nvision service that looks at the pictures."""
    redis: Redis = Redis()
    """Where results are published."""
    gateway: Gateway = Gateway()
    """The hub's own HTTP server: ops page, API, metrics, callback."""
    state_dir: Annotated[Path, Field(validate_default=True), WithJsonSchema({"type": "string"})] = Path(".nvision-hub")
    """Folder for the spool, the embedded broker's data and dead letters; relative to this file."""
    defaults: CameraSettings = CameraSettings()
    """Settings of every camera that does not say otherwise."""
    cameras: Annotated[tuple[Camera, ...], Field(min_length=1), NoLines]
    """The cameras."""
    webhooks: Annotated[tuple[Webhook, ...], NoLines] = ()
    """Endpoints that results are posted to."""
    mqtt: Mqtt = Mqtt()
    """Results and states passed on to an MQTT broker."""
    elsewhere: Annotated[tuple[Id, ...], NoLines] = ()
    """Ids of cameras that other hubs on the same Redis run, whose results this one's webhooks may name."""

    @property
    def path(self) -> Path:
        """The file that this was read from, absolute."""
        return self._path

    def camera(self, camera_id: str) -> Camera:
        """The camera of that id. Raises `KeyError` where there is none."""
        for camera in self.cameras:
            if camera.id == camera_id:
                return camera
        raise KeyError(camera_id)

    def model_post_init(self, context: Mapping[str, Path] | None, /) -> None:
        """Note the file's place, which is no key of the file."""
        if context is not None:
            self._path = context["path"]

    @field_validator("state_dir")
    @classmethod
    def _beside_the_file(cls, state_dir: Path, info: ValidationInfo) -> Path:
        if info.context is None:
            return state_dir
        return Path(os.path.normpath(info.context["directory"] / state_dir.expanduser()))
