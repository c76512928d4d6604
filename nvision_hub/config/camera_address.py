"""Where a camera's pictures come from: the schemes that a camera may have, and no other. Opens nothing."""

from __future__ import annotations

import os.path
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar, Final, Literal

from nvision_hub.config.suggestion import did_you_mean, either
from nvision_hub.config.url import Url, check_characters, known_scheme, parse
from nvision_hub.config.written import Written

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.secret import Secret

DEMO_SCENES: Final = ("street", "crossing", "parking")

CameraKind = Literal["rtsp", "mjpeg", "snapshot", "usb", "file", "demo"]


@dataclass(frozen=True, slots=True, repr=False)
class CameraAddress(Written):
    """Where one camera's pictures come from.

    `url` is there for the kinds on the network. `place` is a device number or path for `usb`, an absolute path for
    `file` (relative until `beside` was applied), the scene's name for `demo`.
    """

    scheme: str
    url: Url | None = None
    place: str = ""

    example: ClassVar = "rtsp://10.0.0.5/stream1"
    pattern: ClassVar = r"^(rtsps?|(snapshot\+)?https?)://|^(usb|file|demo):"
    schemes: ClassVar[dict[str, CameraKind]] = {
        "rtsp": "rtsp",
        "rtsps": "rtsp",
        "http": "mjpeg",
        "https": "mjpeg",
        "snapshot+http": "snapshot",
        "snapshot+https": "snapshot",
        "usb": "usb",
        "file": "file",
        "demo": "demo",
    }
    ports: ClassVar[dict[str, int]] = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}

    @property
    def kind(self) -> CameraKind:
        """How it is read."""
        return self.schemes[self.scheme]

    @property
    def host(self) -> str | None:
        """Name or number, without brackets; None where the camera is not on the network."""
        return None if self.url is None else self.url.host

    @property
    def port(self) -> int | None:
        """None where the address names none."""
        return None if self.url is None else self.url.port

    @property
    def dialled_port(self) -> int | None:
        """That of the scheme where the address names none; None where the camera is not on the network."""
        return self.port or self.ports.get(self.scheme.removeprefix("snapshot+"))

    @property
    def path(self) -> str:
        """Path and query as written; for usb, file and demo the device, the file and the scene."""
        return self.place if self.url is None else self.url.path

    @property
    def username(self) -> str | None:
        """None where none is given."""
        return None if self.url is None else self.url.username

    @property
    def password(self) -> Secret | None:
        """None where none is given."""
        return None if self.url is None else self.url.password

    @property
    def shown(self) -> str:
        """For people: no user name, no password, no query."""
        if self.url is not None:
            return self.url._replace(scheme=self.scheme).shown
        return f"{self.scheme}:{'//' if self.kind == 'demo' else ''}{self.place}"

    def dial(self) -> str:
        """For FFmpeg and HTTP clients: the full URL, credentials escaped; for usb, file and demo the bare `path`."""
        return self.place if self.url is None else self.url.dial()

    def with_credentials(self, username: str | None, password: Secret | None) -> CameraAddress:
        """The same camera with what its URL does not say itself; as it is where the camera is not on the network."""
        if self.url is None:
            return self
        user = username if self.url.username is None else self.url.username
        word = self.url.password or password
        return replace(self, url=self.url._replace(username="" if word and user is None else user, password=word))

    def beside(self, directory: Path) -> CameraAddress:
        """The same camera with a file's path made absolute.

        Raises `ValueError` for one outside of `directory`: whoever may add a camera must not thereby read any file.
        Links are not followed, so who owns the directory may link a file into it.
        """
        if self.kind != "file":
            return self
        place = os.path.normpath(directory / self.place)
        if os.path.commonpath([place, directory]) != str(directory):
            raise ValueError("lies outside the folder of cameras.yaml; move the file there, or link it in")
        return replace(self, place=place)

    @classmethod
    def parse(cls, text: str) -> CameraAddress:
        """From what stands after `url:`."""
        scheme = known_scheme(text, cls.schemes)
        if cls.schemes[scheme] in ("usb", "file", "demo"):
            return cls(scheme=scheme, place=_place(scheme, text[len(scheme) + 1 :]))
        return cls(scheme=scheme, url=parse(text.strip().partition("+")[2] if "+" in scheme else text.strip()))


def _place(scheme: str, rest: str) -> str:
    # What follows the colon of usb:, file: and demo:, with or without two slashes.
    place = rest.strip().removeprefix("//")
    check_characters(place)
    if scheme == "usb" and (".." in place or not re.fullmatch(r"[0-9]{1,3}|/dev/[\w/.:-]+", place)):
        raise ValueError("must name a device, such as usb:0 or usb:/dev/video0")
    if scheme == "demo" and place not in DEMO_SCENES:
        written = either([f"demo://{scene}" for scene in DEMO_SCENES])
        raise ValueError(f"must be {written}{did_you_mean(place, DEMO_SCENES)}")
    if scheme == "file" and not place:
        raise ValueError("must name a file, such as file:clip.mp4")
    return place
