"""Queue of the images that wait for a detector. Performs no I/O.

Sources take turns, so that a fast camera does not slow down the others. A source has at most one image in progress,
because its detector needs its images in order.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Hashable

MAX_IMAGES: Final = 256  # 5 s of work for two cores with the packaged model
MAX_BYTES: Final = 512 * 2**20

_Image = TypeVar("_Image")


class QueueFullError(RuntimeError):
    """The queue accepts no image at the moment."""


@dataclass(frozen=True, kw_only=True, slots=True)
class _Entry(Generic[_Image]):
    image: _Image
    size_bytes: int
    is_replaceable: bool


@dataclass(kw_only=True, slots=True)
class _SourceQueue(Generic[_Image]):
    waiting: deque[_Entry[_Image]] = field(default_factory=deque)
    is_busy: bool = False  # whether an image of the source is in progress


class ImageQueue(Generic[_Image]):
    """Waiting images by source, with limits for all sources together."""

    def __init__(self) -> None:
        self._sources: dict[Hashable, _SourceQueue[_Image]] = {}
        self._turns: deque[Hashable] = deque()  # sources that are not busy and have a waiting image
        self._images = 0
        self._bytes = 0

    def push(self, key: Hashable, image: _Image, *, size_bytes: int, is_replaceable: bool) -> _Image | None:
        """Add an image of the source `key`. Return the image that it replaces, if any.

        An image replaces the last waiting image of its source if both are replaceable. If all images of a source are
        replaceable, only the newest waits. Raises `QueueFullError` at a limit.
        """
        source = self._sources.get(key)
        replaced: _Entry[_Image] | None = None
        if is_replaceable and source is not None and source.waiting and source.waiting[-1].is_replaceable:
            replaced = source.waiting[-1]
        images = self._images + (replaced is None)
        total_bytes = self._bytes + size_bytes - (0 if replaced is None else replaced.size_bytes)
        if images > MAX_IMAGES or total_bytes > MAX_BYTES:
            raise QueueFullError
        if source is None:
            source = self._sources[key] = _SourceQueue()
        if replaced is not None:
            source.waiting.pop()
        elif not source.waiting and not source.is_busy:
            self._turns.append(key)
        source.waiting.append(_Entry(image=image, size_bytes=size_bytes, is_replaceable=is_replaceable))
        self._images, self._bytes = images, total_bytes
        return None if replaced is None else replaced.image

    def pop(self) -> tuple[Hashable, _Image] | None:
        """Return the next image and its source, which is busy until `release`; None if no image may start."""
        if not self._turns:
            return None
        key = self._turns.popleft()
        source = self._sources[key]
        entry = source.waiting.popleft()
        source.is_busy = True
        self._images -= 1
        self._bytes -= entry.size_bytes
        return key, entry.image

    def release(self, key: Hashable) -> None:
        """End the turn of a source, because its image is processed."""
        source = self._sources[key]
        source.is_busy = False
        if source.waiting:
            self._turns.append(key)
        else:
            del self._sources[key]
