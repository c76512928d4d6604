"""The live view: one WebSocket a viewer, for the fleet's changes and for what the cameras in view send and see.

Everything is newest wins: a viewer that is slow misses what has been replaced since, one that is dead is let go of, and
neither delays anything. While nobody looks, nothing here runs.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from workers.gateway.feed import Listener
from workers.gateway.watching import Wish

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from workers.gateway.access import Access
    from workers.gateway.feed import Feed
    from workers.gateway.shown import Camera, Hub, Webhook
    from workers.gateway.watching import Watching

EVERY_S: Final = 1.0
GREETED_WITHIN_S: Final = 10.0
SENT_WITHIN_S: Final = 10.0
MOST_VIEWERS: Final = 100
RESULTS_KEPT: Final = 5  # of each camera, for a viewer that is behind
NEWS_KEPT: Final = 100
WATCHED_MOST: Final = 1_000
WIDTHS: Final = range(16, 16_385)
FPS_MOST: Final = 30.0
BAD_REQUEST: Final = 4400
NO_TOKEN: Final = 4401
TRY_LATER: Final = 1013  # IANA's registry of close codes
_IMAGES: Final = ("cropped_image", "raw_data")

Json = dict[str, Any]


class _BadMessageError(Exception):
    """A viewer's message that says nothing we know."""


@dataclass(frozen=True, kw_only=True)
class View:
    """What there is to be seen of the fleet at one moment."""

    hub: Hub
    cameras: Mapping[str, Camera]
    webhooks: list[Webhook]


def changes(before: View | None, now: View) -> Iterator[Json]:
    """The messages that make a viewer who has seen `before` one who has seen `now`."""
    if before is None:
        yield {"kind": "fleet", "hub": now.hub, "cameras": list(now.cameras.values()), "webhooks": now.webhooks}
        return
    if changed := [camera for name, camera in now.cameras.items() if before.cameras.get(name) != camera]:
        yield {"kind": "cameras", "cameras": changed}
    if gone := [name for name in before.cameras if name not in now.cameras]:
        yield {"kind": "removed", "ids": gone}
    if before.webhooks != now.webhooks:
        yield {"kind": "webhooks", "webhooks": now.webhooks}
    if before.hub != now.hub:
        yield {"kind": "hub", "hub": now.hub}


def without_images(event: Json) -> Json:
    """An event without the pictures in it, which viewers have already."""
    shown = {name: value for name, value in event.items() if name not in _IMAGES}
    for found in ("detected_objects", "detected_faces"):
        if isinstance(shown.get(found), list):
            shown[found] = [
                {name: value for name, value in detection.items() if name not in _IMAGES}
                for detection in shown[found]
                if isinstance(detection, dict)
            ]
    return shown


def wish_of(message: Json) -> Wish:
    """What a viewer's message asks for. Raises `_BadMessageError`."""
    cameras, width, fps = message.get("watch", []), message.get("width", 640), message.get("fps", 5)
    well = (
        isinstance(cameras, list)
        and len(cameras) <= WATCHED_MOST
        and all(isinstance(camera, str) for camera in cameras)
        and (width is None or (isinstance(width, int) and width in WIDTHS))
        and isinstance(fps, int | float)
        and 0 < fps <= FPS_MOST
    )
    if not well:
        raise _BadMessageError
    return Wish(cameras=frozenset(cameras), width=width, fps=float(fps))


@dataclass(kw_only=True, eq=False)
class _Viewer:
    """What one viewer has seen, and what waits for it."""

    wish: Wish = field(default_factory=Wish)
    seen: View | None = None
    now: View | None = None
    results: dict[str, deque[str]] = field(default_factory=dict)
    news: deque[str] = field(default_factory=lambda: deque(maxlen=NEWS_KEPT))
    previews: dict[str, bytes] = field(default_factory=dict)
    shown_at: dict[str, float] = field(default_factory=dict)  # when each camera's last preview was taken, monotonic
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self) -> Iterator[str | bytes]:
        """Everything that waits, oldest kinds first. What comes meanwhile waits for the next time."""
        self.awake.clear()
        if self.now is not None:
            before, self.seen = self.seen, self.now
            for message in changes(before, self.now):
                yield json.dumps(message, separators=(",", ":"))
        for texts in (self.news, *self.results.values()):
            while texts:
                yield texts.popleft()
        while self.previews:
            yield self.previews.pop(next(iter(self.previews)))

    def preview(self, camera: str, record: bytes) -> None:
        """A picture has come; one more often than was asked for is passed over."""
        now = time.monotonic()
        if camera not in self.wish.cameras or now - self.shown_at.get(camera, 0.0) < 0.7 / self.wish.fps:
            return
        self.shown_at[camera] = now
        self.previews[camera] = record
        self.awake.set()

    def result(self, camera: str, text: str) -> None:
        """A result has come."""
        if camera in self.wish.cameras:
            self.results.setdefault(camera, deque(maxlen=RESULTS_KEPT)).append(text)
            self.awake.set()


