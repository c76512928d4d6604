"""ONVIF device on a real socket, with a camera's device, media and events services as their WSDL describes them.

The device checks the namespace and the login of every request. Its streams come from other test cameras.
"""

from __future__ import annotations

import base64
import datetime as dt
import hashlib
import re
import secrets
import threading
import time
from dataclasses import dataclass, field
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final
from xml.etree import ElementTree as ET
from xml.sax.saxutils import escape

import pytest

from tests.support.http_camera import md5

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_DEVICE: Final = "http://www.onvif.org/ver10/device/wsdl"
_MEDIA: Final = "http://www.onvif.org/ver10/media/wsdl"
_MEDIA2: Final = "http://www.onvif.org/ver20/media/wsdl"
_EVENTS: Final = "http://www.onvif.org/ver10/events/wsdl"
_NOTIFICATION: Final = "http://docs.oasis-open.org/wsn/b-2"
_ADDRESSING: Final = "http://www.w3.org/2005/08/addressing"
_SECURITY: Final = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-secext-1.0.xsd}"
_UTILITY: Final = "{http://docs.oasis-open.org/wss/2004/01/oasis-200401-wss-wssecurity-utility-1.0.xsd}"
_SOAP: Final = "{http://www.w3.org/2003/05/soap-envelope}"
_PATHS: Final = {
    "/onvif/device_service": _DEVICE,
    "/onvif/media": _MEDIA,
    "/onvif/media2": _MEDIA2,
    "/onvif/events": _EVENTS,
}
_WITHOUT_LOGIN: Final = {"GetSystemDateAndTime", "GetServices", "GetCapabilities"}  # ONVIF Core, PRE_AUTH
_MAX_SKEW_S: Final = 5.0
_SUBSCRIPTION_PATH: Final = "/onvif/subscription"


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One media profile, whose stream has this address."""

    uri: str
    token: str
    name: str
    width: int
    height: int
    fps: int = 25
    gop: int = 50
    encoding: str = "H264"
    source: str = "source_1"


@dataclass(kw_only=True)
class _Subscription:
    ends: float
    messages: list[str] = field(default_factory=list)


@dataclass(kw_only=True)
class OnvifDevice:
    """A device. `login` is the method for the password: "digest" (HTTP), "token" (in the body), or "basic"."""

    profiles: tuple[Profile, ...]
    user: str | None = None
    password: str = ""
    login: str = "digest"
    clock_offset_s: float = 0.0
    has_media2: bool = False
    has_events: bool = True
    subscription_s: float = 60.0
    answers: dict[str, bytes] = field(default_factory=dict)  # raw responses that replace the usual ones, by operation
    operations: list[str] = field(default_factory=list)  # operations of all requests in order
    refused_logins: int = 0
    closes: bool = False  # whether the device closes the connection after each response

    def __post_init__(self) -> None:
        self.nonce = secrets.token_hex(8)
        self.is_moving = False
        self.subscriptions: dict[str, _Subscription] = {}
        self.changed = threading.Condition()
        self.accepts_subscriptions = True
        device = self

        class Handler(_Handler):
            owner = device

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def port(self) -> int:
        """The port that all services share."""
        return self._server.server_address[1]

    @property
    def url(self) -> str:
        """The camera's URL for cameras.yaml."""
        return f"onvif://127.0.0.1:{self.port}"

    def set_moving(self, *, is_moving: bool) -> float:
        """Report to all subscribers that motion begins or ends. Return the time (monotonic)."""
        with self.changed:
            self.is_moving = is_moving
            for subscription in self.subscriptions.values():
                subscription.messages.append(motion_message("Changed", is_moving=is_moving))
            self.changed.notify_all()
            return time.monotonic()

    def drop_subscriptions(self) -> None:
        """Forget all subscriptions, like a camera that restarts."""
        with self.changed:
            self.subscriptions.clear()
            self.changed.notify_all()

    def count(self, operation: str) -> int:
        """Return the number of requests for an operation."""
        return self.operations.count(operation)

    def close(self) -> None:
        """Stop listening, and end waiting requests."""
        self.drop_subscriptions()
        self._server.shutdown()
        self._server.server_close()


def motion_message(operation: str, *, is_moving: bool, topic: str = "tns1:RuleEngine/CellMotionDetector/Motion") -> str:
    """Return a notification (ONVIF Core, 9.5.5.1) of the rule that most cameras have."""
    return (
        f'<wsnt:NotificationMessage><wsnt:Topic Dialect="http://www.onvif.org/ver10/tev/topicExpression/ConcreteSet">'
        f'{topic}</wsnt:Topic><wsnt:Message><tt:Message UtcTime="2026-11-22T14:00:00Z" PropertyOperation="{operation}">'
        '<tt:Source><tt:SimpleItem Name="VideoSourceConfigurationToken" Value="source_configuration"/>'
        '<tt:SimpleItem Name="Rule" Value="MyMotionDetectorRule"/></tt:Source>'
        f'<tt:Data><tt:SimpleItem Name="IsMotion" Value="{str(is_moving).lower()}"/></tt:Data>'
        "</tt:Message></wsnt:Message></wsnt:NotificationMessage>"
    )


