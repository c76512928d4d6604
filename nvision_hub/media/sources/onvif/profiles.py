"""Media profiles of an ONVIF camera: the parser, and the choice of the profile that fits a camera's settings.

A camera usually has one profile for its main stream, and others for sub-streams with smaller frames. Performs no I/O.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from nvision_hub.media.sources.onvif import soap

if TYPE_CHECKING:
    from collections.abc import Sequence
    from xml.etree.ElementTree import Element

MAX_PROFILES: Final = 256  # a recorder has two or three per channel
_MAX_TOKEN_CHARACTERS: Final = 64  # maximum length of a ReferenceToken (ONVIF Core, common.xsd)
_MAX_PIXELS: Final = 65535
# ONVIF's names of encodings (Media, 5.5; Media 2 uses the names of RTP), and FFmpeg's names for them.
_CODECS: Final = {"H264": "h264", "H265": "hevc", "JPEG": "mjpeg", "MPEG4": "mpeg4", "MPV4-ES": "mpeg4"}


@dataclass(frozen=True, kw_only=True, slots=True)
class MediaProfile:
    """One stream that the camera offers. A property is None if the camera does not report it."""

    token: str
    name: str
    codec: str | None = None  # codec name in FFmpeg
    width: int | None = None
    height: int | None = None
    fps: float | None = None
    keyframe_interval_s: float | None = None
    bitrate_kbit_s: float | None = None
    video_source: str = ""  # token; a recorder has one source per channel
    video_source_configuration: str = ""  # token of the configuration

    @property
    def shown(self) -> str:
        """The name and the properties, such as `SubStream (h264, 640x360, 15 fps)`."""
        size = None if self.width is None or self.height is None else f"{self.width}x{self.height}"
        rate = None if self.fps is None else f"{self.fps:g} fps"
        properties = ", ".join(filter(None, (self.codec, size, rate)))
        return f"{self.name} ({properties})" if properties else self.name


def parse_profiles(response: Element) -> list[MediaProfile]:
    """Parse the profiles with video in a response to GetProfiles (version 1 or 2 of the media service)."""
    found = []
    for each in list(soap.children(response, "Profiles"))[:MAX_PROFILES]:
        token, parts = each.get("token", ""), soap.child(each, "Configurations")
        if parts is None:
            source, encoder = (
                soap.child(each, "VideoSourceConfiguration"),
                soap.child(each, "VideoEncoderConfiguration"),
            )
        else:
            source, encoder = soap.child(parts, "VideoSource"), soap.child(parts, "VideoEncoder")
        if encoder is not None and 0 < len(token) <= _MAX_TOKEN_CHARACTERS:
            found.append(_profile(token, soap.text(each, "Name"), source, encoder))
    return found


def choose_profile(profiles: Sequence[MediaProfile], *, max_width: int | None, fps: float) -> MediaProfile | None:
    """Return the profile with the smallest frames that are at least `max_width` wide, at a rate of at least `fps`.

    If no profile fits or `max_width` is None, returns the profile with the largest frames. If `profiles` is empty,
    returns None. Only the first video source counts, because a recorder has one source per camera.
    """
    usable = [each for each in profiles if each.video_source == profiles[0].video_source]
    fitting = [
        each
        for each in usable
        if each.width and each.width >= (max_width or 0) and (each.fps is None or each.fps >= fps)
    ]
    if max_width is not None and fitting:
        return min(fitting, key=_size)
    return max(usable, key=_size, default=None)


def _size(profile: MediaProfile) -> tuple[float, ...]:
    return profile.width or 0, profile.height or 0, profile.fps or 0


def _profile(token: str, name: str, source: Element | None, encoder: Element) -> MediaProfile:
    encoding = soap.text(encoder, "Encoding").upper()
    limit = soap.number(soap.text(encoder, "RateControl", "FrameRateLimit"))
    interval = soap.number(soap.text(encoder, "RateControl", "EncodingInterval")) or 1.0
    fps = limit and limit / interval
    gop = soap.number(encoder.get("GovLength", "") or soap.text(encoder, encoding, "GovLength"))
    return MediaProfile(
        token=token,
        name=soap.line(name) or soap.line(token),
        codec=_CODECS.get(encoding) or soap.line(encoding).lower() or None,
        width=_pixels(encoder, "Width"),
        height=_pixels(encoder, "Height"),
        fps=fps,
        keyframe_interval_s=gop / fps if gop and fps else None,
        bitrate_kbit_s=soap.number(soap.text(encoder, "RateControl", "BitrateLimit")),
        video_source=soap.text(source, "SourceToken")[:_MAX_TOKEN_CHARACTERS],
        video_source_configuration="" if source is None else source.get("token", "")[:_MAX_TOKEN_CHARACTERS],
    )


def _pixels(encoder: Element, name: str) -> int | None:
    found = soap.number(soap.text(encoder, "Resolution", name))
    return int(found) if found and 1 <= found <= _MAX_PIXELS else None
