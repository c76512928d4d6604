"""Previews: the very pictures that were sent, while somebody watches, and nothing of it while nobody does."""

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
    """Who subscribes to a camera's previews."""

    def __init__(self, url: str) -> None:
        client: Any = redis.Redis  # its types leave pubsub untyped
        self._client = client.from_url(url)
        self._subscription = self._client.pubsub(ignore_subscribe_messages=True)
        self._subscription.subscribe(CHANNEL)
        self._subscription.get_message(timeout=10)

    def next(self, within_s: float = 30.0) -> Preview | None:
        """The next preview; None where none comes in time."""
        end = time.monotonic() + within_s
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
class Watched:
    """Whom a worker talks to, and who watches."""

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
def watched(
    start_worker: Callable[..., CameraWorker],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> Iterator[Watched]:
    with contextlib.ExitStack() as closing:
        yield Watched(service=recorder(), broker=debian_redis(), start=start_worker, closing=closing)


@pytest.mark.long
def test_what_is_watched_is_what_was_sent(http_camera: Callable[..., HttpCamera], watched: Watched) -> None:
    service = watched.service
    seen = watched.viewer()
    worker = watched.worker(http_camera().url(), fps=10)
    service.wait_for(15)
    assert seen.next(0.2) is None, "a preview that nobody has asked for"
    worker.watch(width=320, fps=5, for_s=4)
    previews = seen.some(12)
    assert len(previews) == 12
    rate = (len(previews) - 1) / (previews[-1].at - previews[0].at)
    assert rate < 6
    messages = {message.frame_id: message for message in service.received()}
    for preview in previews:
        height, width = simplejpeg.decode_jpeg_header(preview.jpeg)[:2]
        assert (width, height) == (320, 180)
        message = messages[preview.header["frame_id"]]
        assert (preview.header["camera"], preview.header["width"], preview.header["height"]) == ("lobby", 640, 360)
        assert preview.header["captured_at"] == pytest.approx(message.created, abs=0.002)
        full = simplejpeg.decode_jpeg(service.picture(message), "GRAY", min_width=320)
        small = simplejpeg.decode_jpeg(preview.jpeg, "GRAY")
        assert abs(full.astype(int) - small).mean() < 6
    sequences = [preview.header["sequence"] for preview in previews]
    assert sequences == sorted(set(sequences))
    # The watch ends by itself.
    while seen.next(1.0) is not None:
        assert time.monotonic() < previews[0].at + 30


def test_whoever_watches_faster_does_not_wait_for_the_slow(
    http_camera: Callable[..., HttpCamera], watched: Watched
) -> None:
    seen = watched.viewer()
    worker = watched.worker(http_camera().url(), fps=10)
    watched.service.wait_for(5)
    worker.watch(width=320, fps=1 / 60, for_s=60)
    assert seen.next() is not None
    assert seen.next(1.0) is None, "the next one is due in a minute"
    worker.watch(width=320, fps=10, for_s=30)
    assert len(seen.some(5)) == 5


def test_a_slow_camera_shows_its_last_picture_at_once(http_camera: Callable[..., HttpCamera], watched: Watched) -> None:
    service = watched.service
    seen = watched.viewer()
    worker = watched.worker(http_camera().url(), fps=0.02)
    (message,) = service.wait_for(1)
    worker.watch(width=None, fps=5, for_s=30)
    preview = seen.next()
    assert preview is not None
    assert preview.header["frame_id"] == message.frame_id
    assert preview.jpeg == service.picture(message)
    worker.watch(width=None, fps=5, for_s=30)
    assert seen.next(1.0) is None, "the same picture again"
    worker.watch(width=160, fps=5, for_s=30)
    other = seen.next()
    assert other is not None
    assert other.header == preview.header
    assert simplejpeg.decode_jpeg_header(other.jpeg)[:2] == (90, 160)
    # A pause does not take it away either.
    worker.tune(replace(worker.settings, paused=True))
    worker.wait_for_state("paused")
    worker.watch(width=80, fps=5, for_s=30)
    assert seen.next() is not None


def test_redis_away_costs_the_viewers_only(http_camera: Callable[..., HttpCamera], watched: Watched) -> None:
    service = watched.service
    worker = watched.worker(http_camera().url(), fps=10)
    worker.watch(width=320, fps=10, for_s=60)
    service.wait_for(5)
    watched.broker.kill()
    service.wait_for(len(service.received()) + 20)
    watched.broker.start()
    seen = watched.viewer()
    previews = seen.some(5)
    assert len(previews) == 5
    newest = service.received()[-1]
    number = counter.of_jpeg(service.picture(newest))
    assert number is not None
    assert previews[0].header["captured_at"] > newest.created - 5, "previews were queued"
    status = worker.wait_for(lambda status: counted(status, "frames_sent_total") > 0)
    assert status.state == "streaming"


@pytest.mark.parametrize("kind", ["mjpeg", "snapshot", "file"])
def test_masks_are_in_whatever_leaves(
    kind: str,
    tmp_path: Path,
    http_camera: Callable[..., HttpCamera],
    watched: Watched,
) -> None:
    service = watched.service
    seen = watched.viewer()
    files.write(tmp_path / "clip.mp4", full_range=True)
    camera = http_camera()
    url = {
        "mjpeg": camera.url(),
        "snapshot": "snapshot+" + camera.url("/snapshot.jpg"),
        "file": f"file:{tmp_path / 'clip.mp4'}",
    }[kind]
    worker = watched.worker(url, fps=10, masks=[[[0.5, 0.5], [1, 0.5], [1, 1], [0.5, 1]]])
    worker.watch(width=320, fps=10, for_s=60)
    previews = seen.some(5)
    assert len(previews) == 5
    for preview in previews:
        assert simplejpeg.decode_jpeg(preview.jpeg, "GRAY")[100:, 170:].max() < 5
    for message in service.received():
        shown = simplejpeg.decode_jpeg(service.picture(message), "GRAY")
        assert shown.shape == (360, 640, 1)
        assert shown[190:, 330:].max() < 5
        assert shown[:170, :300].mean() > 20