def envelope(body: str) -> bytes:
    """Return a response with this body."""
    names = {"tds": _DEVICE, "trt": _MEDIA, "tr2": _MEDIA2, "tev": _EVENTS, "wsnt": _NOTIFICATION, "wsa5": _ADDRESSING}
    names |= {
        "SOAP-ENV": _SOAP[1:-1],
        "tt": "http://www.onvif.org/ver10/schema",
        "ter": "http://www.onvif.org/ver10/error",
    }
    written = " ".join(f'xmlns:{prefix}="{name}"' for prefix, name in names.items())
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<SOAP-ENV:Envelope {written}><SOAP-ENV:Header/>'
        f"<SOAP-ENV:Body>{body}</SOAP-ENV:Body></SOAP-ENV:Envelope>"
    ).encode()


def fault(subcode: str, reason: str) -> bytes:
    """Return a fault of the sender."""
    return envelope(
        "<SOAP-ENV:Fault><SOAP-ENV:Code><SOAP-ENV:Value>SOAP-ENV:Sender</SOAP-ENV:Value><SOAP-ENV:Subcode>"
        f"<SOAP-ENV:Value>ter:{subcode}</SOAP-ENV:Value></SOAP-ENV:Subcode></SOAP-ENV:Code><SOAP-ENV:Reason>"
        f'<SOAP-ENV:Text xml:lang="en">{reason}</SOAP-ENV:Text></SOAP-ENV:Reason></SOAP-ENV:Fault>'
    )


class _RefusedError(Exception):
    def __init__(self, subcode: str, reason: str) -> None:
        super().__init__(reason)
        self.response = fault(subcode, reason)


