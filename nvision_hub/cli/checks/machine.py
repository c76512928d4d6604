"""Checks of this machine: libraries, the limit of open files, the state directory, and the ports."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
import resource
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.filesize import decimal

from nvision_hub.broker import embedded_config
from nvision_hub.cli.checks import CheckResult, failed, passed, run_check, warning
from nvision_hub.cluster.fleet_key import missing_fleet_key, read_fleet_key
from nvision_hub.config.server_addresses import ListenAddress
from nvision_hub.control_characters import printable
from nvision_hub.errors import UnavailableError
from nvision_hub.hub.preflight import check_semaphores
from nvision_hub.hub.state_dir import is_private, unwritable
from nvision_hub.media import cv2_loader
from nvision_hub.runtime import landlock, sandbox
from nvision_hub.runtime.http_server import listener

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.models import Config
    from nvision_hub.hub.composition import HubPlan
    from nvision_hub.hub.state_dir import Endpoints

HUB_OPEN_FILES: Final = 40  # open files of the supervisor, with a margin
# Per child process: its pipe, log, sentinel and settings (measured: 5), and its new settings during a reload (1).
CHILD_OPEN_FILES: Final = 6
TEST_FILE_BYTES: Final = 2**20
# Space for 100,000 results in the embedded broker, a rewrite of its log, and a spool.
MIN_FREE_BYTES: Final = 256 * 2**20
_TCP_LISTEN: Final = "0A"  # the LISTEN state in /proc/net/tcp
_LOOPBACK: Final = "127.0.0.1"


def check_libraries(plan: HubPlan) -> Iterator[CheckResult]:
    """Check OpenCV and, if the plan needs them, the demo cameras' RTSP server and the embedded broker's program."""
    names = {child.name for child in plan.children}
    yield run_check("OpenCV", opencv_version, required=bool(names & {"service", "demo"}) or plan.has_usb)
    if "demo" in names:
        try:
            importlib.import_module("aio_rtsp_toolkit.server")
        except ImportError:
            yield failed("demo cameras", "aio-rtsp-toolkit is missing; install it: pip install 'nvision-hub[demo]'")
        else:
            yield passed("demo cameras", "aio-rtsp-toolkit is installed")
    if "broker" in names:
        yield run_check("embedded broker", lambda: f"{embedded_config.program().name} is installed")


def opencv_version() -> str:
    """Import OpenCV and return a message with its version. Raises `UnavailableError`."""
    return f"version {cv2_loader.load().__version__} is installed"


def sandbox_status() -> str:
    """Load the library of the system call filter and return a message. Raises `UnavailableError`."""
    sandbox.prepare()
    message = "camera workers run with a system call filter"
    return f"{message} and Landlock" if landlock.version() else f"{message}; this kernel does not use Landlock"


def semaphore_status() -> str:
    """Create a semaphore and return a message. Raises `UnavailableError`."""
    check_semaphores()
    return "can be created in /dev/shm"


def check_open_files(children: int, limit: int | None = None) -> CheckResult:
    """Check that `limit` is enough for `children` processes. The default is this process's limit of open files."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    required = HUB_OPEN_FILES + CHILD_OPEN_FILES * children
    if required > limit != resource.RLIM_INFINITY:
        return failed(
            "open files",
            f"{children} processes need {required} open files, but the limit is {limit}; raise the limit "
            f"(`ulimit -n {max(1024, 2 * required)}`, or LimitNOFILE= of the systemd unit)",
        )
    shown = "unlimited" if limit == resource.RLIM_INFINITY else limit
    return passed("open files", f"{children} processes need {required} open files; the limit is {shown}")


def check_state_dir(config: Config) -> Iterator[CheckResult]:
    """Check that the state directory is writable or can be created, that it is private, and that it has free space."""
    path = config.state_dir
    # `Path.exists` raises an error for a path below a directory that this user cannot enter.
    existing = next(each for each in (path, *path.parents) if os.access(each, os.F_OK))
    if existing == path:
        yield _check_writable(path)
    elif existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
        yield passed("state_dir", f"{path} will be created")
    else:
        yield failed("state_dir", f"cannot create {path} because {existing} is not writable; choose another state_dir")
        return
    free = shutil.disk_usage(existing).free
    message = f"{decimal(free)} free at {existing}"
    if free < TEST_FILE_BYTES:
        yield failed("disk", f"{message}; free some space or choose another state_dir")
    elif free < MIN_FREE_BYTES:
        yield warning("disk", f"{message}; at least {decimal(MIN_FREE_BYTES)} is recommended")
    else:
        yield passed("disk", message)


