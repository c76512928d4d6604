"""Status report that a worker sends once a second: heartbeat, deadlines, metrics and facts for operators."""

from __future__ import annotations

import math
import os
import time
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from nvision_hub.metrics.snapshot import MetricSnapshot, StrictData


@dataclass(frozen=True, kw_only=True, slots=True)
class Deadline(StrictData):
    """Last progress of one activity, and the maximum time without progress before the worker counts as stuck."""

    at: float  # monotonic seconds
    timeout_s: float

    def is_missed(self, now: float, *, since: float = -math.inf) -> bool:
        """Return whether progress is overdue at `now`. Time before `since` does not count."""
        return now - max(self.at, since) > self.timeout_s


class CameraState(StrEnum):
    """State of a camera as operators see it. The names are part of the metrics contract."""

    STARTING = "starting"
    CONNECTING = "connecting"
    STREAMING = "streaming"
    PAUSED = "paused"
    STALLED = "stalled"
    AUTH_FAILED = "auth_failed"
    NOT_FOUND = "not_found"
    UNREACHABLE = "unreachable"
    UNSUPPORTED = "unsupported"
    CRASH_LOOP = "crash_loop"
    STOPPED = "stopped"


@dataclass(frozen=True, kw_only=True, slots=True)
class CameraInfo(StrictData):
    """Information about one camera for tables. Times are seconds since the epoch, and rates are per second."""

    since: float | None = None  # when the camera entered its current state
    fps: float | None = None  # the configured rate, or the rate of the schedule
    scheduled: str | None = None  # the schedule's effect, such as "0.5/s until 06:00"; None while it has no effect
    limited_by: str | None = None  # the limit that withholds frames, such as "the site's images_per_day"
    paused: bool = False
    moving: bool | None = None  # None without motion detection
    decoder: str | None = None  # "software" or a device; None before the first connection
    profile: str | None = None  # media profile of an ONVIF camera, as one line; None for other cameras
    rate_in: float | None = None  # packets received
    rate_out: float | None = None  # frames sent
    sent: float | None = None  # number of frames
    dropped: float | None = None  # number of frames
    last_result_at: float | None = None
    seen: tuple[str, ...] = ()  # names of the detections in the last result
    last_frame_at: float | None = None
    last_frame_id: str | None = None  # id of the last frame sent
    gop_s: float | None = None  # keyframe interval; None while unknown


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerInfo(StrictData):
    address: str  # without a password
    program: int  # pid of Valkey


@dataclass(frozen=True, kw_only=True, slots=True)
class ServiceInfo(StrictData):
    url: str
    requests: float
    rate: float  # requests per second
    detections: float
    refused: float
    connections: int
    sources: int
    object_model: str  # name of the object detection model for display; likewise `face_model`
    face_model: str


@dataclass(frozen=True, kw_only=True, slots=True)
class DemoInfo(StrictData):
    port: int
    scenes: tuple[str, ...]  # scenes with a rendered clip
    clients: int


@dataclass(frozen=True, kw_only=True, slots=True)
class GatewayInfo(StrictData):
    url: str | None  # if None, the gateway serves only the control socket
    viewers: int
    health_url: str | None = None  # if None, there is no separate listener for health checks


@dataclass(frozen=True, kw_only=True, slots=True)
class MqttInfo(StrictData):
    broker: str  # without a password


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhookSummary(StrictData):
    """Summary of one webhook. The counts include the counts of earlier processes."""

    id: str
    url: str
    state: str = "active"
    pending: int = 0  # new results that the dispatcher has neither delivered nor discarded by its filters
    retrying: int = 0  # deliveries that wait for a retry or a replay
    dead: int = 0  # deliveries that failed permanently
    delivered: int = 0
    failed: int = 0  # failed attempts, not failed deliveries
    last_error: str | None = None  # error of the last attempt; None if the last attempt succeeded
    last_delivery_at: str | None = None  # ISO 8601
    p50_s: float | None = None
    p99_s: float | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class WebhooksInfo(StrictData):
    webhooks: tuple[WebhookSummary, ...]


WorkerInfo = CameraInfo | BrokerInfo | ServiceInfo | DemoInfo | GatewayInfo | MqttInfo | WebhooksInfo


@dataclass(frozen=True, kw_only=True, slots=True)
class Status(StrictData):
    """Status of one worker at one moment.

    `ready` is True while the worker can do its work, for example while a camera streams or is paused. `error` is a
    message for people; None if there is nothing to fix.
    """

    state: str
    pid: int = field(default_factory=os.getpid)
    # Monotonic seconds, comparable between the processes of one machine.
    at: float = field(default_factory=time.monotonic)
    ready: bool = False
    error: str | None = None
    deadlines: dict[str, Deadline] = field(default_factory=dict)
    metrics: MetricSnapshot = field(default_factory=MetricSnapshot)
    # No two classes of `WorkerInfo` have the same fields. The first class that fits is therefore the right one.
    info: Annotated[WorkerInfo | None, Field(union_mode="left_to_right")] = None

    @property
    def camera(self) -> CameraInfo:
        """`info` of a camera's worker; an empty `CameraInfo` for any other worker."""
        return self.info if isinstance(self.info, CameraInfo) else CameraInfo()
