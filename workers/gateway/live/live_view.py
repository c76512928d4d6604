"""Live view: one WebSocket per viewer.

A viewer receives fleet changes, hub events, and the previews and results of the cameras in view. New values replace
unsent values, so a slow viewer misses values but does not delay other viewers. The gateway disconnects a viewer that
stops reading. Without viewers, the live view does no work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections import deque
from dataclasses import asdict, dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from starlette.websockets import WebSocket, WebSocketDisconnect

from nvision_hub.nvision.received_events import ReceivedResult, parse_hub_event
from workers.gateway.api.auth import AccessError
from workers.gateway.api.schemas import session_summary
from workers.gateway.live.frame_image import FrameImage
from workers.gateway.live.preview_requests import PreviewRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from nvision_hub.runtime.status import WebhookSummary
    from workers.gateway.api.auth import AccessPolicy
    from workers.gateway.api.schemas import CameraSummary, HubSummary, SessionSummary
    from workers.gateway.auth.identity import Principal
    from workers.gateway.live.preview_requests import PreviewRequests
    from workers.gateway.live.pubsub import PubSubClient

INTERVAL_S: Final = 1.0
FIRST_MESSAGE_TIMEOUT_S: Final = 10.0
SEND_TIMEOUT_S: Final = 10.0
# Minimum time between two messages of a viewer, because each may change subscriptions.
MIN_MESSAGE_INTERVAL_S: Final = 0.05
MAX_VIEWERS: Final = 100
MAX_UNAUTHENTICATED: Final = 32  # maximum connections without a token; a new connection replaces the oldest
MAX_RESULTS: Final = 5  # maximum number of unsent results per viewer and camera
MAX_EVENTS: Final = 100
BAD_REQUEST: Final = 4400
NO_TOKEN: Final = 4401
ROLE_TOO_LOW: Final = 4403
TRY_LATER: Final = 1013  # IANA's registry of WebSocket close codes defines this code
_IMAGES: Final = ("cropped_image", "raw_data")

Json = dict[str, Any]


class _RevokedError(Exception):
    """The viewer's token is no longer valid."""


@dataclass(frozen=True, kw_only=True)
class FleetView:
    """The fleet at one moment in the form that viewers see."""

    hub: HubSummary
    cameras: Mapping[str, CameraSummary]
    webhooks: list[WebhookSummary]


def changes(before: FleetView | None, now: FleetView, session: SessionSummary) -> Iterator[Json]:
    """Yield the messages that update a viewer from `before` to `now`. For a new viewer, `before` is None."""
    if before is None:
        cameras = list(now.cameras.values())
        yield {"kind": "fleet", "session": session, "hub": now.hub, "cameras": cameras, "webhooks": now.webhooks}
        return
    if changed := [camera for name, camera in now.cameras.items() if before.cameras.get(name) != camera]:
        yield {"kind": "cameras", "cameras": changed}
    if gone := [name for name in before.cameras if name not in now.cameras]:
        yield {"kind": "removed", "ids": gone}
    if before.webhooks != now.webhooks:
        yield {"kind": "webhooks", "webhooks": now.webhooks}
    if before.hub != now.hub:
        yield {"kind": "hub", "hub": now.hub}


@dataclass(kw_only=True, eq=False)
class _Viewer:
    """One viewer, with the fleet view that the viewer has received and the unsent messages."""

    principal: Principal
    is_revoked: bool = False  # whether the principal's token is no longer valid
    request: PreviewRequest = field(default_factory=PreviewRequest)
    seen: FleetView | None = None
    now: FleetView | None = None
    results: dict[str, deque[str]] = field(default_factory=dict)
    events: deque[str] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    previews: dict[str, bytes] = field(default_factory=dict)
    # Monotonic time of the last preview that was kept, by camera.
    accepted_at: dict[str, float] = field(default_factory=dict)
    awake: asyncio.Event = field(default_factory=asyncio.Event)

    def pop_messages(self) -> Iterator[str | bytes]:
        """Yield the unsent messages in this order: fleet, events, results, previews."""
        self.awake.clear()
        if self.now is not None:
            before, self.seen = self.seen, self.now
            yield from map(_json, changes(before, self.now, session_summary(self.principal)))
        for texts in (self.events, *self.results.values()):
            while texts:
                yield texts.popleft()
        while self.previews:
            yield self.previews.pop(next(iter(self.previews)))

    def on_preview(self, camera: str, record: bytes) -> None:
        """Keep a preview to send if its camera is in view, unless previews arrive faster than requested."""
        now = time.monotonic()
        if camera not in self.request.cameras or now - self.accepted_at.get(camera, 0.0) < 0.7 / self.request.fps:
            return
        self.accepted_at[camera] = now
        self.previews[camera] = record
        self.awake.set()

    def on_result(self, camera: str, text: str) -> None:
        """Keep a result to send if its camera is in view."""
        if camera in self.request.cameras:
            self.results.setdefault(camera, deque(maxlen=MAX_RESULTS)).append(text)
            self.awake.set()