def _check_writable(path: Path) -> CheckResult:
    try:
        private = is_private(path)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(TEST_FILE_BYTES))
            file.flush()
    except UnavailableError as error:
        return failed("state_dir", str(error))
    except OSError as error:
        return failed("state_dir", str(unwritable(path, error)))
    if not private:
        return warning("state_dir", f"other users of this machine can read {path}; the hub makes it private at startup")
    return passed("state_dir", f"{path} is writable, and other users cannot access it")


def check_gateway_port(config: Config, running: Endpoints | None) -> CheckResult:
    """Check that the gateway can listen on its address.

    `running` holds the endpoints of the hub that uses this state_dir; None if no hub is running.
    """
    listen, name = config.gateway.listen, "gateway"
    if running is not None and running.gateway is not None:
        return passed(name, f"the running hub (pid {running.pid}) listens at {running.gateway}")
    if listen.off:
        return passed(name, "no address: only the control socket, without page, metrics or callback endpoint")
    match _listen_errno(listen):
        case None:
            return passed(name, f"{listen.shown} is free")
        case errno.EADDRINUSE:
            problem = f"{listen.shown} is in use{_holder(listen.port)}"
            if "listen" in config.gateway.model_fields_set:
                return failed(name, f"{problem}; stop the other program, or choose another port with gateway.listen")
            return warning(
                name, f"{problem}; the hub uses the next free port and prints it. Set gateway.listen to choose a port"
            )
        case errno.EACCES:
            return failed(
                name,
                f"this user is not allowed to listen on port {listen.port}; choose a port of 1024 or above with "
                "gateway.listen, or grant CAP_NET_BIND_SERVICE",
            )
        case number:
            cause = "not an address of this machine" if number == errno.EADDRNOTAVAIL else os.strerror(number)
            return failed(name, f"cannot listen on {listen.shown}: {cause}; correct gateway.listen")


def check_broker_port(config: Config, running: Endpoints | None) -> CheckResult:
    """Check that the embedded broker's preferred port is free. Otherwise, the broker uses the next free port."""
    name = "broker's port"
    if running is not None:
        return passed(name, f"the broker of the running hub (pid {running.pid}) is at {running.redis}")
    port = config.redis.embedded_port
    if _listen_errno(ListenAddress(host=_LOOPBACK, port=port)) is None:
        return passed(name, f"{_LOOPBACK}:{port} is free" if port else "the broker uses any free port")
    return warning(
        name,
        f"{_LOOPBACK}:{port} is in use{_holder(port)}; the hub uses the next free port, and consumers must connect to "
        "that port. Set redis.embedded_port to a port that is always free, or redis.url to an existing Redis",
    )


def check_fleet_key(config: Config, *, is_in_fleet: bool) -> CheckResult:
    """Check that hubs on several machines share a key. `is_in_fleet` states whether this hub is one of several hubs."""
    name = "fleet key"
    try:
        sentence = missing_fleet_key(config, is_in_fleet=is_in_fleet)
        has_key = read_fleet_key(config) is not None
    except UnavailableError as error:
        return failed(name, str(error))
    if sentence is not None:
        return warning(name, sentence)
    return passed(name, "commands to other hubs are signed" if has_key else "not needed: one hub runs all cameras")


def _listen_errno(listen: ListenAddress) -> int | None:
    """Return the errno of an attempt to listen as the gateway does; None if the attempt succeeds."""
    try:
        listener(listen.host, listen.port).close()
    except OSError as error:  # the errno is negative if name resolution of the host failed
        return error.errno if error.errno and error.errno > 0 else errno.EADDRNOTAVAIL
    return None


def _holder(port: int) -> str:
    """Return ` by NAME (pid N)` for the process that listens on `port`; empty if /proc does not show the process."""
    inodes = set()
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        with contextlib.suppress(OSError):
            for line in Path(table).read_text(encoding="ascii").splitlines()[1:]:
                local, state, inode = (line.split()[column] for column in (1, 3, 9))
                if state == _TCP_LISTEN and int(local.rpartition(":")[2], 16) == port:
                    inodes.add(f"socket:[{inode}]")
    for process in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # the process belongs to another user or has already ended
            if any(str(entry.readlink()) in inodes for entry in (process / "fd").iterdir()):
                name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip()
                return f" by {printable(name)} (pid {process.name})"
    return ""
