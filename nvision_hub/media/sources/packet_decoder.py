"""Packet decoder: decodes the packets of one stream into frames and withholds corrupt frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import av
import av.error

from nvision_hub.media.decode.corrupt_frames import CorruptFrameFilter, Withheld
from nvision_hub.media.memory_limits import MAX_PIXELS

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext


class PacketDecoder:
    """Decoder of one open stream. Its methods represent a withheld frame by a member of `Withheld`."""

    def __init__(self, context: VideoCodecContext) -> None:
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_count = 1  # one thread takes the least CPU time, and the cameras already run in parallel
        if not context.has_b_frames:
            context.flags |= av.codec.context.Flags.low_delay
        # Without this flag, FFmpeg silently withholds the frames before the end of a gradual refresh.
        context.flags |= av.codec.context.Flags.output_corrupt
        self._context = context
        self._filter = CorruptFrameFilter()
        self._is_refreshing = False  # whether decoding began with a gradual refresh that has not ended yet

    @property
    def reorders(self) -> bool:
        """Whether the stream has B-frames, as far as known. Some streams reveal them only after the first packets."""
        return self._context.has_b_frames

    def decode(
        self, packet: av.Packet[Any] | None, *, is_due: bool, after_gap: bool, begins_refresh: bool = False
    ) -> list[tuple[float | None, Any]]:
        """Return the frames that this packet completes, each with its media time. A corrupt packet gives no frames.

        If `packet` is None, return the frames that the decoder still holds. `begins_refresh` is as in `Packet`. Raises
        `DecoderNotFoundError` and `MemoryError`.
        """
        if after_gap:
            # Without the flush, a decoder that reorders would mix frames from both sides of the gap and lose some.
            # After the flush, FFmpeg marks the frames before the end of a gradual refresh as corrupt.
            self._context.flush_buffers()
            self._is_refreshing = begins_refresh
        # NONREF skips frames that no other frame needs: B-frames and, with temporal layers, every second frame.
        self._context.skip_frame = "DEFAULT" if is_due else "NONREF"
        try:
            frames = self._context.decode(packet)
        except (MemoryError, av.error.DecoderNotFoundError):
            raise  # these two are `FFmpegError`s as well, but the packet is not the cause
        except av.error.FFmpegError:
            # A corrupt or hostile packet may cause any of the codec's errors. The decoder then waits for the next
            # keyframe, and the capture thread gives up on a stream that yields no frame for too long.
            return []
        return [(None if frame.pts is None else frame.time, self._checked(frame)) for frame in frames]

    def _checked(self, frame: av.VideoFrame) -> av.VideoFrame | Withheld:
        """Return the frame, or why it should be withheld."""
        self._is_refreshing = self._is_refreshing and frame.is_corrupt
        if self._is_refreshing:
            return Withheld.REFRESHING
        is_torn = self._filter.should_withhold(corrupt=frame.is_corrupt, keyframe=frame.key_frame)
        return Withheld.TORN if is_torn else frame

    def decode_alone(self, keyframe: av.Packet[Any]) -> av.VideoFrame | Withheld:
        """Return the frame of a keyframe immediately, or why it should be withheld.

        A decoder that reorders would otherwise hold the frame until more packets arrive. Flushing the decoder twice
        takes 1 to 10 µs, whereas decoding a 720p keyframe takes some milliseconds (measured with FFmpeg 8).
        """
        frames = self.decode(keyframe, is_due=True, after_gap=True) + self.decode(None, is_due=True, after_gap=False)
        self._context.flush_buffers()
        return frames[0][1] if frames else Withheld.TORN
