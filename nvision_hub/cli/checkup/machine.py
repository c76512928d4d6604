"""What the machine gives: libraries, open files, and a place for the hub's data."""

from __future__ import annotations

import importlib
import os
import resource
import tempfile
from typing import TYPE_CHECKING, Final

from nvision_hub import opencv
from nvision_hub.broker import embedded
from nvision_hub.cli.checkup.finding import Finding, attempted, failed, ok, warning
from nvision_hub.cli.terminal import size
from nvision_hub.errors import UnavailableError
from nvision_hub.hub.state_dir import is_private, unwritable

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from nvision_hub.config import Config
    from nvision_hub.hub import Plan

OPEN_FILES: Final = 40  # of the supervisor itself, with some to spare
OPEN_FILES_A_CHILD: Final = 4  # its pipe, its log, its sentinel (measured: 4)
WRITTEN_BYTES: Final = 2**20  # tried; less than this is no room
ROOM_BYTES: Final = 256 * 2**20  # a hundred thousand results in the embedded broker, its rewritten log, a spool


def libraries(plan: Plan) -> Iterator[Finding]:
    """OpenCV, the demo cameras' server and the embedded broker's program, where they are needed."""
    names = {child.name for child in plan.children}
    needed = bool(names & {"service", "demo"}) or plan.has_usb

    yield attempted("OpenCV", opencv_version, needed=needed)
    if "demo" in names:
        yield _demo()
    if "broker" in names:
        yield attempted("embedded broker", lambda: f"{embedded.program().name} is there")


def opencv_version() -> str:
    """That it loads, and which. Raises `UnavailableError`."""
    return f"{opencv.load().__version__} loads"


def _demo() -> Finding:
    try:
        importlib.import_module("aio_rtsp_toolkit.server")
    except ImportError:
        return failed("demo cameras", "need aio-rtsp-toolkit; `pip install 'nvision-hub[demo]'` brings it")
    return ok("demo cameras", "their RTSP server is installed")


def open_files(children: int, limit: int | None = None) -> Finding:
    """Whether the limit of open files is enough for so many processes. `limit` is the process's own where None."""
    if limit is None:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    needed = OPEN_FILES + OPEN_FILES_A_CHILD * children
    if limit != resource.RLIM_INFINITY and needed > limit:
        return failed(
            "open files",
            f"{children} processes need {needed}, and the limit is {limit}; raise it "
            f"(`ulimit -n {max(1024, 2 * needed)}`, or LimitNOFILE= of the service)",
        )
    shown = "none" if limit == resource.RLIM_INFINITY else limit
    return ok("open files", f"{children} processes need {needed}, the limit is {shown}")


def state_dir(config: Config) -> Iterator[Finding]:
    """Whether the hub's folder can be made or written, is its owner's alone, and has room."""
    place = config.state_dir
    existing = next(each for each in (place, *place.parents) if each.exists())
    name = "state_dir"
    if existing != place:
        if existing.is_dir() and os.access(existing, os.W_OK | os.X_OK):
            yield ok(name, f"{place} will be made")
        else:
            yield failed(name, f"{place} cannot be made: {existing} cannot be written; choose another one")
            return
    else:
        yield _writable(place)
    yield _room(existing)


def _writable(place: Path) -> Finding:
    try:
        closed = is_private(place)
        with tempfile.TemporaryFile(dir=place) as file:
            file.write(bytes(WRITTEN_BYTES))
            file.flush()
    except UnavailableError as error:
        return failed("state_dir", str(error))
    except OSError as error:
        return failed("state_dir", str(unwritable(place, error)))
    if not closed:
        return warning("state_dir", f"{place} is open to other users of this machine; the next start closes it")
    return ok("state_dir", f"{place} can be written, by its owner alone")


def _room(place: Path) -> Finding:
    facts = os.statvfs(place)
    free = facts.f_bavail * facts.f_frsize
    if free < WRITTEN_BYTES:
        return failed("disk", f"{size(free)} are free at {place}; make room there, or choose another state_dir")
    if free < ROOM_BYTES:
        return warning("disk", f"{size(free)} are free at {place}; {size(ROOM_BYTES)} and more are on the safe side")
    return ok("disk", f"{size(free)} are free at {place}")
