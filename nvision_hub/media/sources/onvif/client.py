"""ONVIF client of one camera, on the connections of `http_client.py`.

The client sends every request to the host and port in the camera's URL. From the addresses that the device reports, it
uses only the paths. A device behind NAT reports addresses that lead elsewhere. A hostile device could direct the client
to other hosts, which would then receive a digest of the password.

A device asks for the login either with HTTP Digest or in the body of a response (ONVIF Core, 5.9). In the second case,
the request contains a digest with the device's own time, because many devices have a wrong clock.
"""

from __future__ import annotations

import datetime as dt
import secrets
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import quote, urlsplit

from nvision_hub.config.url import PATH_SAFE
from nvision_hub.media.sources import errors
from nvision_hub.media.sources.camera_connection import OpenDeadline
from nvision_hub.media.sources.http_client import HttpCameraClient
from nvision_hub.media.sources.onvif import soap
from nvision_hub.media.sources.source import SourceError
from nvision_hub.runtime.status import CameraState

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

    from nvision_hub.config.models import Camera
    from nvision_hub.media.sources.camera_trust import CameraTrust

DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
MEDIA: Final = "http://www.onvif.org/ver10/media/wsdl"
MEDIA2: Final = "http://www.onvif.org/ver20/media/wsdl"  # the only version of the media service that supports H.265
EVENTS: Final = "http://www.onvif.org/ver10/events/wsdl"
DEVICE_PATH: Final = "/onvif/device_service"  # ONVIF Core, 5.1.1
_MAX_CLOCK_DRIFT: Final = dt.timedelta(seconds=2)  # devices report whole seconds, and the response arrives with a delay
_UNAUTHORIZED: Final = 401
_FORBIDDEN: Final = 403
_NOT_FOUND: Final = 404


class OnvifRefusalError(SourceError):
    """The device understands the request but refuses it, for example because it does not support the operation."""


