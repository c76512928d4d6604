"""RTSP server for the demo clips. It extends aio-rtsp-toolkit to send frames with the timing of a camera.

The unmodified toolkit reads a clip's file separately for every client, in a thread of the default executor. A two-core
machine has six of these threads, so the seventh client waits indefinitely. The toolkit also sets a timer for every RTP
packet and thereby spreads each frame over the frame interval.

This server keeps one copy of a clip for all clients. Like a camera, it sends all packets of a frame when the frame is
due. A client that falls behind skips frames instead of receiving old ones. With 16 clients, this server needs 6 % of a
core, and the unmodified toolkit needs 26 %. Import this module only if aio-rtsp-toolkit (extra `demo`) is installed.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from typing import TYPE_CHECKING, Any, Final

from aio_rtsp_toolkit.server import RtspServer
from aio_rtsp_toolkit.server_session import RtspServerSession

from workers.demo.clip import GOP_S, Clip

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_RENDER_TIMEOUT_S: Final = 30.0  # longer than most clients wait for a response


class ClipServer(RtspServer):  # type: ignore[misc]  # the toolkit has no types
    """Server of the clips in one directory. A request waits for the future of its scene in `clips`."""

    def __init__(self, directory: Path, host: str, port: int, clips: Mapping[str, asyncio.Future[Clip]]) -> None:
        super().__init__(str(directory), host, port, session_name="nvision-hub demo")
        self.logger = _DebugLogger(logging.getLogger("nvision_hub.demo.rtsp"))
        self.sessions: set[_ClipSession] = set()  # one per connection
        self._clips = clips

    @property
    def bound_port(self) -> int:
        """Port on which the started server listens. If the configured port is 0, the system chooses this port."""
        return int(self._server.sockets[0].getsockname()[1])

    async def clip(self, name: str) -> Clip:
        """Return the clip with this file name. Raises `FileNotFoundError`, which the toolkit reports as 404."""
        try:
            async with asyncio.timeout(_RENDER_TIMEOUT_S):
                return await asyncio.shield(self._clips[name.removesuffix(".mp4")])
        except (KeyError, TimeoutError) as error:
            raise FileNotFoundError(name) from error

    async def close(self) -> None:
        self._server.close()
        for session in tuple(self.sessions):
            await session.close()
        await super().close()

    async def _handle_client(self, sock: Any) -> None:
        session = _ClipSession(self, sock)
        self.sessions.add(session)
        try:
            # Clients may disconnect at any time. When the program ends, it cancels the task, and Python 3.11 would log
            # a traceback for a connection with a canceled task.
            with contextlib.suppress(ConnectionError, asyncio.CancelledError):
                await session.run()
        finally:
            self.sessions.discard(session)


class _ClipSession(RtspServerSession):  # type: ignore[misc]  # the toolkit has no types
    async def _handle_describe(self, uri: str, headers: dict[str, str]) -> None:
        name, _ = self.server._split_media_request_path(uri)  # noqa: SLF001 - the toolkit's URL parser
        await self.server.clip(name)
        await super()._handle_describe(uri, headers)

    async def _stream_media_once(self, _suffix: str) -> None:
        """Send the clip once. Timestamps continue from the previous pass. The toolkit calls this method in a loop."""
        clip: Clip = await self.server.clip(self.media_source.file_path.name)
        track = next(track for track in self.track_states.values() if track.rtp_channel is not None)
        skipping = False
        for number, (data, is_keyframe) in enumerate(clip.units):
            media_s = track.media_time_offset + number * clip.frame_interval_s
            if is_keyframe and track.first_send_time is not None:
                skipping = time.perf_counter() - track.first_send_time - media_s > GOP_S
            if not skipping:
                await self._send_video_packet(track, data, media_s, 0.0, is_keyframe)
        track.media_time_offset += len(clip.units) * clip.frame_interval_s
        await asyncio.sleep(0)  # a pass that skips every frame must still let other tasks run

    async def _send_paced_rtp_payloads(
        self, track: Any, payloads: list[tuple[bytes, int]], timestamp: int, media_s: float, _duration_s: float
    ) -> None:
        await self._sleep_until_media_time(track, media_s)
        for payload, marker in payloads:
            await self._send_rtp_packet(track, payload, timestamp=timestamp, marker=marker)


class _DebugLogger(logging.LoggerAdapter[logging.Logger]):
    """Logger that lowers all messages of the toolkit to debug level."""

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        del level
        super().log(logging.DEBUG, msg, *args, **kwargs)
