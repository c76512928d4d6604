"""Limit on cameras that connect at once, with a supervisor's real workers and a worker killed while it connects."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.runtime.messages import ReleaseConnectSlot, RequestConnectSlot
from nvision_hub.supervisor.connection_turns import MAX_HELD_S, MAX_SLOTS, MAX_WAIT_S
from tests.support import clips
from tests.support.patience import PATIENCE_S, is_on_time
from workers.camera.connection_turns import ConnectSlot

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.fleet import Fleet
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera
    from tests.support.watching import Watching

pytestmark = pytest.mark.fault


class Spans:
    """Times at which workers were connecting."""

    def __init__(self, file: Path) -> None:
        self.file = file

    def child(self, *, times: int, connected_s: float) -> tuple[str, dict[str, Any]]:
        return "connects", {"spans": str(self.file), "times": times, "connected_s": connected_s}

    def began(self) -> int:
        return self._lines("began")

    def _lines(self, word: str) -> int:
        return sum(line.startswith(word) for line in self.lines())

    def lines(self) -> list[str]:
        return self.file.read_text(encoding="ascii").splitlines() if self.file.exists() else []

    def complete(self) -> list[tuple[float, float]]:
        words = [line.split() for line in self.lines()]
        return [(float(each[1]), float(each[2])) for each in words if each[0] == "ended" and len(each) == 3]


@pytest.fixture
def spans(tmp_path: Path) -> Spans:
    return Spans(tmp_path / "spans")


@pytest.mark.slow
def test_only_a_few_cameras_connect_at_once(start_fleet: Callable[..., Fleet], spans: Spans) -> None:
    count = 2 * MAX_SLOTS
    fleet = start_fleet({f"c{number}": spans.child(times=5, connected_s=0.1) for number in range(count)})
    fleet.wait_until(lambda: len(spans.complete()) == 5 * count)
    found = spans.complete()
    most = max(sum(began <= moment < ended for began, ended in found) for moment, _ in found)
    assert 1 < most <= MAX_SLOTS


class MuteServer:
    """RTSP server that accepts connections and never replies. The path of a request names the camera."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0), backlog=64)
        self._changed = threading.Condition()
        self._connections: list[socket.socket] = []
        self.waiting: list[str] = []  # connected cameras that wait for a reply, in the order of their requests
        threading.Thread(target=self._accept, daemon=True).start()

    def url(self, camera: str) -> str:
        return f"rtsp://127.0.0.1:{self._socket.getsockname()[1]}/{camera}"

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self._connections.append(connection)
                threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        camera = connection.recv(65536).partition(b" RTSP/")[0].rpartition(b"/")[2].decode()
        with self._changed:
            self.waiting.append(camera)
            self._changed.notify_all()
        with contextlib.suppress(OSError):
            while connection.recv(65536):
                pass
        with self._changed:
            self.waiting.remove(camera)
            self._changed.notify_all()

    def wait_until(self, condition: Callable[[], bool], timeout_s: float = PATIENCE_S) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout_s), self.waiting

    def close(self) -> None:
        for each in (self._socket, *self._connections):
            each.close()


@pytest.fixture
def mute_server() -> Iterator[MuteServer]:
    with contextlib.closing(MuteServer()) as server:
        yield server


@pytest.mark.slow
def test_the_slot_of_a_killed_worker_is_free_immediately(
    mute_server: MuteServer, recorder: Callable[..., Recorder], start_hub: Callable[..., Hub]
) -> None:
    names = {f"c{number}" for number in range(MAX_SLOTS + 1)}
    cameras = [{"id": name, "url": mute_server.url(name), "stall_timeout": 60} for name in sorted(names)]
    # No slot expires and no worker restarts, so only two events free a slot: an exit, or a release after a disconnect.
    hub = start_hub(cameras, recorder(), env={"SLOT_TIMEOUT_S": "300"})
    mute_server.wait_until(lambda: len(mute_server.waiting) == MAX_SLOTS)
    holders = list(mute_server.waiting)
    (last,) = names - set(holders)
    hub.wait_until(lambda: hub.camera(last).state == "connecting")
    assert mute_server.waiting == holders, "all slots are held, so the last camera waits"
    os.kill(hub.member_pid(f"camera:{holders[0]}"), signal.SIGKILL)
    # The other holders still hold their slots.
    mute_server.wait_until(lambda: mute_server.waiting == [*holders[1:], last])


@pytest.mark.slow
def test_a_dead_camera_loses_its_slot_at_the_time_limit(start_fleet: Callable[..., Fleet], spans: Spans) -> None:
    fleet = start_fleet({f"c{number}": spans.child(times=1, connected_s=60) for number in range(MAX_SLOTS + 2)})
    fleet.wait_until(lambda: spans.began() == MAX_SLOTS + 2)
    moments = sorted(float(line.split()[1]) for line in spans.lines() if line.startswith("began"))
    # On a busy machine, a worker begins later than the supervisor grants its slot.
    assert MAX_HELD_S / 2 < moments[MAX_SLOTS] - moments[0] < MAX_WAIT_S


def test_a_stop_ends_the_wait() -> None:
    slot, interrupted = ConnectSlot(lambda _request: True), threading.Event()

    def stop() -> None:
        interrupted.set()
        slot.wake()

    threading.Timer(0.2, stop).start()
    began = time.monotonic()
    with slot.held(interrupted):
        assert is_on_time(time.monotonic() - began, 5)
    assert interrupted.is_set()


def test_a_worker_that_is_already_stopped_does_not_wait() -> None:
    slot, interrupted = ConnectSlot(lambda _request: True), threading.Event()
    interrupted.set()
    began = time.monotonic()
    with slot.held(interrupted):
        assert is_on_time(time.monotonic() - began, 5)


def test_a_worker_without_a_supervisor_connects_immediately() -> None:
    began = time.monotonic()
    with ConnectSlot(lambda _request: False).held(threading.Event()):
        assert is_on_time(time.monotonic() - began, 5)


def test_a_camera_connects_with_a_slot_and_gives_it_back(
    gst_camera: Callable[..., GstCamera], watch: Callable[..., Watching]
) -> None:
    requests: list[object] = []

    def send(request: object) -> bool:
        requests.append(request)
        slot.wake()
        return True

    slot = ConnectSlot(send)
    spec = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
    watching = watch(gst_camera(spec).url(), connect_slot=slot)
    watching.wait_for(1)
    assert requests == [RequestConnectSlot(), ReleaseConnectSlot()]
