"""Ports that the hub will listen on: free, or held by whom."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.cli.checkup.finding import Finding, failed, ok, warning
from nvision_hub.cli.terminal import harmless
from nvision_hub.config import Listen

if TYPE_CHECKING:
    from nvision_hub.config import Config
    from nvision_hub.hub import Addresses

_LISTENS: Final = "0A"  # of /proc/net/tcp: TCP_LISTEN
_LOOPBACK: Final = "127.0.0.1"


def gateway(config: Config, running: Addresses | None) -> Finding:
    """Whether the page and the API can be served where cameras.yaml says. `running` is this state_dir's hub."""
    listen = config.gateway.listen
    name = "gateway"
    if running is not None and running.gateway is not None:
        return ok(name, f"the hub that runs (pid {running.pid}) serves it at {running.gateway}")
    if listen.off:
        return ok(name, "switched off: no page, API, metrics or callback endpoint")
    chosen = "listen" in config.gateway.model_fields_set
    match _taken(listen):
        case None:
            return ok(name, f"{listen.shown} is free")
        case errno.EADDRINUSE if not chosen:
            mend = "the hub takes the next free port for its page, and prints it; gateway.listen chooses one"
            return warning(name, f"{listen.shown} is taken{_by(listen.port)}; {mend}")
        case errno.EADDRINUSE:
            mend = "end that program, or choose another port with gateway.listen"
            return failed(name, f"{listen.shown} is taken{_by(listen.port)}; {mend}")
        case errno.EACCES:
            mend = "choose one from 1024 on with gateway.listen, or grant CAP_NET_BIND_SERVICE"
            return failed(name, f"this user may not listen on port {listen.port}; {mend}")
        case number:
            why = "no address of this machine" if number == errno.EADDRNOTAVAIL else os.strerror(number)
            return failed(name, f"{listen.shown} cannot be listened on: {why}; correct gateway.listen")


def broker(config: Config, running: Addresses | None) -> Finding:
    """Whether the embedded broker gets the port that it prefers; it takes the next free one otherwise."""
    name = "broker's port"
    if running is not None:
        return ok(name, f"the hub that runs (pid {running.pid}) has its broker at {running.redis}")
    port = config.redis.embedded_port
    if _taken(Listen(host=_LOOPBACK, port=port)) is None:
        return ok(name, f"{_LOOPBACK}:{port} is free" if port else "any free port of this machine")
    return warning(
        name,
        f"{_LOOPBACK}:{port} is taken{_by(port)}; the hub takes the next free port, which consumers have to be told. "
        "Set redis.embedded_port to one that stays free, or redis.url to the Redis that is there",
    )


def _taken(listen: Listen) -> int | None:
    """Why the address cannot be listened on, as an errno; None where it can."""
    try:
        found = socket.getaddrinfo(listen.host, listen.port, type=socket.SOCK_STREAM)
    except OSError:
        return errno.EADDRNOTAVAIL
    for family, kind, protocol, _, address in found:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(address)
                probe.listen()  # binding alone succeeds beside another socket that has only bound
            except OSError as error:
                return error.errno or errno.EADDRNOTAVAIL
    return None


def _by(port: int) -> str:
    """` by NAME (pid N)` where this user may know who listens there."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                local, state, inode = (line.split()[column] for column in (1, 3, 9))
                if state == _LISTENS and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{inode}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # another user's, or gone
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f" by {harmless(name)} (pid {process.name})"
    return ""
