"""Tells cameras that somebody watches them, again and again for as long as somebody does, and not at all otherwise."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from workers.gateway.fleet import CAMERA

if TYPE_CHECKING:
    from collections.abc import Iterable

    from workers.gateway.asks import Asks
    from workers.gateway.fleet import Fleet

TOLD_EVERY_S: Final = 2.0
FOR_S: Final = 5.0  # one round may be missed
ROUNDS_APART_S: Final = 0.2  # however fast somebody scrolls


@dataclass(frozen=True, kw_only=True)
class Wish:
    """What one viewer wants to see: cameras, how wide in pixels (None: as they were sent), how often a second."""

    cameras: frozenset[str] = frozenset()
    width: int | None = 640
    fps: float = 5.0


def merged(wishes: Iterable[Wish]) -> dict[str, Wish]:
    """For each camera the widest and the most frequent that any viewer wants."""
    found: dict[str, Wish] = {}
    for wish in wishes:
        for camera in wish.cameras:
            other = found.get(camera, wish)
            width = None if wish.width is None or other.width is None else max(wish.width, other.width)
            found[camera] = Wish(cameras=frozenset({camera}), width=width, fps=max(wish.fps, other.fps))
    return found


class Watching:
    """`run` is its task; a viewer is whatever object stands for one."""

    def __init__(self, asks: Asks, fleet: Fleet) -> None:
        self._asks = asks
        self._fleet = fleet
        self._wishes: dict[object, Wish] = {}
        self._changed = asyncio.Event()

    def wish(self, viewer: object, wish: Wish) -> None:
        """What a viewer wants to see from now on."""
        self._wishes[viewer] = wish
        self._changed.set()

    def leave(self, viewer: object) -> None:
        """A viewer wants to see nothing any more."""
        self._wishes.pop(viewer, None)

    async def run(self) -> None:
        """Tell the cameras, for ever."""
        while True:
            if not any(wish.cameras for wish in self._wishes.values()):
                await self._changed.wait()
            self._changed.clear()
            for camera, wish in merged(self._wishes.values()).items():
                if self._fleet.camera(camera) is not None:
                    self._asks.pass_on(CAMERA + camera, "watch", width=wish.width, fps=wish.fps, for_s=FOR_S)
            await asyncio.sleep(ROUNDS_APART_S)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TOLD_EVERY_S - ROUNDS_APART_S):
                    await self._changed.wait()
