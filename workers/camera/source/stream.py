"""Streams that FFmpeg reads: RTSP over TCP and UDP, MJPEG over HTTP, looped files.

PyAV rather than OpenCV: time-outs that interrupt, packets before decoding, planes without a detour through BGR.
Options are those of FFmpeg 8; PyAV passes unknown ones over in silence, so each is covered by a test.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, cast

import av
import av.error

from nvision_hub.status import CameraState
from workers.camera.source.faults import classify
from workers.camera.source.source import Packet, SourceError, StreamFacts

if TYPE_CHECKING:
    from collections.abc import Iterator

    from av.container import InputContainer
    from av.video.codeccontext import VideoCodecContext
    from av.video.stream import VideoStream

    from nvision_hub.config import Camera

OPEN_WITHIN_S: Final = 10.0
JPEG_CODECS: Final = frozenset({"mjpeg", "mjpegb"})
FILE_FORMATS: Final = "mov,mp4,matroska,webm,avi,mpegts,mpeg,h264,hevc,mjpeg"


class StreamSource:
    """One open stream, or a file that is looped and paced as a camera would be."""

    def __init__(self, camera: Camera) -> None:
        self._address = camera.address
        self._looped = camera.address.kind == "file"
        self._stall_s = camera.stall_timeout
        began = time.monotonic()
        try:
            self._container = self._open(camera)
        except (av.error.FFmpegError, OSError, ValueError) as error:
            raise self._fault(error, began, OPEN_WITHIN_S) from error
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
        context.thread_count = 1  # costs least CPU, and hundreds of cameras are parallel enough
        if not context.has_b_frames:
            context.flags |= av.codec.context.Flags.low_delay
        self.facts = StreamFacts(
            codec=context.name,
            width=context.width or None,
            height=context.height or None,
            fps=float(self._video.average_rate) if self._video.average_rate else None,
        )
        self._is_jpeg = context.name in JPEG_CODECS
        self._torn = False  # pictures since the last keyframe build on one of which a part was lost

    def _open(self, camera: Camera) -> InputContainer:
        options, form = {"fflags": "+genpts+discardcorrupt"}, None
        match camera.address.kind:
            case "rtsp":
                options |= {
                    "rtsp_transport": camera.transport,
                    "allowed_media_types": "video",
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
            camera.address.dial(),
            mode="r",
            format=form,
            options=options,
            timeout=(OPEN_WITHIN_S, self._stall_s),
        )

    def packets(self) -> Iterator[Packet]:
        """Packets as they arrive; a file's in the time they were made to be shown."""
        started, media_offset, end = time.monotonic(), 0.0, 0.0
        while True:
            for packet in self._demux():
                if packet.size == 0:  # PyAV's mark of the end
                    continue
                pts = packet.pts if packet.pts is not None else packet.dts
                media = None if pts is None or packet.time_base is None else float(pts * packet.time_base)
                if self._looped:
                    media = media_offset + (media or 0.0)
                    end = max(end, media + float((packet.duration or 0) * (packet.time_base or 0)))
                    # A file cannot be stopped from outside; the waits are as short as its pictures are apart.
                    time.sleep(max(0.0, started + media - time.monotonic()))
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
        began = time.monotonic()
        try:
            for packet in self._container.demux(self._video):
                yield packet
                began = time.monotonic()
        except (av.error.FFmpegError, OSError) as error:
            raise self._fault(error, began, self._stall_s) from error

    def decode(self, packet: Packet) -> list[tuple[float | None, Any]]:
        """Frames with their media times; an MJPEG packet is its picture already. Corrupt packets give none.

        None stands for a picture of which a part was lost on the way (UDP), until the next keyframe.
        """
        if self._is_jpeg:
            return [(packet.media_s, bytes(packet.payload))]
        try:
            frames = self._video.codec_context.decode(packet.payload)
        except av.error.InvalidDataError:
            return []  # one corrupt packet; the stream goes on, and the decoder waits for the next keyframe itself
        except av.error.FFmpegError as error:
            raise SourceError(
                CameraState.UNSUPPORTED, f"{self._address.shown}: {self.facts.codec} video that cannot be decoded"
            ) from error
        shift = 0.0 if packet.media_s is None else packet.media_s - _media_time(packet.payload)
        return [
            (None if frame.pts is None else frame.time + shift, None if self._is_torn(frame) else frame)
            for frame in frames
        ]

    def _is_torn(self, frame: av.VideoFrame) -> bool:
        # The decoder fills what is missing from whatever is near, and says so of that one picture only; those that
        # build on it show it as well.
        if frame.is_corrupt:
            self._torn = True
        elif frame.key_frame:
            self._torn = False
        return self._torn

    def close(self) -> None:
        """Let go of the connection or file."""
        self._container.close()

    def _fault(self, error: Exception, began: float, limit_s: float) -> SourceError:
        return classify(error, self._address, waited_s=time.monotonic() - began, limit_s=limit_s)


def _media_time(packet: Any) -> float:
    pts = packet.pts if packet.pts is not None else packet.dts
    return 0.0 if pts is None else float(pts * packet.time_base)
