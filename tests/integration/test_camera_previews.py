"""Previews: workers publish the frames they have sent, and only while there are viewers."""

from __future__ import annotations

import contextlib
import json
import time
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import pytest
import redis
import simplejpeg

from tests.support import counter, files
from tests.support.camera_worker import counted
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.camera_worker import CameraWorker
    from tests.support.http_camera import HttpCamera
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis

CHANNEL = "nvision:previews:lobby"


@dataclass(frozen=True, kw_only=True)
class Preview:
    at: float
    header: dict[str, Any]
    jpeg: bytes


class Viewer:
    """A subscriber to a camera's previews."""

    def __init__(self, url: str) -> None:
        client: Any = redis.Redis  # redis-py does not annotate pubsub
        self._client = client.from_url(url)
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(CHANNEL)
        self._subscription.get_message(timeout=PATIENCE_S)

    def next(self, timeout_s: float = PATIENCE_S) -> Preview | None:
        """Return the next preview; None if none arrives in time."""
        end = time.monotonic() + timeout_s
        while (left_s := end - time.monotonic()) > 0:
            message = self._subscription.get_message(timeout=left_s)
            if message is not None:
                data = message["data"]
                length = int.from_bytes(data[:4], "big")
                return Preview(at=time.monotonic(), header=json.loads(data[4 : 4 + length]), jpeg=data[4 + length :])
        return None

    def some(self, count: int) -> list[Preview]:
        previews = [self.next() for _ in range(count)]
        return [preview for preview in previews if preview is not None]

    def close(self) -> None:
        self._subscription.close()
        self._client.close()


@dataclass(frozen=True, kw_only=True)
class PreviewSetup:
    """The service, the broker and the viewers of a worker."""

    service: Recorder
    broker: DebianRedis
    start: Callable[..., CameraWorker]
    closing: contextlib.ExitStack

    def viewer(self) -> Viewer:
        viewer = Viewer(self.broker.url)
        self.closing.callback(viewer.close)
        return viewer

    def worker(self, url: str, **settings: Any) -> CameraWorker:
        return self.start(url, self.service, self.broker, **settings)


