"""RTSP for the demo's clips: the toolkit's server and protocol, with a camera's manner of sending.

As shipped the toolkit reads the file anew for every client in a thread of the default executor (six of them on a
two-core machine: the seventh client waits for ever), and sets a timer for every RTP packet, which spreads a picture
over the whole time until the next. Here the clip is read once, each picture leaves in one go when it is due, as a
camera's does, and a client that fell behind misses pictures instead of getting old ones. Measured with 16 clients:
6 % of a core instead of 26 %. Import only where aio-rtsp-toolkit is installed (extra `demo`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import av
from aio_rtsp_toolkit.server import RtspServer
from aio_rtsp_toolkit.server_session import RtspServerSession

from nvision_hub.errors import redact
from workers.demo.clip import GOP_S

if TYPE_CHECKING:
    from collections.abc import MutableMapping
    from pathlib import Path

_RENDERING_WAIT_S: Final = 30.0  # longer than any client waits for an answer


@dataclass(frozen=True, kw_only=True, slots=True)
class Unit:
    """One coded picture: its bytes as the file holds them, and when it is due, in seconds from the clip's start."""

    data: bytes
    due_s: float
    keyframe: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class Clip:
    """A clip in memory, shared by all who watch it."""

    units: tuple[Unit, ...]
    duration_s: float


def load(path: Path) -> Clip:
    """The clip in `path`, whose pictures are evenly spaced and in the order they are shown."""
    with av.open(path) as container:
        stream = container.streams.video[0]
        if stream.average_rate is None:
            raise ValueError(f"{path} has no frame rate")
        picture_s = float(1 / stream.average_rate)
        packets = [packet for packet in container.demux(stream) if packet.size]
    units = tuple(
        Unit(data=bytes(packet), due_s=number * picture_s, keyframe=packet.is_keyframe)
        for number, packet in enumerate(packets)
    )
    return Clip(units=units, duration_s=len(units) * picture_s)


class ClipServer(RtspServer):  # type: ignore[misc]  # the toolkit has no types
    """Serves the clips of one directory; a clip asked for before it is there makes its client wait for it."""

    def __init__(self, directory: Path, host: str, port: int) -> None:
        super().__init__(str(directory), host, port, session_name="nvision-hub demo")
        self.logger = _Quiet(logging.getLogger("nvision_hub.demo.rtsp"))
        self._clips: dict[str, asyncio.Future[Clip]] = {}
        self._sessions: set[_Session] = set()

    @property
    def bound_port(self) -> int:
        """The port listened on: the one asked for, or the one given where that was 0."""
        assert self._server is not None  # noqa: S101 - asked only once started
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def clients(self) -> int:
        """How many connections there are."""
        return len(self._sessions)

    def expect(self, name: str) -> None:
        """Say that the file `name` will be there."""
        self._clips[name] = asyncio.get_running_loop().create_future()

    async def publish(self, path: Path) -> None:
        """Serve `path`, which was expected, from now on."""
        self._clips[path.name].set_result(await asyncio.to_thread(load, path))

    async def clip(self, name: str) -> Clip:
        """The clip of that name, once it is there. Raises `FileNotFoundError`: the client is answered 404."""
        try:
            async with asyncio.timeout(_RENDERING_WAIT_S):
                return await asyncio.shield(self._clips[name])
        except (KeyError, TimeoutError) as error:
            raise FileNotFoundError(name) from error

    async def close(self) -> None:
        """Take leave of every client, and stop listening."""
        if self._server is not None:
            self._server.close()
        for session in tuple(self._sessions):
            await session.close()
        await super().close()

    async def _handle_client(self, sock: Any) -> None:
        session = _Session(self, sock)
        self._sessions.add(session)
        try:
            # A client that goes away in the middle of a picture is nothing to report.
            with contextlib.suppress(ConnectionError):
                await session.run()
        finally:
            self._sessions.discard(session)


class _Session(RtspServerSession):  # type: ignore[misc]  # the toolkit has no types
    """One client's connection."""

    async def _handle_describe(self, uri: str, headers: dict[str, str]) -> None:
        name, _ = self.server._split_media_request_path(uri)  # noqa: SLF001 - the toolkit's own reading of addresses
        await self.server.clip(name)
        await super()._handle_describe(uri, headers)

    async def _stream_media_once(self, _suffix: str) -> None:
        """Send the clip once; the toolkit calls it again and again. Timestamps go on where the last turn ended."""
        clip: Clip = await self.server.clip(self.media_source.file_path.name)
        track = next(track for track in self.track_states.values() if track.rtp_channel is not None)
        skipping = False
        for unit in clip.units:
            media_s = track.media_time_offset + unit.due_s
            if unit.keyframe and track.first_send_time is not None:
                skipping = time.perf_counter() - track.first_send_time - media_s > GOP_S
            if not skipping:
                await self._send_video_packet(track, unit.data, media_s, 0.0, unit.keyframe)
        track.media_time_offset += clip.duration_s
        await asyncio.sleep(0)  # a turn that was skipped whole must not hold up the others

    async def _send_paced_rtp_payloads(
        self, track: Any, payloads: list[tuple[bytes, int]], timestamp: int, media_s: float, _duration_s: float
    ) -> None:
        await self._sleep_until_media_time(track, media_s)
        for payload, marker in payloads:
            await self._send_rtp_packet(track, payload, timestamp=timestamp, marker=marker)


class _Quiet(logging.LoggerAdapter[logging.Logger]):
    """The toolkit's running commentary, at debug level whatever level it gives, and without secrets."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        del level
        super().log(logging.DEBUG, msg, *args, **kwargs)

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        return redact(str(msg)), kwargs
