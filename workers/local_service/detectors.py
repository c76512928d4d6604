"""Choice of the detectors for the local service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from workers.local_service import packaged_models
from workers.local_service.background_subtraction import MovingObjectDetector
from workers.local_service.centerface import CenterFace
from workers.local_service.ssd import SsdMobilenet
from workers.local_service.yolo import YoloModel
from workers.local_service.yunet import YunetFaces

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nvision_hub.config.value_types import ServiceName
    from workers.local_service.detection_types import Detection, Detector
    from workers.local_service.images import Pixels
    from workers.local_service.settings import LocalServiceSettings

MOVING_OBJECTS = "moving objects, without a model"
NOTHING = "none, without a model"


class NoDetections:
    """Detector without detections, for a service whose model is missing."""

    def detect(self, pixels: Pixels, at: float, threshold: float) -> list[Detection]:  # noqa: ARG002 - interface
        """Return an empty list."""
        return []


@dataclass(frozen=True, kw_only=True, slots=True)
class DetectorChoice:
    """Detectors for one service: a display name, and a factory for the detector of each source.

    All sources share the model, but each source has its own background.
    """

    name: str
    create: Callable[[], Detector]
    is_fallback: bool = False  # whether this build of nvision-hub lacks the packaged model


def choose_detectors(settings: LocalServiceSettings) -> Mapping[ServiceName, DetectorChoice]:
    """Return the detectors of each service. Raises `UnavailableError` if a model cannot be used."""
    return {"object-detection": _objects(settings), "face-detection": _faces(settings)}


def _objects(settings: LocalServiceSettings) -> DetectorChoice:
    if isinstance(settings.model, Path):
        yolo = YoloModel(settings.model, settings.labels)
        return DetectorChoice(name=settings.model.name, create=lambda: yolo)
    packaged = packaged_models.OBJECTS
    if settings.model is None and packaged.is_installed:
        ssd = SsdMobilenet(packaged)
        return DetectorChoice(name=packaged.name, create=lambda: ssd)
    return DetectorChoice(name=MOVING_OBJECTS, create=MovingObjectDetector, is_fallback=settings.model is None)


def _faces(settings: LocalServiceSettings) -> DetectorChoice:
    if settings.face_model is not None:
        yunet = YunetFaces(settings.face_model)
        return DetectorChoice(name=settings.face_model.name, create=lambda: yunet)
    packaged = packaged_models.FACES
    if packaged.is_installed:
        centerface = CenterFace(packaged)
        return DetectorChoice(name=packaged.name, create=lambda: centerface)
    return DetectorChoice(name=NOTHING, create=NoDetections, is_fallback=True)
