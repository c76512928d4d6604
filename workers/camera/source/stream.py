"""Streams that FFmpeg reads: RTSP over TCP and UDP, MJPEG over HTTP, looped files.

PyAV rather than OpenCV: time-outs that interrupt, packets before decoding, planes without a detour through BGR.
Options are those of FFmpeg 8; PyAV passes unknown ones over in silence, so each is covered by a test.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from typing import TYPE_CHECKING, Any, Final, cast
from urllib.parse import urlsplit

import av
import av.error

from nvision_hub.status import CameraState
from workers.camera.limits import MAX_PIXELS
from workers.camera.source.faults import classify, moved, silent
from workers.camera.source.hardware import SOFTWARE, acceleration, choose
from workers.camera.source.read_limit import ReadLimit, open_sockets, shut_down
from workers.camera.source.rtsp_handshake import USER_AGENT, Greeting, greet
from workers.camera.source.source import Packet, SourceError, StreamFacts
from workers.camera.source.torn import TornPictures

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from nvision_hub.config import Camera, CameraAddress
    from workers.camera.source.read_limit import Sockets

OPEN_WITHIN_S: Final = 10.0  # or `stall_timeout`, where that is longer: a slow camera opens slowly, too
_FFMPEG_OPEN_MIN_S: Final = 2.0  # where the handshake took nearly all of it
_USERINFO_MAX_BYTES: Final = 127  # libavformat, rtsp.c: `char auth[128]`; what is longer is cut off in silence
JPEG_CODECS: Final = frozenset({"mjpeg", "mjpegb"})
FILE_FORMATS: Final = "mov,mp4,matroska,webm,avi,mpegts,mpeg,h264,hevc,mjpeg"


class StreamSource:
    """One open stream, or a file that is looped and paced as a camera would be."""

    def __init__(self, camera: Camera) -> None:
        self._address = camera.address
        self._looped = camera.address.kind == "file"
        self._stall_s = camera.stall_timeout
        self._device = choose(camera.hwaccel)
        within_s = max(OPEN_WITHIN_S, camera.stall_timeout)
        began = time.monotonic()
        greeting = greet(camera.address, within_s=within_s) if camera.address.kind == "rtsp" else None
        open_s = max(_FFMPEG_OPEN_MIN_S, within_s - (time.monotonic() - began))
        sockets: Sockets = set()
        # Before FFmpeg takes memory: whoever starts a thread waits for ever for one that has found none to begin with.
        self._limit = self._limited(sockets)
        began, others = time.monotonic(), open_sockets()
        with contextlib.ExitStack() as undo:
            undo.callback(self._end_limit)
            try:
                self._container = self._open(camera, greeting, open_s)
            except MemoryError:
                raise  # FFmpeg's is an `OSError`, too, but not of the camera's
            except (av.error.FFmpegError, OSError, ValueError) as error:
                if self._address.scheme == "http" and isinstance(error, OSError) and error.errno == errno.EIO:
                    raise moved(self._address) from error  # what http.c says of a redirect too many
                raise self._fault(error, began, open_s) from error
            undo.pop_all()
        sockets |= open_sockets() - others
        waited_s = time.monotonic() - began
        if waited_s >= open_s:  # FFmpeg calls it open although it was interrupted before the first picture
            self.close()
            raise silent(self._address, waited_s)
        if not self._container.streams.video:
            self.close()
            raise SourceError(CameraState.UNSUPPORTED, f"{self._address.shown} has no video; choose a path that has")
        self._video: VideoStream = self._container.streams.video[0]
        # None, whatever PyAV's types say, where FFmpeg knows no decoder for what the camera announces.
        if cast("VideoCodecContext | None", self._video.codec_context) is None:
            self.close()
            raise SourceError(
                CameraState.UNSUPPORTED,
                f"{self._address.shown} sends video in a codec that nobody here can decode; "
                "set the camera to H.264, H.265 or MJPEG",
            )
        context = self._video.codec_context
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_count = 1  # costs least CPU, and hundreds of cameras are parallel enough
        if not context.has_b_frames:
            context.flags |= av.codec.context.Flags.low_delay
        self.facts = StreamFacts(
            codec=context.name,
            width=context.width or None,
            height=context.height or None,
            fps=float(self._video.average_rate) if self._video.average_rate else None,
            decoder=self._device if self._device and context.is_hwaccel else SOFTWARE,
        )
        self._is_jpeg = context.name in JPEG_CODECS
        self._torn = TornPictures()

    def _limited(self, sockets: Sockets) -> ReadLimit | None:
        """What ends a read after `stall_timeout`; None for a file, which is always there.

        Its thread knows nothing of the stream, whose memory is to be free as soon as it is closed.
        """
        port = self._address.dialled_port
        return None if port is None else ReadLimit(self._stall_s, lambda: shut_down(sockets, port))

    def _open(self, camera: Camera, greeting: Greeting | None, open_s: float) -> InputContainer:
        if greeting is None:
            return self._dial(camera, camera.address.dial(), open_s)
        place = _place(camera.address, greeting.path)
        try:
            return self._dial(camera, place, open_s)
        except (av.error.HTTPClientError, av.error.HTTPServerError, ConnectionError):
            greeting.hang_up()  # it may have room for one viewer only, and take the two of us for two
            return self._dial(camera, place, open_s)
        finally:
            greeting.hang_up()

    def _dial(self, camera: Camera, place: str, open_s: float) -> InputContainer:
        # max_pixels is the decoders': they are asked already to find out what the stream is.
        options, form = {"fflags": "+genpts+discardcorrupt", "max_pixels": str(MAX_PIXELS)}, None
        match camera.address.kind:
            case "rtsp":
                options |= {
                    "rtsp_transport": camera.transport,
                    "allowed_media_types": "video",
                    "user_agent": USER_AGENT,  # so that whoever passed the handshake gets the same words again
                    "protocol_whitelist": "rtsp,rtp,udp,tcp,tls,crypto",
                    # The picture's size comes with the first keyframe; measuring the frame rate would hold back
                    # the first second of packets only to deliver it late.
                    "fpsprobesize": "0",
                    "analyzeduration": "3000000",
                    "reorder_queue_size": "500",  # UDP: packets put back in order
                    "buffer_size": str(2**21),  # UDP: a keyframe of a 4K camera arrives in one burst
                }
            case "mjpeg":
                form = "mpjpeg"  # never probed: an answer that is a playlist could name other files
                options |= {
                    "protocol_whitelist": "http,https,tcp,tls,crypto",
                    "max_redirects": "0",
                    "reconnect": "0",
                    "strict_mime_boundary": "0",
                    "use_wallclock_as_timestamps": "1",
                }
            case _:
                options |= {"protocol_whitelist": "file", "format_whitelist": FILE_FORMATS}
        return av.open(
            place,
            mode="r",
            format=form,
            options=options,
            timeout=(open_s, None),
            hwaccel=acceleration(self._device),
        )

    def packets(self) -> Iterator[Packet]:
        """Packets as they arrive; a file's in the time they were made to be shown."""
        started, media_offset, end = time.monotonic(), 0.0, 0.0
        while True:
            for packet in self._demux():
                if packet.size == 0:  # PyAV's mark of the end
                    continue
                media = _media_time(packet)
                if self._looped:
                    media = media_offset + (media or 0.0)
                    end = max(end, media + float((packet.duration or 0) * (packet.time_base or 0)))
                    # A file cannot be stopped from outside; the waits are as short as its pictures are apart.
                    ahead_s = started + media - time.monotonic()
                    if ahead_s > self._stall_s:  # a gap, or nonsense
                        started -= ahead_s
                        ahead_s = 0.0
                    time.sleep(max(0.0, ahead_s))
                yield Packet(
                    payload=packet,
                    arrived=time.monotonic(),
                    media_s=media,
                    keyframe=packet.is_keyframe,
                    size_bytes=packet.size,
                )
            if not self._looped or end <= media_offset:
                raise SourceError(CameraState.UNREACHABLE, f"{self._address.shown} ended the stream")
            media_offset = end
            self._container.seek(0)

    def _demux(self) -> Iterator[av.Packet[Any]]:
        limit, began = self._limit, time.monotonic()
        packets = self._container.demux(self._video)
        try:
            while True:
                began = time.monotonic()
                with limit.watching() if limit else contextlib.nullcontext():
                    packet = next(packets, None)
                if limit is not None and limit.passed:
                    # The parser lets go of the picture that it held: that is no news.
                    raise silent(self._address, time.monotonic() - began)
                if packet is None:
                    return
                yield packet
        except MemoryError:
            raise  # as when it is opened
        except (av.error.FFmpegError, OSError) as error:
            if limit is not None and limit.passed:
                raise silent(self._address, time.monotonic() - began) from error
            raise self._fault(error, began, self._stall_s) from error

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:
        """Frames with their media times; an MJPEG packet is its picture already. Corrupt packets give none.

        None stands for a picture of which a part was lost on the way and that is not to be shown (`torn.py`).
        """
        if self._is_jpeg:
            return [(packet.media_s, bytes(packet.payload))]
        # B-frames, and every second picture of cameras with temporal layers, are what nothing builds on.
        self._video.codec_context.skip_frame = "DEFAULT" if wanted else "NONREF"
        try:
            frames = self._video.codec_context.decode(packet.payload)
        except av.error.DecoderNotFoundError as error:
            raise SourceError(
                CameraState.UNSUPPORTED, f"{self._address.shown}: {self.facts.codec} video that cannot be decoded"
            ) from error
        except MemoryError:
            raise  # FFmpeg's is an `FFmpegError`, too, and no fault of the packet
        except av.error.FFmpegError:
            # A packet that is corrupt, or hostile: which of the codec's errors it meets is chance. The stream goes on
            # and the decoder waits for the next keyframe itself; whoever gets no picture for long gives up.
            return []
        shift = (packet.media_s or 0.0) - (_media_time(packet.payload) or 0.0) if self._looped else 0.0
        return [
            (
                None if frame.pts is None else frame.time + shift,
                None if self._torn.withheld(corrupt=frame.is_corrupt, keyframe=frame.key_frame) else frame,
            )
            for frame in frames
        ]

    def decode_alone(self, packet: Packet) -> Any | None:
        """The picture of a keyframe, which a decoder that reorders would otherwise keep until others follow."""
        if self._is_jpeg:
            return bytes(packet.payload)
        context = self._video.codec_context
        context.flush_buffers()
        pictures = [picture for _, picture in self.decode(packet)]
        with contextlib.suppress(av.error.FFmpegError):
            pictures += context.decode(None)
        context.flush_buffers()
        return pictures[0] if pictures else None

    def close(self) -> None:
        """Let go of the connection or file."""
        self._end_limit()
        self._container.close()

    def _end_limit(self) -> None:
        if self._limit is not None:
            self._limit.close()

    def _fault(self, error: Exception, began: float, limit_s: float) -> SourceError:
        return classify(error, self._address, waited_s=time.monotonic() - began, limit_s=limit_s)


def _place(address: CameraAddress, path: str) -> str:
    """What FFmpeg is to open. Raises `SourceError` for credentials that it would cut off."""
    dialled = urlsplit(address.dial())
    user = ""
    if address.username is not None:
        # No more escapes than it needs, because each takes room.
        word = "" if address.password is None else address.password.reveal()
        user = f"{_escaped(address.username).replace(':', '%3A')}:{_escaped(word)}@"
    if len(user.encode("utf-8", "surrogateescape")) > _USERINFO_MAX_BYTES + 1:
        raise SourceError(
            CameraState.AUTH_FAILED,
            f"the user name and password of {address.shown} are too long for FFmpeg's RTSP; shorten the password",
        )
    return f"{dialled.scheme}://{user}{dialled.netloc.rpartition('@')[2]}{path}"


def _escaped(text: str) -> str:
    return re.sub("[%/?#]", lambda found: f"%{ord(found[0]):02X}", text)


def _media_time(packet: Any) -> float | None:
    """Seconds; None where the packet has no time. Not by `Fraction`, which takes 30 times as long."""
    pts, base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
    return None if pts is None or base is None else pts * base.numerator / base.denominator
