"""Addresses as people write them: taken apart, put together for a machine, and shown without what is secret.

Owns the reading of `scheme://user:password@host:port/path`; knows no scheme's meaning.

Passwords are often pasted in without escapes, so the text between `://` and the host may hold any character. An
address then has one reading for each `@` that is followed by something host-like. Of several readings, the only one
whose host is an IP number is taken: numbers hardly ever follow an @ elsewhere. Where that decides nothing, the
address is refused rather than dialled at a guess: a wrong guess sends half a password to a name server.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING, Final, NamedTuple
from urllib.parse import quote, unquote

from nvision_hub.config.secret import HIDDEN, Secret
from nvision_hub.config.suggestion import either, nearest

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

MAX_URL_CHARACTERS: Final = 4096
MAX_PORT: Final = 65535

_HOST: Final = re.compile(
    r"(?P<host>\[[^\]@/?#\s]+\]|[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?)"
    r"(?::(?P<port>[0-9]{1,5}))?"
    r"(?P<path>[/?#].*)?",
    re.DOTALL,
)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_VALUE_IN_PATH: Final = re.compile(r"=[^&/;,]+")
# What may stand in a path or query as it is; a percent sign is kept, for an escape already made.
_PATH_SAFE: Final = "%/?#[]@!$&'()*+,;=:~"


class Url(NamedTuple):
    """One reading of an address. `path` is everything after the host: path, query and fragment as written."""

    scheme: str
    username: str | None
    password: Secret | None
    host: str  # without brackets
    port: int | None
    path: str

    def dial(self) -> str:
        """The whole address for a machine: user name and password with every special character escaped."""
        return f"{self.scheme}://{self._userinfo()}{self._authority()}{quote(self.path, safe=_PATH_SAFE)}"

    @property
    def shown(self) -> str:
        """The address for people: no user name, no password, no values in path or query."""
        path, mark, _ = self.path.partition("?")
        path = _VALUE_IN_PATH.sub(f"={HIDDEN}", path.partition("#")[0])
        credentials = f"{HIDDEN}@" if self.username is not None else ""
        return f"{self.scheme}://{credentials}{self._authority()}{path}{mark and f'?{HIDDEN}'}"

    def _userinfo(self) -> str:
        if self.username is None:
            return ""
        password = self.password.reveal() if self.password else ""
        # The colon stays without a password too: FFmpeg (httpauth.c) answers no challenge without one.
        return f"{_escape(self.username)}:{_escape(password)}@"

    def _authority(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port is None else f"{host}:{self.port}"


def known_scheme(text: str, schemes: Iterable[str], word: str | None = None) -> str:
    """The scheme of `text`, one of `schemes`; `word` may stand alone in place of an address.

    Raises `ValueError` that names them all and suggests the nearest, and echoes nothing.
    """
    before, colon, _ = text.strip().partition(":")
    scheme = before.lower() if colon else ""
    written = {name: f"{name}:" if name in ("usb", "file") else f"{name}://" for name in schemes}
    if scheme in written:
        return scheme
    near = written.get({"http": "ws", "https": "wss"}.get(scheme, "")) or nearest(
        scheme or text.strip(), [*written, word or ""]
    )
    hint = f"; did you mean `{written.get(near, near)}`?" if near else ""
    alone = f"be `{word}` or " if word else ""
    raise ValueError(f"must {alone}begin with {either(list(written.values()))}{hint}")


def check_characters(text: str) -> None:
    """Raise `ValueError` for what no address may hold: a line break would write a second line into a request or log."""
    if len(text) > MAX_URL_CHARACTERS:
        raise ValueError(f"is longer than {MAX_URL_CHARACTERS} characters")
    if _CONTROL.search(text):
        raise ValueError("holds a line break or another control character; remove it")


def parse(text: str) -> Url:
    """Take `scheme://...` apart. Raises `ValueError` with half a sentence that echoes none of it."""
    check_characters(text)
    scheme, slashes, rest = text.partition("://")
    if not slashes:
        raise ValueError("is no address: after the scheme comes `://` and a host")
    readings = list(_readings(scheme.lower(), rest))
    if len(readings) > 1:
        readings = [reading for reading in readings if _is_ip(reading.host)] or readings
    if not readings:
        raise ValueError("names no host that can be read; it has the form scheme://user:password@host:port/path")
    if len(readings) > 1:
        raise ValueError(
            "can be read in two ways, because there is an @ behind a / ? or #; write %40 for each @ that does not "
            "end the password and %2F %3F %23 for / ? # inside it, or give a camera its `username:` and `password:`"
        )
    return readings[0]


def _readings(scheme: str, rest: str) -> Iterator[Url]:
    starts = [0, *(found.end() for found in re.finditer("@", rest))]
    for start in starts:
        match = _HOST.fullmatch(rest, start)
        if match is None:
            continue
        host = match["host"].removeprefix("[").removesuffix("]")
        port = int(match["port"]) if match["port"] else None
        if not _is_host(host, bracketed=match["host"].startswith("[")) or not (port is None or 0 < port <= MAX_PORT):
            continue
        username, colon, password = rest[: max(start - 1, 0)].partition(":")
        if re.search("[/?#]", username):
            continue  # a path with an @ in it; only passwords are pasted in with such characters
        yield Url(
            scheme=scheme,
            username=_unescape(username) if start else None,
            password=Secret(_unescape(password)) if colon and password else None,
            host=host,
            port=port,
            path=match["path"] or "",
        )


def _is_host(host: str, *, bracketed: bool) -> bool:
    if bracketed or re.fullmatch(r"[0-9.]+", host):
        return _is_ip(host) and bracketed == (":" in host)
    return ".." not in host


def _is_ip(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _escape(text: str) -> str:
    return quote(text, safe="", errors="surrogateescape")


def _unescape(text: str) -> str:
    # An invalid escape (`100%`) stands for itself. Bytes that are no UTF-8 (a Latin-1 password as %E9) are kept as
    # lone surrogates, so that `dial` writes the same bytes again.
    return unquote(text, errors="surrogateescape")
