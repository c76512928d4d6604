"""Choice of an ONVIF camera's stream: the media profile that fits the camera's settings, and its RTSP address.

The address may change when the camera restarts, so the hub requests it again at each connection.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from xml.sax.saxutils import escape

from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.media.sources.onvif import soap
from nvision_hub.media.sources.onvif.client import MEDIA, MEDIA2, OnvifClient, OnvifRefusalError
from nvision_hub.media.sources.onvif.profiles import choose_profile, parse_profiles
from nvision_hub.media.sources.source import SourceError
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Collection
    from xml.etree.ElementTree import Element

    from nvision_hub.config.added_cameras import CameraHost
    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust
    from nvision_hub.media.sources.onvif.profiles import MediaProfile

MAX_ONVIF_TIMEOUTS: Final = 2  # choosing a stream takes at most this many timeouts (`OpenDeadline`)
_SCHEMA: Final = "http://www.onvif.org/ver10/schema"
_SETUP: Final = (
    f'<StreamSetup><Stream xmlns="{_SCHEMA}">RTP-Unicast</Stream><Transport xmlns="{_SCHEMA}"><Protocol>RTSP</Protocol>'
    "</Transport></StreamSetup>"
)


@dataclass(frozen=True, kw_only=True, slots=True)
class ChosenStream:
    """The stream that fits the settings of `onvif_camera`. The URL of `camera` is the stream's address."""

    camera: Camera
    profile: MediaProfile
    sends_plain_password: bool  # whether the ONVIF service received the password in plain text


class MediaService:
    """Media service of one camera, in version 2 if the camera supports that version. Raises `SourceError`.

    `services` are the paths of all services.
    """

    def __init__(self, client: OnvifClient) -> None:
        self._client = client
        self.services = client.services()
        paths = {version: self.services[version] for version in (MEDIA2, MEDIA) if version in self.services}
        for self._version, self._path in paths.items():
            try:
                self.profiles = parse_profiles(self._call("GetProfiles", self._profile_types()))
            except OnvifRefusalError:
                if self._version == MEDIA or MEDIA not in paths:
                    raise
            else:
                return
        raise _no_stream(client.address)

    def stream_address(self, profile: MediaProfile, hosts: Collection[CameraHost] = ()) -> CameraAddress:
        """Return the address of a profile's stream, without credentials.

        The stream must be on the camera itself or on a host in `hosts`.
        """
        address = self._client.address
        token = f"<ProfileToken>{escape(profile.token)}</ProfileToken>"
        parameters = f"<Protocol>RTSP</Protocol>{token}" if self._version == MEDIA2 else f"{_SETUP}{token}"
        response = self._call("GetStreamUri", parameters)
        uri = soap.text(response, "Uri") or soap.text(response, "MediaUri", "Uri")
        try:
            stream = replace(CameraAddress.parse(uri), username=None, password=None)
        except ValueError as error:
            raise _no_stream(address) from error
        if stream.kind != "rtsp":
            raise _no_stream(address)
        if _is_same_host(stream.host, address.host, self._client.peer):
            return replace(stream, host=address.host)
        if any(entry.matches(stream.host) for entry in hosts):
            return stream
        raise SourceError(
            CameraState.NOT_FOUND,
            f"{address.shown} reports a stream on another host, {stream.host}, so the hub does not connect to it; if "
            f"this stream belongs to the camera, list {stream.host} in `gateway.camera_hosts`, or set the stream's own "
            "address as this camera's `url`",
        )

    def _profile_types(self) -> str:
        return "<Type>VideoSource</Type><Type>VideoEncoder</Type>" if self._version == MEDIA2 else ""

    def _call(self, operation: str, parameters: str) -> Element:
        body = f'<{operation} xmlns="{self._version}">{parameters}</{operation}>'
        return self._client.call(self._path, body, f"{self._version}/{operation}")


def choose_stream(onvif_camera: Camera, trust: CameraTrust, *, timeout_s: float) -> ChosenStream:
    """Request the camera's profiles, and return the stream that fits `max_width` and `fps`. Raises `SourceError`."""
    # A camera's ONVIF service and its stream may offer different authentication methods.
    service_trust = replace(trust, offered_digest=trust.onvif_offered_digest)
    try:
        with OnvifClient(onvif_camera, service_trust, timeout_s=timeout_s) as client:
            service = MediaService(client)
            profile = choose_profile(service.profiles, max_width=onvif_camera.max_width, fps=onvif_camera.highest_fps)
            if profile is None:
                raise _no_stream(client.address)
            address = service.stream_address(profile, trust.hosts)
            sends_plain_password = client.sends_plain_password
    finally:
        trust.onvif_offered_digest = service_trust.offered_digest
    onvif = onvif_camera.address
    address = replace(address, username=onvif.username, password=onvif.password)
    return ChosenStream(
        camera=onvif_camera.model_copy(update={"url": address}),
        profile=profile,
        sends_plain_password=sends_plain_password,
    )


def _no_stream(address: CameraAddress) -> SourceError:
    return SourceError(
        CameraState.UNSUPPORTED,
        f"{address.shown} offers no RTSP stream over ONVIF; set the camera's RTSP address as this camera's `url`",
    )


def _is_same_host(reported: str, configured: str, peer: str | None) -> bool:
    """Return whether `reported` is the device itself, which has the host `configured` and the IP address `peer`."""
    known = {_normalized(configured), _normalized(peer or configured)}
    return _normalized(reported) in known


def _normalized(host: str) -> str:
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        return host.lower().removesuffix(".")