class LiveView:
    """Live view for all `viewers`. The caller starts `run` as a task."""

    def __init__(
        self, access: AccessPolicy, pubsub: PubSubClient, previews: PreviewRequests, view: Callable[[], FleetView]
    ) -> None:
        self._access = access
        self._pubsub = pubsub
        self._previews = previews
        self._view = view
        self.viewers: set[_Viewer] = set()
        self._has_viewers = asyncio.Event()
        self._unauthenticated: deque[asyncio.Timeout] = deque()

    async def run(self) -> None:
        """Send changes of the fleet to the viewers once a second, until canceled."""
        while True:
            await self._has_viewers.wait()
            now = self._view()
            for viewer in self.viewers:
                viewer.now = now
                viewer.is_revoked = not self._access.tokens.is_valid(viewer.principal)
                viewer.awake.set()
            await asyncio.sleep(INTERVAL_S)

    async def serve(self, socket: WebSocket) -> None:
        await socket.accept()
        with contextlib.suppress(WebSocketDisconnect, TimeoutError):
            try:
                first = await self._first_message(socket)
            except ValueError:
                await _reject(socket, BAD_REQUEST, 'The first message must be JSON: {"token": string or null}.')
                return
            if len(self.viewers) >= MAX_VIEWERS:
                await _reject(socket, TRY_LATER, f"The gateway already serves the maximum of {MAX_VIEWERS} viewers.")
                return
            peer = None if socket.client is None else socket.client.host
            try:
                principal = self._access.sign_in(token=first.get("token"), headers=socket.headers, peer=peer)
            except AccessError as error:
                code = ROLE_TOO_LOW if error.status == HTTPStatus.FORBIDDEN else NO_TOKEN
                await _reject(socket, code, str(error))
            else:
                await self._serve_viewer(socket, principal, first)

    async def _first_message(self, socket: WebSocket) -> Json:
        async with asyncio.timeout(FIRST_MESSAGE_TIMEOUT_S) as deadline:
            self._unauthenticated.append(deadline)
            if len(self._unauthenticated) > MAX_UNAUTHENTICATED:
                self._unauthenticated.popleft().reschedule(asyncio.get_running_loop().time())
            try:
                return await _message(socket)
            finally:
                with contextlib.suppress(ValueError):  # a newer connection has replaced this one
                    self._unauthenticated.remove(deadline)

    async def _serve_viewer(self, socket: WebSocket, principal: Principal, first: Json) -> None:
        viewer = _Viewer(principal=principal, now=self._view())
        viewer.awake.set()
        self.viewers.add(viewer)
        self._has_viewers.set()
        self._update_channels()
        is_malformed = is_revoked = False
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(_send_all(socket, viewer))
                tasks.create_task(self._receive_all(socket, viewer, first))
        except* (WebSocketDisconnect, TimeoutError):
            pass
        except* ValueError:
            is_malformed = True
        except* _RevokedError:
            is_revoked = True
        finally:
            self.viewers.discard(viewer)
            self._previews.remove(viewer)
            if self.viewers:
                self._update_channels()
            else:
                self._has_viewers.clear()
                self._pubsub.unsubscribe(self._on_message)
        if is_malformed:
            detail = 'A message must be JSON: {"watch": [ids], "width": pixels or null, "fps": number}.'
            await _reject(socket, BAD_REQUEST, detail)
        if is_revoked:
            await _reject(socket, NO_TOKEN, "The token is no longer valid.")

    async def _receive_all(self, socket: WebSocket, viewer: _Viewer, message: Json) -> None:
        while True:
            if "watch" in message:
                viewer.request = PreviewRequest.model_validate(message)
                for waiting in (viewer.results, viewer.previews):
                    for camera in waiting.keys() - viewer.request.cameras:
                        del waiting[camera]
                self._previews.set(viewer, viewer.request)
                self._update_channels()
            await asyncio.sleep(MIN_MESSAGE_INTERVAL_S)
            message = await _message(socket)

    def _update_channels(self) -> None:
        """Subscribe to the channels of the cameras in view and of the hub's events."""
        cameras = {camera for viewer in self.viewers for camera in viewer.request.cameras}
        names = {"events", *(f"{kind}:{camera}" for camera in cameras for kind in ("results", "previews"))}
        self._pubsub.subscribe(self._on_message, {f"{self._pubsub.prefix}:{name}" for name in names})

    def _on_message(self, channel: str, data: bytes) -> None:
        kind, _, camera = channel.removeprefix(f"{self._pubsub.prefix}:").partition(":")
        if kind == "previews":
            try:
                FrameImage.decode(data)
            except ValueError:
                self._pubsub.reject(channel)
                return
            for viewer in self.viewers:
                viewer.on_preview(camera, data)
            return
        try:
            if kind == "results":
                ReceivedResult.parse(data)
                text = _json({"kind": "result", "event": json.loads(data, object_hook=_without_images)})
            else:
                text = _json({"kind": "news", "event": parse_hub_event(data)})
        except ValueError:
            self._pubsub.reject(channel)
            return
        for viewer in self.viewers:
            if kind == "results":
                viewer.on_result(camera, text)
            else:
                viewer.events.append(text)
                viewer.awake.set()


def _json(message: Json) -> str:
    return json.dumps(message, separators=(",", ":"), default=asdict, allow_nan=False)


def _without_images(value: Json) -> Json:
    """Return a JSON object without its images. Viewers receive images as previews."""
    return {name: part for name, part in value.items() if name not in _IMAGES}


async def _message(socket: WebSocket) -> Json:
    """Return a viewer's next message. Raises `ValueError` if the message is not a JSON object in a text frame."""
    try:
        message = await socket.receive_json()
    except (KeyError, TypeError, RecursionError) as error:
        raise ValueError("not JSON") from error
    if not isinstance(message, dict):
        raise ValueError("not an object")  # noqa: TRY004 - a malformed message of a viewer
    return message


async def _send_all(socket: WebSocket, viewer: _Viewer) -> None:
    while True:
        await viewer.awake.wait()
        if viewer.is_revoked:
            raise _RevokedError
        for message in viewer.pop_messages():
            async with asyncio.timeout(SEND_TIMEOUT_S):
                if isinstance(message, bytes):
                    await socket.send_bytes(message)
                else:
                    await socket.send_text(message)


async def _reject(socket: WebSocket, code: int, detail: str) -> None:
    async with asyncio.timeout(SEND_TIMEOUT_S):
        await socket.send_json({"kind": "error", "detail": detail})
        await socket.close(code)
