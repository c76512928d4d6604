"""Packet decoder: decodes the packets of one stream into frames and withholds corrupt frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import av
import av.error

from nvision_hub.media.decode.corrupt_frames import CorruptFrameFilter, LossTracker, UnexplainedDamage, Withheld
from nvision_hub.media.interlacing import Field
from nvision_hub.media.memory_limits import MAX_PIXELS

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

    from nvision_hub.media.sources.rtp_loss import LossMarks
    from nvision_hub.media.sources.source import Packet

_MANY_LOST: Final = 0.025  # share of lost RTP packets; above this share, damaged frames may be better than none


class PacketDecoder:
    """Decoder of one open stream. In the results of its methods, a member of `Withheld` replaces a withheld frame."""

    def __init__(self, context: VideoCodecContext, marks: LossMarks | None) -> None:
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_count = 1  # a single thread takes the least CPU time, and the cameras already run in parallel
        if not context.has_b_frames:
            context.flags |= av.codec.context.Flags.low_delay
        # Without this flag, FFmpeg silently discards the frames before the end of a gradual refresh.
        context.flags |= av.codec.context.Flags.output_corrupt
        self._context = context
        self._filter, self._losses = CorruptFrameFilter(), LossTracker()
        self._unexplained = UnexplainedDamage()
        self._marks = marks
        self._was_torn = False  # whether the last frame built on lost packets
        self._refreshing: Withheld | None = None  # set while the decoder waits for the end of a gradual refresh

    @property
    def reorders(self) -> bool:
        """Whether the stream has B-frames, as far as is known.

        Some streams show B-frames only after the first packets.
        """
        return self._context.has_b_frames

    def decode(self, packet: Packet, *, is_due: bool) -> list[tuple[float | None, Any]]:
        """Return the frames that this packet completes, each with its media time. A corrupt packet yields no frames.

        Raises `DecoderNotFoundError` and `MemoryError`.
        """
        is_torn = self._losses.is_torn or self._filter.is_torn or packet.follows_loss
        waits = self._filter.is_rare or not self._loses_many
        is_flushed = packet.discontinuity or (packet.begins_refresh and is_torn and waits)
        if is_flushed:
            # Without the flush, a decoder that reorders would mix frames from both sides of the gap and lose some of
            # them.
            reason = Withheld.REFRESHING if packet.discontinuity else Withheld.TORN
            self._flush(reason if packet.begins_refresh else None)
        return self._decode(packet, is_due=is_due, is_entry=packet.keyframe or is_flushed)

    @property
    def _loses_many(self) -> bool:
        """Whether damaged frames may be better than none, because many packets are lost."""
        return self._marks is None or self._marks.lost_share > _MANY_LOST

    def _flush(self, refreshing: Withheld | None) -> None:
        """Discard the frames in the decoder. Until the end of a refresh, FFmpeg then marks frames as corrupt."""
        self._context.flush_buffers()
        self._losses.restart()
        self._refreshing = refreshing

    def _decode(self, packet: Packet, *, is_due: bool, is_entry: bool) -> list[tuple[float | None, Any]]:
        self._losses.push(
            packet.payload.pts,
            is_entry=is_entry,
            is_incomplete=packet.is_incomplete,
            follows_loss=packet.follows_loss,
        )
        return self._frames(packet.payload, is_due=is_due)

    def _frames(self, packet: av.Packet[Any] | None, *, is_due: bool) -> list[tuple[float | None, Any]]:
        # NONREF skips frames on which no other frame builds: B-frames and, with temporal layers, every second frame.
        self._context.skip_frame = "DEFAULT" if is_due else "NONREF"
        try:
            frames = self._context.decode(packet)
        except (MemoryError, av.error.DecoderNotFoundError):
            raise  # these two are also `FFmpegError`s, but the packet is not the cause
        except av.error.FFmpegError:
            # A corrupt or hostile packet may cause any error of the codec. The decoder then waits for the next
            # keyframe. If a stream yields no frame for too long, the capture thread closes it.
            return []
        times = [None if frame.pts is None else frame.time for frame in frames]
        return [(media_s, self._checked(frame, media_s)) for media_s, frame in zip(times, frames, strict=True)]

    def _checked(self, frame: av.VideoFrame, media_s: float | None) -> av.VideoFrame | Withheld:
        """Return the frame, or the reason to withhold it."""
        if frame.interlaced_frame and self._context.name == "hevc":
            frame.opaque = Field()
        if self._refreshing is not None and frame.is_corrupt:
            self._losses.pop(frame.pts)
            return self._refreshing
        has_refreshed, self._refreshing = self._refreshing is not None, None
        was_torn, self._was_torn = self._was_torn, self._losses.pop(frame.pts)
        is_torn = self._filter.should_withhold(
            corrupt=frame.is_corrupt or self._was_torn,
            keyframe=frame.key_frame,
            is_whole=has_refreshed or was_torn,
            media_s=media_s,
        )
        if self._unexplained.may_withhold(damaged=is_torn and not self._was_torn):
            return Withheld.TORN
        # If few packets are lost, intact frames will follow soon, so the hub can withhold damaged frames.
        if self._was_torn and (is_torn or not self._loses_many):
            return Withheld.TORN
        return frame

    def decode_alone(self, keyframe: Packet) -> av.VideoFrame | Withheld:
        """Return the frame of a keyframe immediately, or the reason to withhold it.

        A decoder that reorders would otherwise hold the frame until more packets arrive. Flushing the decoder twice
        takes 1 to 10 µs, whereas decoding a 720p keyframe takes several milliseconds (measured with FFmpeg 8).
        """
        self._flush(None)
        frames = self._decode(keyframe, is_due=True, is_entry=True) + self._frames(None, is_due=True)
        self._flush(None)
        return frames[0][1] if frames else Withheld.TORN
