"""Cameras opened as the hub opens them, several at once, to see which of them give pictures.

For `check --probe` and `doctor`: what is found of each, in the order in which it is found. Knows nothing of how it is
shown. Each camera is tried once, because cameras lock out who tries a wrong password again and again.
"""

from __future__ import annotations

import queue
import threading
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from nvision_hub.cli.survey import Survey, record, survey
from nvision_hub.config import CameraAddress
from nvision_hub.errors import HubError
from nvision_hub.status import CameraState
from workers.camera.source import SourceError, open_source
from workers.demo import demo

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.config import Camera
    from nvision_hub.hub import Addresses

AT_ONCE: Final = 4
SECONDS: Final = 2.5  # two keyframes of most cameras


@dataclass(frozen=True, kw_only=True, slots=True)
class Look:
    """One camera. Without `found` it gives no pictures, and `trouble` says why; without both it was not opened."""

    camera: str
    state: CameraState | None = None  # None where it was not opened
    found: Survey | None = None
    trouble: str | None = None
    note: str | None = None  # why it was not opened


def look_at(cameras: Sequence[Camera], addresses: Addresses | None, *, seconds: float = SECONDS) -> Iterator[Look]:
    """Open every camera, `AT_ONCE` at a time, and read each for that long. `addresses` are those of a hub that runs."""
    todo: queue.SimpleQueue[Camera] = queue.SimpleQueue()
    done: queue.SimpleQueue[Look] = queue.SimpleQueue()
    for camera in cameras:
        todo.put(camera)

    def work() -> None:
        while True:
            try:
                camera = todo.get_nowait()
            except queue.Empty:
                return
            done.put(_look(camera, addresses, seconds))

    for _ in range(min(AT_ONCE, len(cameras))):
        threading.Thread(target=work, daemon=True).start()  # daemon: Ctrl-C waits for no camera
    for _ in cameras:
        yield done.get()


def dialled(camera: Camera, addresses: Addresses | None) -> Camera | None:
    """The camera as it is connected to; None for a demo camera while no hub runs that has some."""
    if camera.address.kind != "demo":
        return camera
    if addresses is None or addresses.demo is None:
        return None
    port = urlsplit(addresses.demo).port
    assert port is not None  # noqa: S101 - the hub writes it
    return camera.model_copy(update={"url": CameraAddress.parse(demo.url(port, camera.address.place))})


def _look(camera: Camera, addresses: Addresses | None, seconds: float) -> Look:
    target = dialled(camera, addresses)
    if target is None:
        return Look(camera=camera.id, note="comes with the hub, and is there while that runs")
    began = time.monotonic()
    try:
        source = open_source(target)
        try:
            found = survey(record(source, began=began, seconds=seconds))
        finally:
            source.close()
    except SourceError as error:
        return Look(camera=camera.id, state=error.state, trouble=str(error))
    except HubError as error:
        return Look(camera=camera.id, state=CameraState.UNSUPPORTED, trouble=str(error))
    if found.decode_ms is None:
        where = camera.address.shown
        return Look(camera=camera.id, state=CameraState.STALLED, trouble=f"{where} sends nothing that can be decoded")
    return Look(camera=camera.id, state=CameraState.STREAMING, found=found)
