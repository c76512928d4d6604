"""Addresses of the form `scheme://user:password@host:port/path`: parsing, escaping for clients, and redacted display.

This module opens no connection and resolves no host name.

Users often paste passwords without escapes, so any character may appear between `://` and the host. Each `@` before a
plausible host gives one possible reading of the address. If the host is an IP address in exactly one reading, the
parser returns that reading, because an IP address hardly ever follows an `@` in a password. Otherwise, the parser
rejects an address with several readings. A wrong guess could send part of a password to a name server.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Final, Self
from urllib.parse import quote, unquote

from nvision_hub.config.value_types import ConfigString, Secret
from nvision_hub.control_characters import without_control_characters
from nvision_hub.errors import InvalidValueError, either, nearest
from nvision_hub.redaction import HIDDEN

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

MAX_URL_CHARACTERS: Final = 4096
MAX_PORT: Final = 65535
PORTS: Final = range(1, MAX_PORT + 1)

_HOST: Final = re.compile(
    r"(?:\[(?P<bracketed>[^\]@/?#\s]+)\]|(?P<host>[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?))"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>[/?#].*)?",
    re.DOTALL,
)
_VALUE_IN_PATH: Final = re.compile(r"=[^&/;,]+")
# Characters that need no escape in a path or query. They include the percent sign, which may begin an escape.
PATH_SAFE: Final = "%/?#[]@!$&'()*+,;=:~"


@dataclass(frozen=True, slots=True, repr=False)
class Address(ConfigString):
    """An address with any scheme. Subclasses limit the schemes."""

    scheme: str
    username: str | None = None
    password: Secret | None = None
    host: str = ""  # without brackets; empty if the address names no host
    port: int | None = None
    path: str = ""  # everything after the port: path, query and fragment, as written

    # Allowed schemes with their default ports; if empty, any scheme is allowed.
    schemes: ClassVar[Mapping[str, int]] = {}
    word: ClassVar[str | None] = None  # word that users may write in place of an address; also used as the scheme

    @property
    def dialed_port(self) -> int:
        """The port to connect to, by default the port of the scheme; 0 if the address contains no host."""
        return self.port or self.schemes.get(self.scheme, 0)

    @property
    def shown(self) -> str:
        """The address for output, without the user name, password, query, and values in the path."""
        if self.scheme == self.word:
            return self.scheme
        credentials = f"{HIDDEN}@" if self.username is not None else ""
        return f"{self.scheme}://{credentials}{self._authority()}{self._shown_path()}"

    def dial(self) -> str:
        """Return the complete address for a client, with special characters in the credentials escaped.

        Raises `ValueError` if the address is `word`, because a service that the hub itself starts has no fixed port.
        """
        if self.scheme == self.word:
            raise ValueError(f"the address of the {self.word} service is not in the configuration")
        credentials = ""
        if self.username is not None:
            pair = (self.username, self.password.reveal() if self.password else "")
            # Keep the colon even without a password: FFmpeg (httpauth.c) answers a challenge only if the colon is
            # present.
            credentials = ":".join(quote(part, safe="", errors="surrogateescape") for part in pair) + "@"
        return f"{self.scheme}://{credentials}{self._authority()}{quote(self.path, safe=PATH_SAFE)}"

    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"

    def _shown_path(self) -> str:
        path, mark, _ = self.path.partition("?")
        return _VALUE_IN_PATH.sub(f"={HIDDEN}", path.partition("#")[0]) + (mark and f"?{HIDDEN}")

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse an address. Raises `InvalidValueError`."""
        check_characters(text)
        text = text.strip()
        if text == cls.word:
            return cls(text)
        if cls.schemes:
            cls.known_scheme(text)
        scheme, slashes, rest = text.partition("://")
        if not slashes or (cls.schemes and scheme.lower() not in cls.schemes):  # for example `http:x://`
            raise InvalidValueError("is not an address", "write `://` and a host after the scheme")
        readings = list(cls._readings(scheme.lower(), rest))
        if len(readings) > 1:
            readings = [reading for reading in readings if is_ip(reading.host)] or readings
        if not readings and any(found and int(found["port"] or 1) not in PORTS for found in cls._hosts(rest)):
            # The message omits the number, which may be part of a password with a slash.
            raise InvalidValueError("has a port that is out of range", f"use a port from 1 to {MAX_PORT}")
        if not readings:
            raise InvalidValueError("has no readable host", "use the form scheme://user:password@host:port/path")
        if len(readings) > 1:
            raise InvalidValueError(
                "is ambiguous, because an @ follows a /, ? or #",
                "write %40 for each @ except the one before the host, and %2F, %3F and %23 for /, ? and # in the "
                "password; or, for a camera, set `username:` and `password:`",
            )
        return readings[0].checked()

    def checked(self) -> Self:
        """Return the address. If an escape in its credentials hides a control character, raises `InvalidValueError`."""
        for text in (self.username, self.password and self.password.reveal()):
            without_control_characters(text or "")
        return self

    @staticmethod
    def _hosts(rest: str) -> list[re.Match[str] | None]:
        """Match a host, a port and a path at the start of `rest` and after each @.

        The result of a failed match is None.
        """
        return [_HOST.fullmatch(rest, start) for start in (0, *(found.end() for found in re.finditer("@", rest)))]

    @classmethod
    def _readings(cls, scheme: str, rest: str) -> Iterator[Self]:
        for match in cls._hosts(rest):
            if match is None:
                continue
            start = match.start()
            host = match["bracketed"] or match["host"]
            port = int(match["port"]) if match["port"] else None
            if not _is_host(host, bracketed=bool(match["bracketed"])) or not (port is None or port in PORTS):
                continue
            username, colon, password = rest[: max(start - 1, 0)].partition(":")
            if re.search("[/?#]", username):
                continue  # no user name contains /, ? or #, so this @ is part of the path
            yield cls(
                scheme=scheme,
                username=unescape(username) if start else None,
                password=Secret(unescape(password)) if colon and password else None,
                host=host,
                port=port,
                path=match["path"] or "",
            )

    @classmethod
    def known_scheme(cls, text: str) -> str:
        """Return the scheme of `text`.

        For an unknown scheme, raises an `InvalidValueError` that lists all known schemes.
        """
        before, colon, _ = text.strip().partition(":")
        scheme = before.lower() if colon else ""
        if scheme in cls.schemes:
            return scheme
        written = {name: f"{name}:" if name in ("usb", "file") else f"{name}://" for name in cls.schemes}
        near = written.get({"http": "ws", "https": "wss"}.get(scheme, "")) or nearest(
            scheme or text.strip(), [*written, cls.word or ""]
        )
        hint = f"did you mean `{written.get(near, near)}`?" if near else None
        alone = f"be `{cls.word}` or " if cls.word else ""
        raise InvalidValueError(f"must {alone}begin with {either(list(written.values()))}", hint)


def check_characters(text: str) -> None:
    """Raise `InvalidValueError` if `text` is too long or contains a control character."""
    if len(text) > MAX_URL_CHARACTERS:
        raise InvalidValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    without_control_characters(text)


def _is_host(host: str, *, bracketed: bool) -> bool:
    if bracketed or re.fullmatch(r"[0-9.]+", host):
        return is_ip(host) and bracketed == (":" in host)
    return ".." not in host


def is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def unescape(text: str) -> str:
    """Decode the escapes of a user name or password. An invalid escape, as in `100%`, stays unchanged.

    Bytes that are not UTF-8, such as %E9 in a Latin-1 password, become lone surrogates. `dial` restores these bytes.
    """
    return unquote(text, errors="surrogateescape")