@pytest.fixture
def setup(
    start_worker: Callable[..., CameraWorker],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> Iterator[PreviewSetup]:
    with contextlib.ExitStack() as closing:
        yield PreviewSetup(service=recorder(), broker=debian_redis(), start=start_worker, closing=closing)


@pytest.mark.long
def test_previews_show_the_frames_that_were_sent(http_camera: Callable[..., HttpCamera], setup: PreviewSetup) -> None:
    service = setup.service
    seen = setup.viewer()
    worker = setup.worker(http_camera().url(), fps=10)
    service.wait_for(15)
    assert seen.next(0.2) is None, "no preview may appear without a request"
    worker.request_previews(width=320, fps=5, for_s=PATIENCE_S)
    previews = seen.some(12)
    assert len(previews) == 12
    captured_at = [preview.header["captured_at"] for preview in previews]
    assert (len(previews) - 1) / (captured_at[-1] - captured_at[0]) < 6
    service.wait_for(len(service.received()) + 2)  # the service may record a frame after its preview was published
    messages = {message.frame_id: message for message in service.received()}
    for preview in previews:
        height, width = simplejpeg.decode_jpeg_header(preview.jpeg)[:2]
        assert (width, height) == (320, 180)
        message = messages[preview.header["frame_id"]]
        assert (preview.header["camera"], preview.header["width"], preview.header["height"]) == ("lobby", 640, 360)
        assert preview.header["captured_at"] == pytest.approx(message.created, abs=0.002)
        full = simplejpeg.decode_jpeg(service.frame(message), "GRAY", min_width=320)
        small = simplejpeg.decode_jpeg(preview.jpeg, "GRAY")
        assert abs(full.astype(int) - small).mean() < 6
    sequences = [preview.header["sequence"] for preview in previews]
    assert sequences == sorted(set(sequences))
    # Previews stop when the request expires.
    worker.request_previews(width=320, fps=5, for_s=1)
    end = time.monotonic() + PATIENCE_S
    while seen.next(1.0) is not None:
        assert time.monotonic() < end


def test_a_faster_request_takes_effect_immediately(http_camera: Callable[..., HttpCamera], setup: PreviewSetup) -> None:
    seen = setup.viewer()
    worker = setup.worker(http_camera().url(), fps=10)
    setup.service.wait_for(5)
    worker.request_previews(width=320, fps=1 / 60, for_s=60)
    assert seen.next() is not None
    assert seen.next(1.0) is None, "the next preview is due in a minute"
    worker.request_previews(width=320, fps=10, for_s=30)
    assert len(seen.some(5)) == 5


def test_a_slow_camera_shows_its_last_frame_immediately(
    http_camera: Callable[..., HttpCamera], setup: PreviewSetup
) -> None:
    service = setup.service
    seen = setup.viewer()
    worker = setup.worker(http_camera().url(), fps=0.02)
    (message,) = service.wait_for(1)
    worker.request_previews(width=None, fps=5, for_s=30)
    preview = seen.next()
    assert preview is not None
    assert preview.header["frame_id"] == message.frame_id
    assert preview.jpeg == service.frame(message)
    worker.request_previews(width=None, fps=5, for_s=30)
    assert seen.next(1.0) is None, "the same frame must not appear again"
    worker.request_previews(width=160, fps=5, for_s=30)
    other = seen.next()
    assert other is not None
    assert other.header == preview.header
    assert simplejpeg.decode_jpeg_header(other.jpeg)[:2] == (90, 160)
    # The last frame stays available during a pause.
    worker.configure(replace(worker.settings, paused=True))
    worker.wait_for_state("paused")
    worker.request_previews(width=80, fps=5, for_s=30)
    assert seen.next() is not None


def test_an_unreachable_redis_affects_only_viewers(http_camera: Callable[..., HttpCamera], setup: PreviewSetup) -> None:
    service = setup.service
    worker = setup.worker(http_camera().url(), fps=10)
    worker.request_previews(width=320, fps=10, for_s=60)
    service.wait_for(5)
    setup.broker.kill()
    service.wait_for(len(service.received()) + 20)
    setup.broker.start()
    seen = setup.viewer()
    previews = seen.some(5)
    assert len(previews) == 5
    newest = service.received()[-1]
    number = counter.of_jpeg(service.frame(newest))
    assert number is not None
    assert previews[0].header["captured_at"] > newest.created - 5, "previews must not be queued"
    status = worker.wait_for(lambda status: counted(status, "frames_sent_total") > 0)
    assert status.state == "streaming"


@pytest.mark.parametrize("kind", ["mjpeg", "snapshot", "file"])
def test_masks_apply_to_previews_and_sent_frames(
    kind: str,
    tmp_path: Path,
    http_camera: Callable[..., HttpCamera],
    setup: PreviewSetup,
) -> None:
    service = setup.service
    seen = setup.viewer()
    files.write(tmp_path / "clip.mp4", full_range=True)
    camera = http_camera()
    url = {
        "mjpeg": camera.url(),
        "snapshot": "snapshot+" + camera.url("/snapshot.jpg"),
        "file": f"file:{tmp_path / 'clip.mp4'}",
    }[kind]
    worker = setup.worker(url, fps=10, masks=[[[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]]])
    worker.request_previews(width=320, fps=10, for_s=60)
    previews = seen.some(5)
    assert len(previews) == 5
    for preview in previews:
        assert simplejpeg.decode_jpeg(preview.jpeg, "GRAY")[100:, 170:].max() < 5
    for message in service.received():
        shown = simplejpeg.decode_jpeg(service.frame(message), "GRAY")
        assert shown.shape == (360, 640, 1)
        assert shown[190:, 330:].max() < 5
        assert shown[:170, :300].mean() > 20