class OnvifClient:
    """Client of one camera. All requests until the next `restart_deadline` share one deadline."""

    def __init__(self, camera: Camera, trust: CameraTrust, *, timeout_s: float) -> None:
        self.address = camera.address
        self._http = HttpCameraClient(camera, trust)
        path = path_of(self.address.dial())
        self._device_path = DEVICE_PATH if path is None or path == "/" else path
        self._clock_offset: dt.timedelta | None = None  # set once the device asks for a login in the body
        self.restart_deadline(timeout_s)

    @property
    def fingerprint(self) -> str | None:
        """The fingerprint of the camera's certificate; None without TLS."""
        return self._http.fingerprint

    @property
    def peer(self) -> str | None:
        """The IP address of the camera on the last connection; None before the first connection."""
        return self._http.peer

    @property
    def sends_plain_password(self) -> bool:
        """Whether the hub has sent the password to the camera in plain text."""
        return self._http.auth.sent_basic and not self.address.is_encrypted

    def restart_deadline(self, timeout_s: float) -> None:
        """Allow each following request `timeout_s` seconds, and all of them together twice as long."""
        self._deadline = OpenDeadline(self.address, timeout_s)

    def services(self) -> dict[str, str]:
        """Return the path of each service, keyed by the namespace of its operations. Raises `SourceError`."""
        try:
            response = self.call(
                self._device_path,
                f'<GetServices xmlns="{DEVICE}"><IncludeCapability>false</IncludeCapability></GetServices>',
                f"{DEVICE}/GetServices",
            )
            found = {
                soap.text(each, "Namespace"): path_of(soap.text(each, "XAddr"))
                for each in soap.children(response, "Service")
            }
        except OnvifRefusalError:  # the device implements a version before ONVIF 2.1
            response = self.call(
                self._device_path,
                f'<GetCapabilities xmlns="{DEVICE}"><Category>All</Category></GetCapabilities>',
                f"{DEVICE}/GetCapabilities",
            )
            found = {
                namespace: path_of(soap.text(response, "Capabilities", name, "XAddr"))
                for name, namespace in (("Media", MEDIA), ("Events", EVENTS))
            }
        return {namespace: path for namespace, path in found.items() if path is not None}

    def device_information(self) -> str:
        """Return the manufacturer and the model as one line. Raises `SourceError`."""
        response = self.call(
            self._device_path, f'<GetDeviceInformation xmlns="{DEVICE}"/>', f"{DEVICE}/GetDeviceInformation"
        )
        return soap.line(f"{soap.text(response, 'Manufacturer')} {soap.text(response, 'Model')}")

    def call(self, path: str, body: str, action: str, *, header: str = "") -> Element:
        """Return the response to one operation. `body` and `header` are XML.

        Raises `OnvifRefusalError` if the device refuses the operation, and `SourceError` for any other failure.
        """
        try:
            return self._call(path, body, action, header)
        except _LoginRequiredError as error:
            # With HTTP Digest, this means a wrong password. A second attempt in the body could lock the user out.
            if not self._http.auth.has_credentials or self._http.auth.is_challenged or not self._has_new_clock():
                raise errors.refused(self.address, error.status) from error
        try:
            return self._call(path, body, action, header)
        except _LoginRequiredError as error:
            raise errors.refused(self.address, error.status) from error

    def _has_new_clock(self) -> bool:
        """Read the device's clock.

        Return whether this is the first time, or whether a clock was set since the last time.
        """
        known, self._clock_offset = self._clock_offset, None  # this request needs no login
        self._clock_offset = self._read_clock(known or dt.timedelta())
        return known is None or abs(self._clock_offset - known) > _MAX_CLOCK_DRIFT

    def _call(self, path: str, body: str, action: str, header: str) -> Element:
        if self._clock_offset is not None:
            header += self._login(self._clock_offset)
        content_type = f'application/soap+xml; charset=utf-8; action="{action}"'
        status, data = self._http.post(
            path, soap.request(body, header=header), content_type, self._deadline, max_bytes=soap.MAX_RESPONSE_BYTES
        )
        operation = action.rpartition("/")[2]
        try:
            response = soap.parse(data)
        except soap.SoapFaultError as error:
            if error.is_unauthorized or status in {_UNAUTHORIZED, _FORBIDDEN}:
                raise _LoginRequiredError(_UNAUTHORIZED) from error
            reason = f": {error}" if str(error) else ""
            raise OnvifRefusalError(
                CameraState.UNSUPPORTED, f"{self.address.shown} refuses the ONVIF request {operation}{reason}"
            ) from error
        except soap.SoapSyntaxError as error:
            if status in {_UNAUTHORIZED, _FORBIDDEN}:
                raise _LoginRequiredError(status) from error
            if status == _NOT_FOUND:
                raise errors.not_found(self.address) from error
            raise errors.no_onvif(self.address) from error
        if soap.local_name(response) != f"{operation.removesuffix('Request')}Response":
            raise errors.no_onvif(self.address)
        return response

    def _login(self, offset: dt.timedelta) -> str:
        username, password = self.address.username or "", self.address.password
        return soap.username_token(
            username,
            password.reveal() if password else "",
            created=f"{dt.datetime.now(dt.UTC) + offset:%Y-%m-%dT%H:%M:%SZ}",
            nonce=secrets.token_bytes(16),
        )

    def _read_clock(self, default: dt.timedelta) -> dt.timedelta:
        """Return how far the device's clock is ahead of the machine's; `default` if the device reports no time."""
        try:
            response = self._call(
                self._device_path,
                f'<GetSystemDateAndTime xmlns="{DEVICE}"/>',
                f"{DEVICE}/GetSystemDateAndTime",
                "",
            )
        except (_LoginRequiredError, OnvifRefusalError):
            return default
        now = soap.child(response, "SystemDateAndTime", "UTCDateTime")
        parts = [
            soap.text(now, group, name)
            for group, names in (("Date", ("Year", "Month", "Day")), ("Time", ("Hour", "Minute", "Second")))
            for name in names
        ]
        try:
            year, month, day, hour, minute, second = (int(part[:4]) for part in parts)
            time = dt.datetime(year, month, day, hour, minute, min(second, 59), tzinfo=dt.UTC)
        except ValueError:
            return default
        offset = time - dt.datetime.now(dt.UTC)
        # Close to the ends of the calendar, adding the offset to a later time would overflow.
        return offset if 1970 <= year <= 9000 else default  # noqa: PLR2004

    def abort(self) -> None:
        """Disconnect, which makes a waiting request fail. Any thread may call this method."""
        self._http.abort()

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _LoginRequiredError(Exception):
    def __init__(self, status: int) -> None:
        super().__init__()
        self.status = status


def path_of(address: str) -> str | None:
    """Return the path and the query of an address that a device reports; None if the address is invalid."""
    try:
        url = urlsplit(address)
    except ValueError:
        return None
    if not address.isprintable() or not url.path.startswith("/"):
        return None
    return quote(url._replace(scheme="", netloc="", fragment="").geturl(), safe=PATH_SAFE)