class Live:
    """All viewers. `run` is its task, `view` makes what they see of the fleet."""

    def __init__(
        self, *, access: Access, feed: Feed, watching: Watching, prefix: str, view: Callable[[], View]
    ) -> None:
        self._access = access
        self._feed = feed
        self._watching = watching
        self._prefix = prefix
        self._view = view
        self._viewers: set[_Viewer] = set()
        self._somebody = asyncio.Event()
        self._listener = Listener(heard=self._heard)

    @property
    def viewers(self) -> int:
        """How many look on at this moment."""
        return len(self._viewers)

    async def run(self) -> None:
        """Show the fleet's changes, at most one round a second, for ever."""
        while True:
            await self._somebody.wait()
            self._show(self._viewers)
            await asyncio.sleep(EVERY_S)

    async def serve(self, socket: WebSocket) -> None:
        """One viewer, from its coming to its going."""
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            try:
                async with asyncio.timeout(GREETED_WITHIN_S):
                    first = await _message(socket)
            except _BadMessageError:
                await _refuse(socket, BAD_REQUEST, 'The first message must be JSON: {"token": "..."} or null.')
                return
            if not self._access.opens(first.get("token")):
                await _refuse(socket, NO_TOKEN, "The token is missing or wrong.")
            elif len(self._viewers) >= MOST_VIEWERS:
                await _refuse(socket, TRY_LATER, f"{MOST_VIEWERS} viewers look on already.")
            else:
                await self._look_on(socket, first)

    async def _look_on(self, socket: WebSocket, first: Json) -> None:
        viewer = _Viewer()
        self._viewers.add(viewer)
        self._somebody.set()
        self._tune()
        self._show([viewer])
        sending = asyncio.create_task(_send_all(socket, viewer))
        hearing = asyncio.create_task(self._hear_all(socket, viewer, first))
        try:
            done, _ = await asyncio.wait({sending, hearing}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self._leave(viewer)
            for task in (sending, hearing):
                task.cancel()
            await asyncio.gather(sending, hearing, return_exceptions=True)
        try:
            done.pop().result()
        except _BadMessageError:
            await _refuse(
                socket, BAD_REQUEST, 'A message must be JSON: {"watch": [ids], "width": pixels or null, "fps": number}.'
            )

    async def _hear_all(self, socket: WebSocket, viewer: _Viewer, first: Json) -> None:
        message = first
        while True:
            if "watch" in message:
                self._change(viewer, wish_of(message))
            message = await _message(socket)

    def _change(self, viewer: _Viewer, wish: Wish) -> None:
        viewer.wish = wish
        for kept in (viewer.results, viewer.previews):
            for camera in kept.keys() - wish.cameras:
                del kept[camera]
        self._watching.wish(viewer, wish)
        self._tune()

    def _leave(self, viewer: _Viewer) -> None:
        self._viewers.discard(viewer)
        self._watching.leave(viewer)
        if self._viewers:
            self._tune()
        else:
            self._somebody.clear()
            self._feed.leave(self._listener)

    def _tune(self) -> None:
        """Hear what the viewers want to see, and the hub's news."""
        cameras = {camera for viewer in self._viewers for camera in viewer.wish.cameras}
        kinds = ("results", "previews")
        channels = {f"{self._prefix}:{kind}:{camera}" for camera in cameras for kind in kinds}
        self._feed.listen(self._listener, {*channels, f"{self._prefix}:events"})

    def _show(self, viewers: set[_Viewer] | list[_Viewer]) -> None:
        now = self._view()
        for viewer in viewers:
            viewer.now = now
            viewer.awake.set()

    def _heard(self, channel: str, data: bytes) -> None:
        kind, _, camera = channel.removeprefix(f"{self._prefix}:").partition(":")
        if kind == "previews":
            for viewer in self._viewers:
                viewer.preview(camera, data)
            return
        try:
            event = json.loads(data)
        except (ValueError, RecursionError):
            return  # not of our making
        if kind == "results":
            text = json.dumps({"kind": "result", "event": without_images(event)}, separators=(",", ":"))
            for viewer in self._viewers:
                viewer.result(camera, text)
        else:
            text = json.dumps({"kind": "news", "event": event}, separators=(",", ":"))
            for viewer in self._viewers:
                viewer.news.append(text)
                viewer.awake.set()


async def _message(socket: WebSocket) -> Json:
    """A viewer's next message. Raises `_BadMessageError` for anything but a JSON object as text."""
    received = await socket.receive()
    if received["type"] == "websocket.disconnect":
        raise WebSocketDisconnect(received.get("code", 1005))
    try:
        message = json.loads(received["text"])
    except (KeyError, TypeError, ValueError, RecursionError) as error:
        raise _BadMessageError from error
    if not isinstance(message, dict):
        raise _BadMessageError
    return message


async def _send_all(socket: WebSocket, viewer: _Viewer) -> None:
    while True:
        await viewer.awake.wait()
        for message in viewer.take():
            async with asyncio.timeout(SENT_WITHIN_S):
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_text(message)


async def _refuse(socket: WebSocket, code: int, sentence: str) -> None:
    async with asyncio.timeout(SENT_WITHIN_S):
        await socket.send_json({"kind": "error", "detail": sentence})
        await socket.close(code)
