"""Streams that an ONVIF camera offers, each with its estimated CPU cost.

The hub never changes a camera's own settings. It only suggests changes that save CPU time.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.cluster import cost_model
from nvision_hub.media.sources import OPEN_TIMEOUT_S, CameraTrust, SourceError
from nvision_hub.media.sources.onvif.client import OnvifClient
from nvision_hub.media.sources.onvif.stream_choice import MediaService
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources import KnownCertificates
    from nvision_hub.media.sources.onvif.profiles import MediaProfile

MAX_STREAMS: Final = 16  # per device; recorders have several streams per channel
SECONDS_PER_DAY: Final = 86_400
_SUGGESTED_KEYFRAME_INTERVAL_S: Final = 1.0
_SUGGESTED_RATE_FACTOR: Final = 2.0  # suggest a lower rate only if it saves at least half of the decoding time


@dataclass(frozen=True, kw_only=True, slots=True)
class OnvifStream:
    """One stream of a camera. A property is None if the camera does not report it.

    `core_percent` estimates the CPU use of sending `sent_fps` frames of the stream per second, as a percentage of one
    core.
    """

    url: str
    profile: str
    video_source: str
    codec: str | None = None
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    keyframe_interval_s: float | None = None
    sent_fps: float
    core_percent: float | None = None

    @property
    def shown(self) -> str:
        """The properties and the cost as one line."""
        size = None if self.width is None or self.height is None else f"{self.width}x{self.height}"
        fps = None if self.fps is None else f"{self.fps:g} fps"
        interval = None if self.keyframe_interval_s is None else f"a keyframe every {self.keyframe_interval_s:g} s"
        cost = None if self.core_percent is None else f"about {self.core_percent:.0f} % of a core"
        return f"{self.profile}: " + ", ".join(filter(None, (self.codec, size, fps, interval, cost)))


def list_streams_of(camera: Camera, certificates: KnownCertificates) -> list[OnvifStream]:
    """Connect to the camera, and return its streams with their CPU costs at the camera's `fps`.

    Raises `SourceError`.
    """
    timeout_s = max(OPEN_TIMEOUT_S, camera.stall_timeout)
    with OnvifClient(camera, CameraTrust(certificates=certificates), timeout_s=timeout_s) as client:
        return list_streams(client, sent_fps=camera.fps)


def list_streams(client: OnvifClient, *, sent_fps: float) -> list[OnvifStream]:
    """Return the streams, each with its CPU cost if the hub sends `sent_fps` frames per second. Raises `SourceError`.

    The result omits streams that the hub cannot read and streams on another host.
    """
    service, found = MediaService(client), []
    for profile in service.profiles[:MAX_STREAMS]:
        try:
            address = service.stream_address(profile)
        except SourceError as error:
            if error.state is CameraState.AUTH_FAILED:
                raise
            continue
        found.append(_stream(address.dial(), profile, sent_fps))
    return list({stream.url: stream for stream in reversed(found)}.values())[::-1]


def suggestions(streams: Sequence[OnvifStream], *, sent_fps: float) -> Iterator[str]:
    """Yield changes to the camera's settings that reduce the CPU time for sending `sent_fps` frames per second."""
    for stream in streams:
        interval_s, fps = stream.keyframe_interval_s, stream.fps
        if interval_s is None or fps is None or interval_s * sent_fps <= 1:
            continue
        if sent_fps * _SUGGESTED_KEYFRAME_INTERVAL_S <= 1:
            yield (
                f"Set the keyframe interval of {stream.profile} to {_SUGGESTED_KEYFRAME_INTERVAL_S:g} s in the camera, "
                "so that the hub decodes only keyframes."
            )
        elif fps >= _SUGGESTED_RATE_FACTOR * sent_fps:
            yield (
                f"Set the rate of {stream.profile} to {sent_fps:g} fps in the camera, so that the hub decodes no other "
                "frames."
            )


def _stream(url: str, profile: MediaProfile, sent_fps: float) -> OnvifStream:
    return OnvifStream(
        url=url,
        profile=profile.name,
        video_source=profile.video_source,
        codec=profile.codec,
        width=profile.width,
        height=profile.height,
        fps=profile.fps,
        keyframe_interval_s=profile.keyframe_interval_s,
        sent_fps=sent_fps,
        core_percent=_core_percent(profile, sent_fps),
    )


def _core_percent(profile: MediaProfile, sent_fps: float) -> float | None:
    if profile.codec is None or profile.width is None or profile.height is None or profile.fps is None:
        return None
    return (
        cost_model.stream_ms_per_s(
            profile.codec,
            (profile.width, profile.height),
            fps=profile.fps,
            keyframe_interval_s=profile.keyframe_interval_s,
            sent_fps=min(sent_fps, profile.fps),
        )
        / 10
    )
