"""The settings of a camera that may be changed while it runs, as somebody asks for them. Knows no file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from nvision_hub.config.models import Fraction, PerSecond, Section

if TYPE_CHECKING:
    from nvision_hub.config.models import Camera


class RunTimeSettings(Section):
    """Any of the four. One that is left out stays as it is; `max_width` null lifts the limit."""

    fps: PerSecond = 5.0
    """Pictures per second sent, above 0 and up to 60."""
    jpeg_quality: Annotated[int, Field(ge=1, le=100)] = 85
    """JPEG quality of the pictures sent, 1 to 100."""
    max_width: Annotated[int, Field(ge=16, le=16384)] | None = None
    """Wider pictures are scaled down to this many pixels; null sends them as they are."""
    confidence_threshold: Fraction = 0.1
    """Detections less certain than this are not reported, 0 to 1."""

    def given(self) -> dict[str, Any]:
        """Those that were asked for."""
        return self.model_dump(include=self.model_fields_set)


def tuned(camera: Camera, values: dict[str, Any]) -> Camera:
    """The camera with values of `RunTimeSettings` in place of its own."""
    plain = {name: value for name, value in values.items() if name != "confidence_threshold"}
    if "confidence_threshold" in values:
        threshold = {"confidence_threshold": values["confidence_threshold"]}
        plain["nvision"] = camera.nvision.model_copy(update=threshold)
    return camera.model_copy(update=plain)
