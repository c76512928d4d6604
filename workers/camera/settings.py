"""What a camera's worker is given, and which changes of it the worker takes up while it runs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from nvision_hub.config import run_time_values
from nvision_hub.link import Command

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.broker.connection import Stream
    from nvision_hub.broker.lease import LeaseSettings
    from nvision_hub.broker.spool import SpoolPlace
    from nvision_hub.config import Camera
    from workers.camera.dial import Service


@dataclass(frozen=True, kw_only=True)
class CameraSettings:
    """One camera and where its pictures and results go."""

    camera: Camera
    site: str
    service: Service
    stream: Stream
    dial_dir: Path | None = None  # where the hub's cameras take turns to be dialled; None: dialled at once
    turns: Path | None = None  # the file through which the hub's cameras take turns to come back to a service
    spool: SpoolPlace | None = None  # where results wait while Redis is away; None: in memory
    paused: bool = False  # the camera is left alone, and nothing is sent
    lease: LeaseSettings | None = None  # to be held before anything is sent; None: no other hub has this camera


def retune(old: CameraSettings, new: CameraSettings) -> Command | None:
    """The command that makes a worker of `old` one of `new` while it runs; None where only a new one will do."""
    if old.camera.address.kind == "snapshot" and old.camera.fps != new.camera.fps:
        return None  # its pictures are asked for at that rate
    tuned = run_time_values(new.camera)
    threshold = tuned["confidence_threshold"]
    nvision = old.camera.nvision.model_copy(update={"confidence_threshold": threshold})
    plain = {name: value for name, value in tuned.items() if name != "confidence_threshold"}
    camera = old.camera.model_copy(update={**plain, "nvision": nvision})
    service = replace(old.service, options=replace(old.service.options, confidence_threshold=threshold))
    if replace(old, camera=camera, service=service, paused=new.paused) != new:
        return None
    return Command(verb="set", arguments={**tuned, "paused": new.paused})
