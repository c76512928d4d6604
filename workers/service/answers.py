"""Answers as Nvision gives them: a result message from what was found, with the pictures that were asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

import cv2

from nvision_hub.wire import BoundingBox, NvisionRequest, ObjectDetection
from workers.service.pictures import jpeg

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.wire import Options, Service
    from workers.service.detections import Detection
    from workers.service.pictures import Pixels

_LINE: Final = (60, 220, 60)  # blue green red
_INK: Final = (20, 20, 20)
_FONT: Final = cv2.FONT_HERSHEY_SIMPLEX


def wanted(found: Iterable[Detection], options: Options, target_classes: Iterable[str]) -> list[Detection]:
    """What of `found` the request asks for: sure enough, and of a class or group it names where it names any."""
    targets = {name.lower() for name in target_classes}
    return [
        detection
        for detection in found
        if detection.confidence >= options.confidence_threshold
        and (not targets or detection.name.lower() in targets or detection.parent.lower() in targets)
    ]


def answer(
    request: NvisionRequest,
    *,
    service: Service,
    service_id: str,
    pixels: Pixels | None = None,
    found: Iterable[Detection] = (),
    options: Options | None = None,
) -> NvisionRequest:
    """The result of one request; `pixels` None (a picture that could not be opened) has none of its pictures.

    Every detection has a bounding box: the official SDK's applications fail on one without.
    """
    message = NvisionRequest(service_id=service_id, source_id=request.source_id, frame_id=request.frame_id)
    found = list(found)
    detections = message.detected_faces if service == "face-detection" else message.detected_objects
    crops = pixels is not None and options is not None and options.output_cropped_image
    for detection in found:
        box = detection.box
        detections.append(
            ObjectDetection(
                name=detection.name,
                parent=detection.parent,
                confidence=detection.confidence,
                bounding_box=BoundingBox(left=box.left, top=box.top, right=box.right, bottom=box.bottom),
                cropped_image=jpeg(pixels[box.top : box.bottom, box.left : box.right])
                if crops and pixels is not None
                else b"",
            )
        )
    if pixels is not None and options is not None and options.output_visualized_image:
        message.raw_data = jpeg(drawn_on(pixels, found))
    return message


def drawn_on(pixels: Pixels, found: Iterable[Detection]) -> Pixels:
    """A copy of the picture with a box around each thing found, and its name and confidence above."""
    canvas = pixels.copy()
    line = max(round(max(pixels.shape) / 640), 1)
    size = 0.45 * line
    for detection in found:
        box = detection.box
        cv2.rectangle(canvas, (box.left, box.top), (box.right - 1, box.bottom - 1), _LINE, line)
        caption = f"{detection.name} {detection.confidence:.0%}"
        (width, height), below = cv2.getTextSize(caption, _FONT, size, line)
        foot = max(box.top, height + below)
        cv2.rectangle(canvas, (box.left, foot - height - below), (box.left + width, foot), _LINE, cv2.FILLED)
        cv2.putText(canvas, caption, (box.left, foot - below // 2), _FONT, size, _INK, line, cv2.LINE_AA)
    return canvas
