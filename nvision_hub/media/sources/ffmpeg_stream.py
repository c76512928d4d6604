"""Sources that FFmpeg reads: RTSP over TCP and UDP, MJPEG over HTTP, and looped files.

FFmpeg itself connects to no camera (see `ffmpeg_input.py`).

This module uses PyAV rather than OpenCV. PyAV has a timeout for opening a stream, returns packets before decoding, and
returns planes without conversion to BGR. The options are those of FFmpeg 8. PyAV silently ignores unknown options, so a
test covers each option.
"""

from __future__ import annotations

import contextlib
import dataclasses
import time
from typing import TYPE_CHECKING, Any, Final, cast

import av
import av.error

from nvision_hub.media.memory_limits import MAX_PIXELS
from nvision_hub.media.sources import errors, rtsp_transport
from nvision_hub.media.sources.access_unit import AccessUnits
from nvision_hub.media.sources.ffmpeg_input import open_input
from nvision_hub.media.sources.hwaccel import SOFTWARE, choose_device, hwaccel
from nvision_hub.media.sources.packet_decoder import PacketDecoder
from nvision_hub.media.sources.read_timeout import ReadTimeout
from nvision_hub.media.sources.rtsp_client import USER_AGENT
from nvision_hub.media.sources.source import Packet, SourceError, StreamFacts, uninterrupted
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust
    from nvision_hub.media.sources.ffmpeg_input import FfmpegInput
    from nvision_hub.media.sources.source import Wait

OPEN_TIMEOUT_S: Final = 10.0  # or `stall_timeout` if it is longer, because a slow camera also opens slowly
# Opening takes at most this many timeouts: two for the hub's requests, and up to three for FFmpeg, which applies its
# timeout when it connects and again when it detects the format.
MAX_OPEN_TIMEOUTS: Final = 5
_READ_BYTES: Final = 2**17  # per read of an MJPEG stream
_JPEG_CODECS: Final = frozenset({"mjpeg", "mjpegb"})
_FILE_FORMATS: Final = "mov,mp4,matroska,webm,avi,mpegts,mpeg,h264,hevc,mjpeg"


