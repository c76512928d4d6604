"""A camera that is paused and resumed, as its own worker process, the service and the camera itself see it."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from tests.support.camera_worker import counted

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.camera_worker import CameraWorker
    from tests.support.http_camera import HttpCamera
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis


@pytest.mark.long
def test_a_paused_camera_is_left_alone_and_comes_back(
    start_worker: Callable[..., CameraWorker],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    camera, service = http_camera(), recorder()
    worker = start_worker(camera.url(), service, debian_redis(), fps=10)
    service.wait_for(10)
    running = worker.wait_for_state("streaming")
    assert (running.row["paused"], running.row["fps"]) == (False, 10)

    worker.tune(replace(worker.settings, paused=True))
    paused = worker.wait_for_state("paused")
    asked_at = time.monotonic()
    assert paused.row["paused"]
    assert paused.ready
    assert paused.error is None
    assert abs(paused.row["since"] - time.time()) < 5
    # Longer than the promises of an open camera would hold if they were not kept up: they must not be broken.
    last = worker.wait_for(lambda status: status.at > asked_at + 4)
    assert last.state == "paused"
    assert not any(promise.broken(last.at + 5) for promise in last.promises.values())
    assert all(message.at < asked_at + 1 for message in service.received())
    assert camera.pushes[-1].at < asked_at + 2, "the camera still had a viewer"
    counts = [counted(status, "packets_received_total") for status in worker.statuses if status.at > asked_at + 1]
    assert len(set(counts)) == 1
    # What was on its way is answered.
    assert counted(last, "frames_answered_total") == counted(last, "frames_sent_total") == len(service.received())

    worker.tune(replace(worker.settings, paused=False))
    resumed_at = time.monotonic()
    service.wait_for(len(service.received()) + 5)
    again = worker.wait_for_state("streaming")
    assert not again.row["paused"]
    fresh = [message for message in service.received() if message.at > resumed_at]
    wall = time.time() - time.monotonic()
    assert all(message.created - wall > resumed_at - 0.1 for message in fresh), "a picture from before the pause"


def test_a_camera_may_begin_paused(
    start_worker: Callable[..., CameraWorker],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    camera, service = http_camera(), recorder()
    worker = start_worker(camera.url(), service, debian_redis(), fps=10, paused=True)
    worker.wait_for_state("paused")
    worker.wait_for_state("paused")
    assert camera.requests == []
    worker.tune(replace(worker.settings, paused=False))
    service.wait_for(3)
    worker.wait_for_state("streaming")


def test_a_paused_camera_that_was_refused_is_no_alarm(
    start_worker: Callable[..., CameraWorker],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    camera = http_camera(user="viewer", password="right")
    worker = start_worker(camera.url(credentials=False), recorder(), debian_redis())
    worker.wait_for_state("auth_failed")
    worker.tune(replace(worker.settings, paused=True))
    assert worker.wait_for_state("paused").error is None
    asked = len(camera.requests)
    worker.tune(replace(worker.settings, paused=False))
    # A pause is no way around the pause that keeps a wrong password from locking the address out.
    assert worker.wait_for_state("auth_failed").error is not None
    assert len(camera.requests) == asked
