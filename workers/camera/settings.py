"""Settings of a camera worker, and the message that changes some of them while the worker runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nvision_hub.runtime.messages import Configure

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.broker.spool import SpoolSettings
    from nvision_hub.cluster.camera_lease import LeaseSettings
    from nvision_hub.config.added_cameras import CameraHost
    from nvision_hub.config.models import Camera
    from nvision_hub.nvision.connection import ServiceEndpoint
    from workers.camera.image_permits import LedgerAccess


@dataclass(frozen=True, kw_only=True)
class CameraWorkerSettings:
    """Settings of one camera worker: the camera, and the destinations of its frames and results."""

    camera: Camera
    site: str
    service: ServiceEndpoint
    stream: RedisSettings
    spool: SpoolSettings | None = None  # where results wait while Redis is unavailable; if None, they wait in memory
    # Directory with the known fingerprints of cameras; if None, they are kept only in memory.
    certificates: Path | None = None
    camera_hosts: tuple[CameraHost, ...] = ()  # hosts to which an ONVIF camera may refer for its stream
    paused: bool = False  # if True, the worker neither connects to the camera nor sends frames
    ledger: LedgerAccess | None = None  # None if the site has no budget
    time_zone: str = "UTC"  # time zone of the camera's schedule
    # The worker sends frames only while it holds this lease; if None, it always sends.
    lease: LeaseSettings | None = None


def reconfigure(old: CameraWorkerSettings, new: CameraWorkerSettings) -> Configure | None:
    """Return the message that changes a running worker from `old` to `new`; None if the worker must restart."""
    if old.camera.address.kind == "snapshot" and old.camera.fps != new.camera.fps:
        return None  # the source polls at the rate that was set when it opened
    if old.camera.address.kind == "onvif" and any(
        getattr(old.camera, name) != getattr(new.camera, name) for name in ("fps", "max_width")
    ):
        return None  # another media profile may fit the new settings
    tuned = new.camera.run_time_values
    threshold = tuned.pop("confidence_threshold")
    nvision = old.camera.nvision.model_copy(update={"confidence_threshold": threshold})
    camera = old.camera.model_copy(update={**tuned, "nvision": nvision})
    service = replace(old.service, options=replace(old.service.options, confidence_threshold=threshold))
    if replace(old, camera=camera, service=service, paused=new.paused) != new:
        return None
    return Configure(**tuned, confidence_threshold=threshold, paused=new.paused)
