"""Keys of cameras.yaml that this version accepts and does not act upon: told, never passed over in silence.

A key is taken from here when what it asks for is built.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from nvision_hub.config import Camera, Config

# What a camera may ask for and this version leaves undone: whether it does, the key, and what happens instead.
_CAMERA_KEYS: Final[tuple[tuple[Callable[[Camera], bool], str, str], ...]] = (
    (
        lambda camera: bool(camera.placement),
        "placement",
        "this `start` runs all cameras on this machine; `start --engine ray` and `render kubernetes` heed these labels",
    ),
)


def warnings(config: Config, cameras: Sequence[Camera]) -> list[str]:
    """A sentence for each key in `config` that this version accepts and does nothing about."""
    file = config.path.name
    told = []
    for asks, key, sentence in _CAMERA_KEYS:
        if concerned := [camera.id for camera in cameras if asks(camera)]:
            told.append(f"{file}: {key} (camera {', '.join(concerned)}): {sentence}")
    return told
