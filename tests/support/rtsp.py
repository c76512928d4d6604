"""RTSP cameras for tests: GStreamer's server with clips, and the demo server. Each is a real process."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import pytest

from nvision_hub.runtime.messages import MAX_RECORD_BYTES, decode
from nvision_hub.runtime.status import DemoInfo, Status
from tests.support import clips, counter, encodings, needs
from tests.support.patience import PATIENCE_S
from tests.support.statuses import info_as
from workers.demo import worker as demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

_SYSTEM_PYTHON: Final = Path("/usr/bin/python3")  # Debian's Python has the GStreamer bindings
_SERVER: Final = Path(__file__).with_name("gst_server.py")
_EXIT_UNAVAILABLE: Final = 69


class Server:
    """A server in a separate process. A second call of a method that ends the process has no effect."""

    process: subprocess.Popen[str]

    def suspend(self) -> None:
        """Freeze the process. Its connections stay open without data."""
        self.process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self.process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """Kill the process without closing its connections, like a power failure."""
        self.process.kill()
        self.process.wait(PATIENCE_S)
        for pipe in (self.process.stdin, self.process.stdout, self.process.stderr):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()

    def stop(self) -> int:
        """Send SIGTERM. Return the exit code."""
        self.process.terminate()
        self.process.send_signal(signal.SIGCONT)
        code = self.process.wait(PATIENCE_S)
        self.kill()
        return code


def _index(video: clips.ClipSpec | encodings.Encoding) -> Path:
    return clips.make(video) if isinstance(video, clips.ClipSpec) else encodings.index(video)


@dataclass(kw_only=True)
class GstCamera(Server):
    """One process of GStreamer's RTSP server, with one camera per mount."""

    folder: Path
    mounts: Mapping[str, clips.ClipSpec | encodings.Encoding]
    user: str | None = None
    password: str | None = None
    auth: str = "digest"
    accepts: str | None = None  # the only accepted transports (see gst_server.py)
    second_track: str | None = None  # track in addition to the video (see gst_server.py)
    port: int = 0
    address: str = "127.0.0.1"
    namespace: str | None = None  # name of the network namespace; None for the namespace of this process
    process: subprocess.Popen[str] = field(init=False)

    def start(self) -> None:
        """Start the server. A restart uses the same port."""
        config = self.folder / "gst_server.json"
        content = {
            "port": self.port,
            "address": self.address,
            "mounts": {mount: str(_index(spec)) for mount, spec in self.mounts.items()},
            "push_log": str(self.push_log),
            "user": self.user,
            "password": self.password,
            "auth": self.auth,
            "accepts": self.accepts,
            "second_track": self.second_track,
        }
        config.write_text(json.dumps(content))
        inside = [] if self.namespace is None else ["ip", "netns", "exec", self.namespace]
        self.process = subprocess.Popen(
            [*inside, _SYSTEM_PYTHON, _SERVER, config],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        assert self.process.stderr is not None
        readable, _, _ = select.select([self.process.stdout], [], [], PATIENCE_S)
        line = self.process.stdout.readline() if readable else ""
        if not line:
            self.process.kill()
            output = self.process.stderr.read().strip()
            code = self.process.wait(PATIENCE_S)
            self.kill()
            if code == _EXIT_UNAVAILABLE:
                needs.missing(output)
            raise AssertionError(f"the RTSP server did not start: {output}")
        self.port = json.loads(line)["port"]

    def url(self, mount: str = "/cam", *, user: str | None = None, password: str | None = None) -> str:
        """Return the camera's URL, with the given credentials or else the camera's own."""
        user, password = (self.user, self.password) if user is None else (user, password)
        who = "" if user is None else f"{quote(user, safe='')}:{quote(password or '', safe='')}@"
        return f"rtsp://{who}{self.address}:{self.port}{mount}"

    def push_times(self, mount: str = "/cam") -> list[counter.Push]:
        """Return the frames that the camera has sent since it started."""
        return counter.pushes(self.push_log, mount)

    def switch_clip(self, spec: clips.ClipSpec, mount: str = "/cam") -> None:
        """Switch to another clip of the same codec and rate within the session."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps({"mount": mount, "clip": str(clips.make(spec))}) + "\n")
        self.process.stdin.flush()

    @property
    def push_log(self) -> Path:
        """The file to which the server logs its sent frames."""
        return self.folder / "pushes.jsonl"


@pytest.fixture
def gst_camera(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., GstCamera]]:
    """Start a GStreamer camera: `gst_camera(clips.H264_1080P)`, or `gst_camera({"/a": ..., "/b": ...}, user=...)`."""
    if not _SYSTEM_PYTHON.exists():
        needs.missing(f"{_SYSTEM_PYTHON} is not installed; `apt-get install python3 python3-gi` brings it")
    started: list[GstCamera] = []

    def start(what: clips.ClipSpec | Mapping[str, clips.ClipSpec | encodings.Encoding], **options: Any) -> GstCamera:
        mounts = {"/cam": what} if isinstance(what, clips.ClipSpec) else what
        camera = GstCamera(folder=tmp_path_factory.mktemp("gst"), mounts=mounts, **options)
        camera.start()
        started.append(camera)
        return camera

    yield start
    for camera in started:
        camera.kill()


@dataclass(kw_only=True)
class DemoServer(Server):
    """Process of the demo cameras, and the supervisor's end of its pipe."""

    process: subprocess.Popen[str]
    pipe: socket.socket
    status: Status | None = None

    def wait_until(self, condition: Callable[[Status], bool], deadline_s: float = PATIENCE_S) -> Status:
        """Return the first new status that meets the condition."""
        end = time.monotonic() + deadline_s
        while True:
            self.pipe.settimeout(max(0.01, end - time.monotonic()))
            record = self.pipe.recv(MAX_RECORD_BYTES)
            if not record:
                assert self.process.stderr is not None
                raise AssertionError(f"the demo server has ended: {self.process.stderr.read()}")
            status = decode(record)
            assert isinstance(status, Status)
            self.status = status
            if condition(status):
                return status

    def url(self, scene: str) -> str:
        """Return a demo camera's URL."""
        assert self.status is not None
        return demo.url(info_as(self.status, DemoInfo).port, scene)

    def kill(self) -> None:
        super().kill()
        self.pipe.close()


_DEMO_PROGRAM: Final = """
import json, socket, sys
from pathlib import Path
from nvision_hub.errors import HubError
from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
from workers.demo.worker import DemoSettings, run
settings = json.loads(sys.argv[2])
try:
    run(
        DemoSettings(port=settings["port"], scenes=tuple(settings["scenes"]), cache_dir=Path(settings["cache_dir"])),
        SupervisorPipe(socket.socket(fileno=int(sys.argv[1]))),
    )
except HubError as error:
    sys.exit(f"{error.exit_code} {error}")
"""


def demo_cache() -> Path:
    """Return the cache folder that this user's hubs share, so that each clip is rendered once per machine."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nvision-hub"


@pytest.fixture
def demo_server() -> Iterator[Callable[..., DemoServer]]:
    """Start a demo server: `demo_server()`. Without `cache_dir`, clips are rendered once per machine."""
    started: list[DemoServer] = []

    def start(
        *, scenes: tuple[str, ...] = demo.SCENES, cache_dir: Path | None = None, port: int = 0, wait: bool = True
    ) -> DemoServer:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        settings = {"port": port, "scenes": scenes, "cache_dir": str(cache_dir or demo_cache())}
        process = subprocess.Popen(
            [sys.executable, "-c", _DEMO_PROGRAM, str(theirs.fileno()), json.dumps(settings)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=[theirs.fileno()],
        )
        theirs.close()
        server = DemoServer(process=process, pipe=ours)
        started.append(server)
        if wait:
            server.wait_until(lambda status: status.ready)
        return server

    yield start
    for server in started:
        server.kill()
