"""Interface of all camera sources, which read packets and decode them."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.runtime.status import CameraState

Wait = Callable[[float], bool]
"""Function that waits for the given number of seconds.

If it is interrupted, it immediately returns True, and the source stops.
"""


def uninterrupted(seconds: float) -> bool:
    """Wait for the full time and return False. For programs that read a source for a limited time."""
    time.sleep(seconds)
    return False


class SourceError(HubError):
    """Error of a camera that delivers no frames. `state` is the camera's state as operators see it."""

    def __init__(self, state: CameraState, sentence: str) -> None:
        super().__init__(sentence)
        self.state = state


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamFacts:
    """Properties of an open stream. A property is None if the camera does not report it."""

    codec: str
    width: int | None
    height: int | None
    fps: float | None
    decoder: str = "software"  # "software", or the name of the decoding device
    certificate: str | None = None  # SHA-256 fingerprint of the camera's certificate; None without TLS
    sends_plain_password: bool = False  # whether the hub sent the password in plain text (Basic without TLS)
    profile: str | None = None  # the chosen media profile of an ONVIF camera, as one line; None for other cameras
    reorders: bool = False  # whether the decoder holds back frames until later packets arrive (B-frames)


@dataclass(frozen=True, kw_only=True, slots=True)
class Packet:
    """One compressed frame."""

    payload: Any  # only the source that created the packet reads the payload
    arrived: float  # monotonic seconds
    media_s: float | None  # the stream's own time; None if the stream has no times
    keyframe: bool
    size_bytes: int
    # Whether a gradual refresh begins here, in a stream without keyframes. The decoder may start here, but withholds
    # frames until the camera has renewed the whole image. False for a keyframe.
    begins_refresh: bool = False
    is_incomplete: bool = False  # whether part of the frame was lost in transit
    follows_loss: bool = False  # whether earlier frames were lost in transit, completely or in part
    discontinuity: bool = False  # whether packets before this one were skipped; the decoder must not use older data
    lasting: bool = True  # False if the next packet overwrites the data of this packet


class Source(Protocol):
    """An open camera. Every method may raise `SourceError`. Only one thread may use a source."""

    facts: StreamFacts

    def packets(self) -> Iterator[Packet]:
        """Yield packets as they arrive, without end. Raises `SourceError` if the stream ends or stalls."""

    def decode(self, packet: Packet, *, is_due: bool = True, is_alone: bool = False) -> list[tuple[float | None, Any]]:
        """Return each frame that this packet completes, with its media time.

        A frame is an `av.VideoFrame`, BGR pixels of shape (height, width, 3), or a JPEG from the camera. A member of
        `Withheld` replaces a frame that should not be shown.

        The caller passes packets in stream order. If a packet's frame is not due and no other frame builds on it, the
        source may leave the packet undecoded.

        With `is_alone`, a keyframe yields its frame immediately, even if a decoder that reorders would otherwise wait
        for more packets. The decoder then forgets all packets so far, so the next packet must be a keyframe.

        After skipped packets, the next packet must be a keyframe, or a `discontinuity` that begins a refresh.
        """

    def close(self) -> None:
        """Disconnect from the camera. A second call has no effect."""
