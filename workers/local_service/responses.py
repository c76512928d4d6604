"""Builder of result messages from detections, with the requested images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2

from nvision_hub.nvision.nvision_pb2 import BoundingBox, NvisionRequest, ObjectDetection
from workers.local_service.images import jpeg

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvision_hub.config.value_types import ServiceName
    from nvision_hub.nvision.protocol import RequestOptions
    from workers.local_service.detection_types import Detection
    from workers.local_service.images import Pixels

_LINE: Final = (60, 220, 60)  # blue, green, red
_INK: Final = (20, 20, 20)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


def select(detections: Iterable[Detection], options: RequestOptions, target_classes: Iterable[str]) -> list[Detection]:
    """Return the detections that reach the threshold and match `target_classes` (classes or groups).

    Without target classes, every detection matches unless it is part of another object.
    """
    targets = {name.lower() for name in target_classes}
    return [
        detection
        for detection in detections
        if detection.confidence >= options.confidence_threshold
        and (
            detection.name.lower() in targets or detection.parent.lower() in targets if targets else not detection.part
        )
    ]


def result_message(
    request: NvisionRequest,
    service: ServiceName,
    service_id: str,
    *,
    pixels: Pixels | None = None,
    detections: Sequence[Detection] = (),
    options: RequestOptions | None = None,
) -> NvisionRequest:
    """Return the result of one request. If `pixels` is None (unreadable image), the result contains no image.

    Every detection has a bounding box, because applications based on the official SDK fail without one.
    """
    message = NvisionRequest(service_id=service_id, source_id=request.source_id, frame_id=request.frame_id)
    target = message.detected_faces if service == "face-detection" else message.detected_objects
    cropped = pixels if options is not None and options.output_cropped_image else None
    for detection in detections:
        box = detection.box
        target.append(
            ObjectDetection(
                name=detection.name,
                parent=detection.parent,
                confidence=detection.confidence,
                bounding_box=BoundingBox(left=box.left, top=box.top, right=box.right, bottom=box.bottom),
                cropped_image=b"" if cropped is None else jpeg(cropped[box.top : box.bottom, box.left : box.right]),
            )
        )
    if pixels is not None and options is not None and options.output_visualized_image:
        message.raw_data = jpeg(visualize(pixels, detections))
    return message


def visualize(pixels: Pixels, detections: Iterable[Detection]) -> Pixels:
    """Return a copy of the image with a box, a name and a confidence for each detection."""
    canvas = pixels.copy()
    line = max(round(max(pixels.shape) / 640), 1)
    size = 0.45 * line
    for detection in detections:
        box = detection.box
        cv2.rectangle(canvas, (box.left, box.top), (box.right - 1, box.bottom - 1), _LINE, line)
        caption = f"{detection.name} {detection.confidence:.0%}"
        (width, height), baseline = cv2.getTextSize(caption, _FONT, size, line)
        foot = max(box.top, height + baseline)
        cv2.rectangle(canvas, (box.left, foot - height - baseline), (box.left + width, foot), _LINE, cv2.FILLED)
        cv2.putText(canvas, caption, (box.left, foot - baseline // 2), _FONT, size, _INK, line, cv2.LINE_AA)
    return canvas