class _Handler(BaseHTTPRequestHandler):
    owner: OnvifDevice
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        device = self.owner
        root = ET.fromstring(self.rfile.read(int(self.headers["Content-Length"])))  # noqa: S314 - a request of the hub
        request = root.find(f"{_SOAP}Body/*")
        assert request is not None
        namespace, _, operation = request.tag[1:].partition("}")
        device.operations.append(operation)
        assert self.headers["Content-Type"].startswith("application/soap+xml")
        if operation in device.answers:
            self._answer(HTTPStatus.OK, device.answers[operation])
        elif not self._is_allowed(root, operation):
            self._refuse_login()
        else:
            try:
                self._answer(HTTPStatus.OK, envelope(self._response(namespace, operation, request)))
            except _RefusedError as error:
                self._answer(HTTPStatus.BAD_REQUEST, error.response)

    def _response(self, namespace: str, operation: str, request: ET.Element) -> str:
        device = self.owner
        if self.path.startswith(_SUBSCRIPTION_PATH):
            assert namespace in {_EVENTS, _NOTIFICATION}
            return self._subscription(operation)
        expected = _PATHS.get(self.path)
        if expected != namespace or (namespace == _MEDIA2 and not device.has_media2):
            raise _RefusedError("ActionNotSupported", f"{operation} of {namespace} at {self.path}")
        match operation:
            case "GetSystemDateAndTime":
                now = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=device.clock_offset_s)
                return (
                    "<tds:GetSystemDateAndTimeResponse><tds:SystemDateAndTime><tt:UTCDateTime>"
                    f"<tt:Time><tt:Hour>{now.hour}</tt:Hour><tt:Minute>{now.minute}</tt:Minute>"
                    f"<tt:Second>{now.second}</tt:Second></tt:Time><tt:Date><tt:Year>{now.year}</tt:Year>"
                    f"<tt:Month>{now.month}</tt:Month><tt:Day>{now.day}</tt:Day></tt:Date></tt:UTCDateTime>"
                    "</tds:SystemDateAndTime></tds:GetSystemDateAndTimeResponse>"
                )
            case "GetServices":
                services = "".join(
                    f"<tds:Service><tds:Namespace>{name}</tds:Namespace><tds:XAddr>http://10.0.0.64{path}</tds:XAddr>"
                    "<tds:Version><tt:Major>2</tt:Major><tt:Minor>6</tt:Minor></tds:Version></tds:Service>"
                    for path, name in _PATHS.items()
                    if {_MEDIA2: device.has_media2, _EVENTS: device.has_events}.get(name, True)
                )
                return f"<tds:GetServicesResponse>{services}</tds:GetServicesResponse>"
            case "GetDeviceInformation":
                return (
                    "<tds:GetDeviceInformationResponse><tds:Manufacturer>ACME</tds:Manufacturer>"
                    "<tds:Model>Dome 1</tds:Model></tds:GetDeviceInformationResponse>"
                )
            case "GetProfiles":
                return profiles_response(device.profiles, version=1 if namespace == _MEDIA else 2)
            case "GetStreamUri":
                token = request.findtext(f"{{{namespace}}}ProfileToken")
                (uri,) = (each.uri for each in device.profiles if each.token == token)
                if namespace == _MEDIA2:
                    assert request.findtext(f"{{{namespace}}}Protocol") == "RTSP"
                    return f"<tr2:GetStreamUriResponse><tr2:Uri>{escape(uri)}</tr2:Uri></tr2:GetStreamUriResponse>"
                assert request.find(f"{{{namespace}}}StreamSetup/*") is not None
                return (
                    f"<trt:GetStreamUriResponse><trt:MediaUri><tt:Uri>{escape(uri)}</tt:Uri>"
                    "<tt:Timeout>PT60S</tt:Timeout></trt:MediaUri></trt:GetStreamUriResponse>"
                )
            case "CreatePullPointSubscription" if device.accepts_subscriptions:
                return self._subscribe()
            case _:
                raise _RefusedError("ActionNotSupported", "not supported")

    def _subscribe(self) -> str:
        device, key = self.owner, secrets.token_hex(4)
        with device.changed:
            first = motion_message("Initialized", is_moving=device.is_moving)
            device.subscriptions[key] = _Subscription(ends=time.monotonic() + device.subscription_s, messages=[first])
        return (
            "<tev:CreatePullPointSubscriptionResponse><tev:SubscriptionReference>"
            f"<wsa5:Address>http://10.0.0.64{_SUBSCRIPTION_PATH}?id={key}</wsa5:Address></tev:SubscriptionReference>"
            f"{self._times()}</tev:CreatePullPointSubscriptionResponse>"
        )

    def _times(self) -> str:
        now = dt.datetime.now(dt.UTC)
        end = now + dt.timedelta(seconds=self.owner.subscription_s)
        return (
            f"<wsnt:CurrentTime>{now:%Y-%m-%dT%H:%M:%SZ}</wsnt:CurrentTime>"
            f"<wsnt:TerminationTime>{end:%Y-%m-%dT%H:%M:%SZ}</wsnt:TerminationTime>"
        )

    def _subscription(self, operation: str) -> str:
        device, key = self.owner, self.path.partition("?id=")[2]
        with device.changed:
            subscription = device.subscriptions.get(key)
            if subscription is None or subscription.ends < time.monotonic():
                device.subscriptions.pop(key, None)
                raise _RefusedError("InvalidArgVal", "unknown subscription")
            if operation == "Renew":
                subscription.ends = time.monotonic() + device.subscription_s
                return f"<wsnt:RenewResponse>{self._times()}</wsnt:RenewResponse>"
            if operation == "Unsubscribe":
                del device.subscriptions[key]
                device.changed.notify_all()
                return "<wsnt:UnsubscribeResponse/>"
            assert operation == "PullMessages"
            device.changed.wait_for(
                lambda: subscription.messages or key not in device.subscriptions, self.owner.subscription_s / 3
            )
            if key not in device.subscriptions:
                raise _RefusedError("InvalidArgVal", "unknown subscription")
            messages, subscription.messages = "".join(subscription.messages), []
        return (
            f"<tev:PullMessagesResponse>{self._times().replace('wsnt:', 'tev:')}{messages}</tev:PullMessagesResponse>"
        )

    def _is_allowed(self, root: ET.Element, operation: str) -> bool:
        device = self.owner
        if device.user is None or operation in _WITHOUT_LOGIN:
            return True
        if device.login == "token":
            is_right = self._is_token_right(root)
            device.refused_logins += not is_right and root.find(f".//{_SECURITY}UsernameToken") is not None
            return is_right
        kind, _, given = self.headers.get("Authorization", "").partition(" ")
        if not given:
            return False
        if kind == "Basic":
            is_right = base64.b64decode(given).decode() == f"{device.user}:{device.password}"
        else:
            parts = {
                name: quoted or plain for name, quoted, plain in re.findall(r'(\w+)=(?:"([^"]*)"|([^\s,]+))', given)
            }
            middle = ":".join(parts.get(name, "") for name in ("nonce", "nc", "cnonce", "qop"))
            secret, request = md5(f"{device.user}:camera:{device.password}"), md5(f"POST:{parts.get('uri')}")
            is_right = parts.get("uri") == self.path and parts.get("response") == md5(f"{secret}:{middle}:{request}")
        device.refused_logins += not is_right
        return is_right

    def _is_token_right(self, root: ET.Element) -> bool:
        token, device = root.find(f".//{_SECURITY}UsernameToken"), self.owner
        if token is None:
            return False
        created = token.findtext(f"{_UTILITY}Created") or ""
        nonce = base64.b64decode(token.findtext(f"{_SECURITY}Nonce") or "")
        digest = hashlib.sha1(nonce + created.encode() + device.password.encode(), usedforsecurity=False).digest()
        skew_s = dt.datetime.fromisoformat(created).timestamp() - time.time() - device.clock_offset_s
        is_same = token.findtext(f"{_SECURITY}Password") == base64.b64encode(digest).decode()
        return is_same and token.findtext(f"{_SECURITY}Username") == device.user and abs(skew_s) < _MAX_SKEW_S

    def _refuse_login(self) -> None:
        device = self.owner
        if device.login == "token":
            self._answer(HTTPStatus.BAD_REQUEST, fault("NotAuthorized", "Sender not authorized"))
            return
        basic = 'Basic realm="camera"'
        digest = f'Digest realm="camera", nonce="{device.nonce}", qop="auth", algorithm=MD5'
        self._answer(HTTPStatus.UNAUTHORIZED, b"", {"WWW-Authenticate": basic if device.login == "basic" else digest})

    def _answer(self, status: HTTPStatus, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {**(headers or {}), "Content-Length": str(len(body))}.items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/soap+xml; charset=utf-8")
        if self.owner.closes:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Print nothing, because `OnvifDevice.operations` already records each request."""


def profiles_response(profiles: Iterable[Profile], *, version: int) -> str:
    """Return the response to GetProfiles of this version of the media service."""
    name, write = ("trt:GetProfilesResponse", _profile) if version == 1 else ("tr2:GetProfilesResponse", _profile2)
    return f"<{name}>{''.join(map(write, profiles))}</{name}>"


def _profile(it: Profile) -> str:
    return (
        f'<trt:Profiles token="{it.token}" fixed="true"><tt:Name>{it.name}</tt:Name>'
        f'<tt:VideoSourceConfiguration token="source_configuration"><tt:SourceToken>{it.source}</tt:SourceToken>'
        '</tt:VideoSourceConfiguration><tt:VideoEncoderConfiguration token="e">'
        f"<tt:Encoding>{it.encoding}</tt:Encoding>"
        f"<tt:Resolution><tt:Width>{it.width}</tt:Width><tt:Height>{it.height}</tt:Height></tt:Resolution>"
        f"<tt:RateControl><tt:FrameRateLimit>{it.fps}</tt:FrameRateLimit><tt:EncodingInterval>1</tt:EncodingInterval>"
        "<tt:BitrateLimit>2048</tt:BitrateLimit></tt:RateControl>"
        f"<tt:{it.encoding}><tt:GovLength>{it.gop}</tt:GovLength></tt:{it.encoding}></tt:VideoEncoderConfiguration>"
        "</trt:Profiles>"
    )


def _profile2(it: Profile) -> str:
    return (
        f'<tr2:Profiles token="{it.token}" fixed="true"><tr2:Name>{it.name}</tr2:Name><tr2:Configurations>'
        f'<tr2:VideoSource token="source_configuration"><tt:SourceToken>{it.source}</tt:SourceToken></tr2:VideoSource>'
        f'<tr2:VideoEncoder token="e" GovLength="{it.gop}" Profile="Main"><tt:Encoding>{it.encoding}</tt:Encoding>'
        f"<tt:Resolution><tt:Width>{it.width}</tt:Width><tt:Height>{it.height}</tt:Height></tt:Resolution>"
        f'<tt:RateControl ConstantBitRate="true"><tt:FrameRateLimit>{it.fps}</tt:FrameRateLimit>'
        "<tt:BitrateLimit>2048</tt:BitrateLimit></tt:RateControl></tr2:VideoEncoder></tr2:Configurations></tr2:Profiles>"
    )


@pytest.fixture
def onvif_device() -> Iterator[Callable[..., OnvifDevice]]:
    """Start a device: `onvif_device(profiles=(Profile(...),), user="viewer", password="...", login="token")`."""
    started: list[OnvifDevice] = []

    def start(**options: object) -> OnvifDevice:
        device = OnvifDevice(**options)  # type: ignore[arg-type]  # fields of the dataclass
        started.append(device)
        return device

    yield start
    for device in started:
        device.close()