class StreamSource:
    """An open stream, or a file that the source loops and paces like a camera."""

    def __init__(self, camera: Camera, trust: CameraTrust, *, wait: Wait = uninterrupted) -> None:
        self._wait = wait
        self._address = camera.address
        self._looped = camera.address.kind == "file"
        known, trust.transport = trust.transport, None  # if the stream does not open, the transport is forgotten
        self._stall_s = camera.stall_timeout
        device = choose_device(camera.hwaccel)
        timeout_s = max(OPEN_TIMEOUT_S, camera.stall_timeout)
        began = time.monotonic()
        with contextlib.ExitStack() as resources:
            source = resources.enter_context(contextlib.closing(open_input(camera, trust, known, timeout_s=timeout_s)))
            # The thread of the read timeout starts before FFmpeg allocates memory: `threading` waits indefinitely for a
            # thread that cannot get memory. The thread holds no reference to the stream, so `close` frees the stream.
            self._read_timeout = ReadTimeout(None if self._looped else camera.stall_timeout, source.abort)
            resources.callback(self._read_timeout.close)
            # FFmpeg needs about as many round trips as the hub needed.
            open_s = timeout_s + min(time.monotonic() - began, timeout_s / 2)
            began = time.monotonic()
            try:
                self._container = _open(camera, source, open_s=open_s, device=device)
            except MemoryError:
                raise  # FFmpeg's `MemoryError` is also an `OSError`, but the camera is not the cause
            except (av.error.FFmpegError, OSError, ValueError) as error:
                failure = self._classify(error, began, open_s)
                if failure.state is CameraState.STALLED:
                    failure = _stalled(camera, source, time.monotonic() - began)
                raise source.failure or failure from error
            resources.callback(self._container.close)
            waited_s = time.monotonic() - began
            if waited_s >= open_s:  # FFmpeg reports success even if it was interrupted before the first frame
                raise source.failure or _stalled(camera, source, waited_s)
            if not self._container.streams.video:
                raise source.failure or errors.no_video(self._address)
            self._video: VideoStream = self._container.streams.video[0]
            # Contrary to PyAV's types, `codec_context` is None if FFmpeg has no decoder for the announced codec.
            context = cast("VideoCodecContext | None", self._video.codec_context)
            if context is None:
                raise self._undecodable("an unknown codec")
            source.on_opened()
            self._source = source
            self._resources = resources.pop_all()
        self._decoder = None if context.name in _JPEG_CODECS else PacketDecoder(context, source.marks)
        self._access_units = AccessUnits(context.name, context.extradata)
        self._follows_loss = False  # whether frames before the next packet were lost
        self.facts = StreamFacts(
            codec=context.name,
            width=context.width or None,
            height=context.height or None,
            fps=float(self._video.average_rate) if self._video.average_rate else None,
            decoder=device if device and context.is_hwaccel else SOFTWARE,
            certificate=source.fingerprint,
            sends_plain_password=source.sent_basic and not camera.address.is_encrypted,
            reorders=context.has_b_frames,
        )

    def packets(self) -> Iterator[Packet]:
        """Yield packets as they arrive (a file's packets at their presentation times) until a wait is interrupted."""
        started, media_offset, end = time.monotonic(), 0.0, 0.0
        while True:
            for packet in self._demux():
                if packet.size == 0:  # PyAV marks the end of the stream with an empty packet
                    continue
                media = _media_time(packet)
                if self._looped:
                    media = media_offset + (media or 0.0)
                    end = max(end, media + float((packet.duration or 0) * (packet.time_base or 0)))
                    ahead_s = started + media - time.monotonic()
                    if ahead_s > self._stall_s:  # the media times in the file have a gap or are invalid
                        started -= ahead_s
                        ahead_s = 0.0
                    if self._wait(max(0.0, ahead_s)):
                        return
                yield self._packet(packet, media, time.monotonic())
            if not self._looped or end <= media_offset:
                raise self._source.failure or errors.ended(self._address)
            media_offset = end
            self._container.seek(0)

    def _packet(self, packet: av.Packet[Any], media_s: float | None, arrived: float) -> Packet:
        begins_refresh = self._access_units.begins_refresh(packet, keyframe=packet.is_keyframe)
        is_incomplete, is_lost_after = False, False
        if (marks := self._source.marks) is not None and marks.is_pending:
            is_incomplete, is_lost_after = marks.find(bytes(packet))
        follows_loss, self._follows_loss = self._follows_loss, is_lost_after
        return Packet(
            payload=packet,
            arrived=arrived,
            media_s=media_s,
            keyframe=packet.is_keyframe and not begins_refresh,
            size_bytes=packet.size,
            begins_refresh=begins_refresh,
            is_incomplete=is_incomplete,
            follows_loss=follows_loss,
        )

    def _demux(self) -> Iterator[av.Packet[Any]]:
        timeout, began = self._read_timeout, time.monotonic()
        packets = self._container.demux(self._video)
        try:
            while True:
                began = time.monotonic()
                with timeout.watching():
                    packet = next(packets, None)
                if timeout.expired:
                    # If a packet follows, it contains only data that was left in FFmpeg's parser.
                    raise errors.stalled(self._address, time.monotonic() - began)
                if packet is None:
                    return
                yield packet
        except MemoryError:
            raise  # the camera is not the cause, as in `__init__`
        except (av.error.FFmpegError, OSError) as error:
            if timeout.expired:
                raise errors.stalled(self._address, time.monotonic() - began) from error
            raise self._source.failure or self._classify(error, began, self._stall_s) from error

    def decode(self, packet: Packet, *, is_due: bool = True, is_alone: bool = False) -> list[tuple[float | None, Any]]:
        """Return the frames that this packet completes (see `Source`). An MJPEG packet is its own frame."""
        if self._decoder is None:
            return [(packet.media_s, bytes(packet.payload))]
        try:
            if is_alone:
                frames = [(packet.media_s, self._decoder.decode_alone(packet))]
            else:
                frames = self._decoder.decode(packet, is_due=is_due)
        except av.error.DecoderNotFoundError as error:
            raise self._undecodable(self.facts.codec) from error
        if self._decoder.reorders and not self.facts.reorders:
            self.facts = dataclasses.replace(self.facts, reorders=True)
        if self._looped and not is_alone:
            shift = (packet.media_s or 0.0) - (_media_time(packet.payload) or 0.0)
            return [(None if media_s is None else media_s + shift, frame) for media_s, frame in frames]
        return frames

    def close(self) -> None:
        self._resources.close()

    def _classify(self, error: Exception, began: float, limit_s: float) -> SourceError:
        return errors.classify(error, self._address, waited_s=time.monotonic() - began, limit_s=limit_s)

    def _undecodable(self, codec: str) -> SourceError:
        return SourceError(
            CameraState.UNSUPPORTED,
            f"{self._address.shown} sends video in {codec}, which cannot be decoded; "
            "set the camera to H.264, H.265 or MJPEG",
        )


def _stalled(camera: Camera, source: FfmpegInput, waited_s: float) -> SourceError:
    """Return the error for a stream that has sent no data."""
    if source.awaits_datagrams:
        return rtsp_transport.no_media_over_udp(camera, waited_s)
    return errors.stalled(camera.address, waited_s)


def _open(camera: Camera, source: FfmpegInput, *, open_s: float, device: str | None) -> InputContainer:
    # FFmpeg also passes max_pixels to the decoders that it uses to detect the format of the stream.
    options, container_format = {"fflags": "+genpts+discardcorrupt", "max_pixels": str(MAX_PIXELS)}, None
    match camera.address.kind:
        case "rtsp":
            options |= {
                "rtsp_transport": "tcp",  # for the connection to the relay
                "allowed_media_types": "video",
                "user_agent": USER_AGENT,  # the same as in the requests of the hub's client
                "protocol_whitelist": "rtsp,rtp,udp,tcp",
                # The frame size comes with the first keyframe. Measuring the frame rate would delay the first packets
                # by one second.
                "fpsprobesize": "0",
                "analyzeduration": "3000000",
            }
        case "mjpeg":
            container_format = "mpjpeg"  # disables format detection, because a playlist could name other files
            options |= {"protocol_whitelist": "none", "strict_mime_boundary": "0", "use_wallclock_as_timestamps": "1"}
        case _:
            options |= {"protocol_whitelist": "file", "format_whitelist": _FILE_FORMATS}
    return av.open(
        source.opened_by_ffmpeg,
        "r",
        format=container_format,
        options=options,
        buffer_size=_READ_BYTES,
        timeout=(open_s, None),
        hwaccel=hwaccel(device),
    )


def _media_time(packet: Any) -> float | None:
    """Return a packet's media time in seconds; None if the packet has no time."""
    pts, base = packet.pts if packet.pts is not None else packet.dts, packet.time_base
    # A computation with `Fraction` would take 30 times as long.
    return None if pts is None or base is None else pts * base.numerator / base.denominator
