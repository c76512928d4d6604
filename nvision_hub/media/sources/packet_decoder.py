"""Packet decoder: decodes the packets of one stream into frames and withholds corrupt frames."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import av
import av.error

from nvision_hub.media.memory_limits import MAX_PIXELS

if TYPE_CHECKING:
    from av.video.codeccontext import VideoCodecContext

_WITHHELD_SHARE: Final = 0.04  # share of the frames that the decoder may withhold in the long run
_MAX_WITHHELD: Final = 50.0  # initial and largest allowance, in frames: two seconds at 25 fps, a usual GOP


class PacketDecoder:
    """Decoder of one open stream. Its methods represent a withheld frame by None."""

    def __init__(self, context: VideoCodecContext) -> None:
        context.options = {"max_pixels": str(MAX_PIXELS)}
        context.thread_count = 1  # one thread takes the least CPU time, and the cameras already run in parallel
        if not context.has_b_frames:
            context.flags |= av.codec.context.Flags.low_delay
        self._context = context
        self._filter = CorruptFrameFilter()

    @property
    def reorders(self) -> bool:
        """Whether the stream has B-frames, as far as known. Some streams reveal them only after the first packets."""
        return self._context.has_b_frames

    def decode(self, packet: av.Packet[Any] | None, *, is_due: bool, after_gap: bool) -> list[tuple[float | None, Any]]:
        """Return the frames that this packet completes, each with its media time. A corrupt packet gives no frames.

        If `packet` is None, return the frames that the decoder still holds. Raises `DecoderNotFoundError` and
        `MemoryError`.
        """
        if after_gap:
            # Without the flush, a decoder that reorders would mix frames from both sides of the gap and lose some.
            self._context.flush_buffers()
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
        return [
            (
                None if frame.pts is None else frame.time,
                None if self._filter.should_withhold(corrupt=frame.is_corrupt, keyframe=frame.key_frame) else frame,
            )
            for frame in frames
        ]

    def decode_alone(self, keyframe: av.Packet[Any]) -> av.VideoFrame | None:
        """Return the frame of a keyframe immediately; None if the packet gives no frame or a corrupt one.

        A decoder that reorders would otherwise hold the frame until more packets arrive. Flushing the decoder twice
        takes 1 to 10 µs, whereas decoding a 720p keyframe takes some milliseconds (measured with FFmpeg 8).
        """
        frames = self.decode(keyframe, is_due=True, after_gap=True) + self.decode(None, is_due=True, after_gap=False)
        self._context.flush_buffers()
        return frames[0][1] if frames else None


class CorruptFrameFilter:
    """Filter that withholds frames damaged in transit, for example over UDP.

    The decoder fills a damaged part from nearby pixels and marks only that frame as corrupt. Frames that build on the
    corrupt frame show the damage as well, until the next keyframe. If damage is rare, the filter withholds all of these
    frames. If nearly every GOP is damaged, damaged frames are better than none, so the filter withholds only a few.
    """

    def __init__(self) -> None:
        self._is_gop_corrupt = False
        self._allowance = _MAX_WITHHELD

    def should_withhold(self, *, corrupt: bool, keyframe: bool) -> bool:
        """Return whether to withhold the next decoded frame."""
        if corrupt or keyframe:
            self._is_gop_corrupt = corrupt
        self._allowance = min(_MAX_WITHHELD, self._allowance + _WITHHELD_SHARE)
        if not self._is_gop_corrupt or self._allowance < 1:
            return False
        self._allowance -= 1
        return True
