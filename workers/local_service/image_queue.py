"""Queue of images that wait for a detector. Performs no I/O.

Sources take turns, so a fast camera does not slow down the others. A source has at most one image in progress, because
its detector needs its images in order. At a limit, the client with the most waiting images loses the oldest of them, so
no client can fill the queue. The cameras of one hub are streams of one client. Among its streams, the one with the most
waiting images loses its oldest image.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

MAX_IMAGES: Final = 256  # about 5 s of work for two cores with the packaged model
MAX_BYTES: Final = 512 * 2**20

_Image = TypeVar("_Image")


class QueueFullError(RuntimeError):
    """The queue is full, the sender has no older image to lose, and no other client or stream has more images."""


@dataclass(frozen=True, kw_only=True, slots=True)
class ImageSender:
    """Stream of a client. All streams from one address with the same key belong to one client."""

    key: str = field(repr=False)
    address: str
    stream: str

    @property
    def client(self) -> tuple[str, str]:
        return self.key, self.address


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class _Entry(Generic[_Image]):
    image: _Image
    key: Hashable
    sender: ImageSender
    size_bytes: int
    is_replaceable: bool


@dataclass(kw_only=True, slots=True)
class _SourceQueue(Generic[_Image]):
    waiting: deque[_Entry[_Image]] = field(default_factory=deque)
    is_busy: bool = False  # whether an image of the source is in progress


class ImageQueue(Generic[_Image]):
    """Waiting images by source, with common limits for all sources."""

    def __init__(self) -> None:
        self._sources: dict[Hashable, _SourceQueue[_Image]] = {}
        self._turns: deque[Hashable] = deque()  # sources with a waiting image that are not busy
        self._waiting: dict[_Entry[_Image], None] = {}  # waiting images of all sources, oldest first

    def push(
        self, key: Hashable, image: _Image, *, sender: ImageSender, size_bytes: int, is_replaceable: bool
    ) -> list[_Image]:
        """Add an image that `sender` sent for the source `key`. Return the waiting images that the new image displaces.

        An image replaces the last waiting image of its source if both are replaceable. If all images of a source are
        replaceable, only the newest image waits. At a limit, the client with the most waiting images or bytes loses the
        oldest image of its largest stream. If several clients are equal, the sender loses. Raises `QueueFullError` if
        the sender would lose the new image.
        """
        entry = _Entry(image=image, key=key, sender=sender, size_bytes=size_bytes, is_replaceable=is_replaceable)
        source = self._sources.get(key)
        last = source.waiting[-1] if source is not None and source.waiting else None
        replaced = last if last is not None and last.is_replaceable and is_replaceable else None
        displaced = self._displaced_by(entry, replaced)
        if source is None:
            source = self._sources[key] = _SourceQueue()
        if not source.waiting and not source.is_busy:
            self._turns.append(key)
        source.waiting.append(entry)  # append before any removal, so that the source keeps its turn
        self._waiting[entry] = None
        for each in displaced:
            self._remove(each)
        return [each.image for each in displaced]

    def pop(self) -> tuple[Hashable, _Image] | None:
        """Return the next image and its source, which is then busy until `release`; None if no image may start."""
        if not self._turns:
            return None
        key = self._turns.popleft()
        source = self._sources[key]
        source.is_busy = True
        entry = source.waiting.popleft()
        del self._waiting[entry]
        return key, entry.image

    def release(self, key: Hashable) -> None:
        """End the turn of a source. Called when its image is processed."""
        source = self._sources[key]
        source.is_busy = False
        if source.waiting:
            self._turns.append(key)
        else:
            del self._sources[key]

    def _displaced_by(self, entry: _Entry[_Image], replaced: _Entry[_Image] | None) -> list[_Entry[_Image]]:
        """Return the images that must leave the queue when `entry` arrives, including `replaced`."""
        displaced = [] if replaced is None else [replaced]
        waiting = [*(each for each in self._waiting if each is not replaced), entry]
        while True:
            has_many = len(waiting) > MAX_IMAGES
            if not has_many and sum(each.size_bytes for each in waiting) <= MAX_BYTES:
                return displaced
            oldest = _oldest_of_heaviest(waiting, entry, by_size=not has_many)
            if oldest is entry:
                raise QueueFullError
            waiting.remove(oldest)
            displaced.append(oldest)

    def _remove(self, entry: _Entry[_Image]) -> None:
        """Remove a waiting image. If it is the last one of its source, the source also loses its turn."""
        source = self._sources[entry.key]
        source.waiting.remove(entry)
        del self._waiting[entry]
        if not source.waiting and not source.is_busy:
            self._turns.remove(entry.key)
            del self._sources[entry.key]


def _oldest_of_heaviest(waiting: list[_Entry[_Image]], new: _Entry[_Image], *, by_size: bool) -> _Entry[_Image]:
    """Return the oldest image in the heaviest stream of the heaviest client. Among equals, prefer that of `new`.

    A sender must not displace a client or a stream that has no more than the sender itself.
    """
    levels: tuple[Callable[[ImageSender], Hashable], ...] = (lambda sender: sender.client, lambda sender: sender)
    for group_of in levels:
        loads: Counter[Hashable] = Counter()
        for each in waiting:
            loads[group_of(each.sender)] += each.size_bytes if by_size else 1
        heaviest, load = loads.most_common(1)[0]
        if loads[group_of(new.sender)] == load:
            heaviest = group_of(new.sender)
        waiting = [each for each in waiting if group_of(each.sender) == heaviest]
    return waiting[0]
