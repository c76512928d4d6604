"""Addresses of cameras: the parser and the allowed schemes. This module opens no connection."""

from __future__ import annotations

import os.path
import re
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal, cast

from nvision_hub.config.url import Address, check_characters
from nvision_hub.errors import InvalidValueError, did_you_mean, either

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.value_types import Secret

_ENCRYPTED: Final = frozenset({"rtsps", "https", "snapshot+https", "onvifs"})
DEMO_SCENES: Final = ("street", "crossing", "parking")

# Video schemes that the hub cannot read, each with its usual name.
_UNSUPPORTED: Final = {
    **dict.fromkeys(("rtmp", "rtmps", "rtmpt", "rtmpe"), "RTMP"),
    **dict.fromkeys(("hls", "dash"), "HLS and DASH"),
    **dict.fromkeys(("webrtc", "whep", "ws", "wss"), "WebRTC and video over WebSocket"),
    **dict.fromkeys(("srt", "udp", "rtp", "mms", "mmsh", "ndi"), "this protocol"),
}

CameraKind = Literal["rtsp", "mjpeg", "snapshot", "onvif", "usb", "file", "demo"]


class CameraAddress(Address):
    """Address of one camera's video source.

    Only the address of a network camera has a host. For other cameras, `path` is the device number or device path
    (`usb`), the path of the file (`file`; `beside` makes the path absolute), or the name of the scene (`demo`).
    """

    __slots__ = ()

    example: ClassVar = "rtsp://10.0.0.5/stream1"
    pattern: ClassVar = r"^(rtsps?|(snapshot\+)?https?|onvifs?)://|^(usb|file|demo):"
    schemes: ClassVar = {
        "rtsp": 554,
        "rtsps": 322,
        "http": 80,
        "https": 443,
        "snapshot+http": 80,
        "snapshot+https": 443,
        "onvif": 80,
        "onvifs": 443,
        "usb": 0,
        "file": 0,
        "demo": 0,
    }

    @property
    def kind(self) -> CameraKind:
        kinds = {"rtsps": "rtsp", "http": "mjpeg", "https": "mjpeg", "onvifs": "onvif"}
        return cast("CameraKind", kinds.get(self.scheme, self.scheme.partition("+")[0]))

    @property
    def is_encrypted(self) -> bool:
        """Whether the connection to the camera uses TLS.

        An ONVIF camera's stream has its own address, which may differ.
        """
        return self.scheme in _ENCRYPTED

    @property
    def shown(self) -> str:
        return super().shown if self.host else f"{self.scheme}:{'//' if self.kind == 'demo' else ''}{self.path}"

    def dial(self) -> str:
        """Return the URL for FFmpeg and HTTP clients, with escaped credentials; only `path` for usb, file and demo."""
        if not self.host:
            return self.path
        scheme, rest = self.scheme, super().dial().removeprefix(self.scheme)
        return scheme.removeprefix("snapshot+").replace("onvif", "http") + rest

    def with_credentials(self, username: str | None, password: Secret | None) -> CameraAddress:
        """Return the address. If a network camera's URL lacks a user name or password, add it."""
        if not self.host:
            return self
        user = username if self.username is None else self.username
        word = self.password or password
        return replace(self, username="" if word and user is None else user, password=word)

    def beside(self, directory: Path) -> CameraAddress:
        """Return the address with a file's path made absolute.

        Raises `InvalidValueError` for a path outside `directory`. Otherwise, a user who adds a camera could read
        arbitrary files. The check does not follow links, so the directory's owner can link to other files.
        """
        if self.kind != "file":
            return self
        path = os.path.normpath(directory / self.path)
        if os.path.commonpath([path, directory]) != str(directory):
            raise InvalidValueError("is outside the folder of cameras.yaml", "move or link the file into that folder")
        return replace(self, path=path)

    @classmethod
    def parse(cls, text: str) -> CameraAddress:
        check_characters(text)
        if kind := _UNSUPPORTED.get(text.strip().partition(":")[0].lower()):
            raise InvalidValueError(
                f"has an unsupported scheme; the hub cannot read {kind}",
                "use the camera's RTSP address, or its address for MJPEG (http://) or single JPEGs (snapshot+http://)",
            )
        scheme, rest = cls.known_scheme(text), text.strip().partition(":")[2]
        return super().parse(text) if cls.schemes[scheme] else cls(scheme, path=_local_path(scheme, rest))


def _local_path(scheme: str, rest: str) -> str:
    # `rest` is the text after the colon of usb:, file: or demo:, with or without two slashes.
    path = rest.strip().removeprefix("//")
    if scheme == "usb" and (".." in path or not re.fullmatch(r"[0-9]{1,3}|/dev/[\w/.:-]+", path)):
        raise InvalidValueError("must name a device, such as usb:0 or usb:/dev/video0")
    if scheme == "demo" and path not in DEMO_SCENES:
        written = either([f"demo://{scene}" for scene in DEMO_SCENES])
        raise InvalidValueError(f"must be {written}{did_you_mean(path, DEMO_SCENES)}")
    if scheme == "file" and not path:
        raise InvalidValueError("must name a file, such as file:clip.mp4")
    return path
