"""What every kind of source is to its camera."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from nvision_hub.errors import HubError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.status import CameraState

# A decoded picture as its source has it: planes, BGR of shape (height, width, 3), or a JPEG that the camera made.
Picture = "av.VideoFrame | np.ndarray[Any, Any] | bytes"


class SourceError(HubError):
    """A camera gives no pictures. `state` is what operators see; the text says what is wrong and how to mend it."""

    def __init__(self, state: CameraState, sentence: str) -> None:
        super().__init__(sentence)
        self.state = state


@dataclass(frozen=True, kw_only=True, slots=True)
class StreamFacts:
    """What is known of a stream once it is open. None where the camera does not say."""

    codec: str
    width: int | None
    height: int | None
    fps: float | None
    decoder: str = "software"  # or the device that decodes


@dataclass(frozen=True, kw_only=True, slots=True)
class Packet:
    """One picture, still compressed. `media_s` is the stream's own time, None where it has none."""

    payload: Any  # its source's; only that source's `decode` looks inside
    arrived: float  # monotonic seconds
    media_s: float | None
    keyframe: bool
    size_bytes: int
    lasting: bool = True  # False where its picture is gone when the next packet comes


class Source(Protocol):
    """An open camera. Every method may raise `SourceError`; none is called from two threads."""

    facts: StreamFacts

    def packets(self) -> Iterator[Packet]:
        """Packets as they arrive, for ever; a stream that ends or stalls raises."""

    def decode(self, packet: Packet, *, wanted: bool = True) -> list[tuple[float | None, Any]]:
        """The `Picture`s that this packet completes, each with its media time. Packets come in stream order.

        Where its own picture is not `wanted`, and no other builds on it, it need not be decoded.
        A picture is None where only a part of it arrived and it is better not shown.
        """

    def decode_alone(self, packet: Packet) -> Any | None:
        """The `Picture` of a keyframe, at once; None where it has none that can be shown.

        Whatever was decoded before is forgotten: decoding goes on from any keyframe.
        """

    def close(self) -> None:
        """Let go of the camera. May be called twice."""
