"""Demo cameras: a real server process, real RTSP, real decoding."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import threading
from itertools import pairwise
from typing import TYPE_CHECKING

import av
import pytest
from av.video.frame import PictureType

from nvision_hub.errors import UnavailableError
from nvision_hub.runtime.status import DemoInfo
from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
from tests.support import counter
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import DemoServer, demo_cache
from tests.support.statuses import info_as
from workers.demo import clip, scene
from workers.demo import worker as demo
from workers.demo.server import ClipServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


OPTIONS = {"rtsp_transport": "tcp"}
GOP = 50


@pytest.fixture(scope="module")
def drawn() -> Path:
    """Return the cache folder of the hubs that this user starts. It contains every clip."""
    cache_dir = demo_cache()
    for name in demo.SCENES:
        clip.render(cache_dir, name)
    return cache_dir


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory, drawn: Path) -> Path:
    """Return a cache folder whose street clip lasts only four seconds, so that tests see the clip loop."""
    cache_dir = tmp_path_factory.mktemp("short")
    target = clip.path(cache_dir, "street")
    target.parent.mkdir(parents=True)
    with av.open(clip.path(drawn, "street")) as full, av.open(target, "w") as part:
        stream = part.add_stream_from_template(full.streams.video[0])
        for number, packet in enumerate(full.demux(video=0)):
            if number == 2 * GOP:
                break
            packet.stream = stream
            part.mux(packet)
    return cache_dir


def packets(url: str, count: int) -> Iterator[av.Packet[av.VideoStream]]:
    with av.open(url, options=OPTIONS, timeout=(PATIENCE_S, PATIENCE_S)) as container:
        for number, packet in enumerate(container.demux(container.streams.video[0])):
            if number == count:
                return
            yield packet


def test_a_cancelled_connection_ends_without_a_traceback(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    async def connect_and_cancel() -> None:
        demo_server = ClipServer(tmp_path, "127.0.0.1", 0, {})
        await demo_server.start()
        reader, writer = await asyncio.open_connection("127.0.0.1", demo_server.bound_port)
        writer.write(b"OPTIONS * RTSP/1.0\r\nCSeq: 1\r\n\r\n")
        assert await reader.readline() == b"RTSP/1.0 200 OK\r\n"
        connections = asyncio.all_tasks() - {asyncio.current_task()}
        for connection in connections:
            connection.cancel()
        await asyncio.gather(*connections, return_exceptions=True)
        writer.close()
        await writer.wait_closed()
        await demo_server.close()

    asyncio.run(connect_and_cancel())
    assert [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING] == []


@pytest.mark.usefixtures("drawn")
@pytest.mark.parametrize("name", demo.SCENES)
def test_each_scene_is_720p_h264_like_a_camera(demo_server: Callable[..., DemoServer], name: str) -> None:
    server = demo_server()
    with av.open(server.url(name), options=OPTIONS, timeout=(PATIENCE_S, PATIENCE_S)) as container:
        stream = container.streams.video[0]
        context = stream.codec_context
        assert (context.name, context.width, context.height, context.pix_fmt) == ("h264", 1280, 720, "yuv420p")
        assert stream.average_rate == scene.FPS
        frame = next(container.decode(stream))
        assert frame.key_frame
        assert counter.of_frame(frame) == 0


@pytest.mark.long
def test_the_counter_the_keyframes_and_the_timestamps_are_continuous_across_the_loop(
    demo_server: Callable[..., DemoServer], short: Path
) -> None:
    server = demo_server(scenes=("street",), cache_dir=short)
    numbers, times, keyframes, kinds = [], [], [], set()
    with av.open(server.url("street"), options=OPTIONS, timeout=(PATIENCE_S, PATIENCE_S)) as container:
        for frame in container.decode(video=0):
            numbers.append(counter.of_frame(frame))
            times.append(frame.pts)
            kinds.add(PictureType(frame.pict_type).name)
            if frame.key_frame:
                keyframes.append(len(numbers) - 1)
            if len(numbers) == 5 * GOP + 5:
                break
    assert numbers == [number % (2 * GOP) for number in range(5 * GOP + 5)]
    assert keyframes == list(range(0, 5 * GOP + 5, GOP))
    assert kinds == {"I", "P"}
    known = [time for time in times if time is not None]
    assert len(known) >= len(times) - 1  # FFmpeg may leave the first frame without a timestamp
    assert {later - earlier for earlier, later in pairwise(known)} == {90000 // scene.FPS}


@pytest.mark.usefixtures("drawn")
def test_sixteen_clients_are_served_at_once(demo_server: Callable[..., DemoServer]) -> None:
    """The clients outnumber the threads of an executor. Each client still receives every frame, in order."""
    server = demo_server()
    together = threading.Barrier(16, timeout=PATIENCE_S)
    steps: list[set[int]] = []

    def watch(name: str) -> None:
        times = []
        for number, packet in enumerate(packets(server.url(name), 60)):
            if number == 10:
                together.wait()
            if packet.pts is not None:
                times.append(packet.pts)
        steps.append({later - earlier for earlier, later in pairwise(times)})

    watchers = [threading.Thread(target=watch, args=(demo.SCENES[i % 3],)) for i in range(16)]
    for watcher in watchers:
        watcher.start()
    for watcher in watchers:
        watcher.join(PATIENCE_S)
    assert steps == [{90000 // scene.FPS}] * 16


@pytest.mark.long
def test_a_client_waits_for_a_clip_that_is_still_being_drawn(
    demo_server: Callable[..., DemoServer], tmp_path: Path
) -> None:
    server = demo_server(scenes=("parking",), cache_dir=tmp_path)
    assert server.status is not None
    assert (server.status.state, server.status.ready) == ("rendering", True)
    with av.open(server.url("parking"), options=OPTIONS, timeout=(30, 10)) as container:
        assert counter.of_frame(next(container.decode(video=0))) == 0
    server.wait_until(lambda status: status.state == "serving" and info_as(status, DemoInfo).clients == 0)
    assert [path.name for path in clip.path(tmp_path, "parking").parent.iterdir()] == ["parking.mp4"]


def test_a_stop_while_drawing_is_immediate_and_leaves_no_incomplete_clip(
    demo_server: Callable[..., DemoServer], tmp_path: Path
) -> None:
    server = demo_server(cache_dir=tmp_path)
    assert server.stop() == 0
    directory = clip.path(tmp_path, "street").parent
    assert not directory.exists() or list(directory.iterdir()) == []


@pytest.mark.long
def test_two_processes_may_draw_the_same_clip_at_once(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from workers.demo import clip; clip.render(Path(sys.argv[1]), 'parking')"
    )
    drawing = [subprocess.Popen([sys.executable, "-c", program, tmp_path]) for _ in range(2)]
    assert [process.wait(PATIENCE_S) for process in drawing] == [0, 0]
    with av.open(clip.path(tmp_path, "parking")) as container:
        assert sum(1 for packet in container.demux(video=0) if packet.size) == scene.FRAMES
    assert len(list(clip.path(tmp_path, "parking").parent.iterdir())) == 1


def test_an_unknown_scene_is_not_found(demo_server: Callable[..., DemoServer], short: Path) -> None:
    server = demo_server(scenes=("street",), cache_dir=short)
    with pytest.raises(av.HTTPNotFoundError):
        av.open(server.url("beach"), options=OPTIONS, timeout=(PATIENCE_S, PATIENCE_S))


def test_a_port_in_use_is_reported(demo_server: Callable[..., DemoServer], short: Path) -> None:
    taken = demo_server(scenes=("street",), cache_dir=short)
    assert taken.status is not None
    port = info_as(taken.status, DemoInfo).port
    second = demo_server(scenes=("street",), cache_dir=short, port=port, wait=False)
    _, stderr = second.process.communicate(timeout=PATIENCE_S)
    assert stderr.strip() == (
        f"69 The demo cameras' port {port} on 127.0.0.1 is in use; "
        "configure another port, or stop the program that uses this port."
    )


def test_a_missing_extra_is_reported_with_its_install_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in [name for name in sys.modules if name.startswith("aio_rtsp_toolkit") or name == "workers.demo.server"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "aio_rtsp_toolkit", None)  # with None, Python rejects the import
    with pytest.raises(UnavailableError, match=r"pip install 'nvision-hub\[demo\]'"):
        demo.run(demo.DemoSettings(port=0, cache_dir=tmp_path), SupervisorPipe(None))


def test_a_cache_that_cannot_be_written_is_reported(demo_server: Callable[..., DemoServer], tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("not a directory")
    server = demo_server(cache_dir=blocked, wait=False)
    _, stderr = server.process.communicate(timeout=PATIENCE_S)
    assert stderr.startswith("69 The demo camera's clip cannot be written to")
    assert "Traceback" not in stderr


def test_the_demo_server_prints_nothing_on_stdout(demo_server: Callable[..., DemoServer], short: Path) -> None:
    server = demo_server(scenes=("street",), cache_dir=short)
    assert sum(1 for _ in packets(server.url("street"), 5)) == 5
    server.process.terminate()
    output, stderr = server.process.communicate(timeout=PATIENCE_S)
    assert (output, stderr) == ("", "")
