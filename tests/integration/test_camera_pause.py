"""Pause and resume of a camera: effects on the worker, the service and the camera."""

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
def test_a_paused_camera_is_disconnected_and_resumes(
    start_worker: Callable[..., CameraWorker],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    camera, service = http_camera(), recorder()
    worker = start_worker(camera.url(), service, debian_redis(), fps=10)
    service.wait_for(10)
    running = worker.wait_for_state("streaming")
    assert (running.camera.paused, running.camera.fps) == (False, 10)

    worker.configure(replace(worker.settings, paused=True))
    paused = worker.wait_for_state("paused")
    asked_at = time.monotonic()
    assert paused.camera.paused
    assert paused.ready
    assert paused.error is None
    assert abs((paused.camera.since or 0) - time.time()) < 5
    # Wait longer than the deadlines of a streaming worker. The paused worker must miss no deadline.
    last = worker.wait_for(lambda status: status.at > asked_at + 4)
    assert last.state == "paused"
    assert not any(deadline.is_missed(last.at + 5) for deadline in last.deadlines.values())
    wall = time.time() - time.monotonic()
    assert all(message.created - wall < asked_at for message in service.received())
    last = worker.wait_for(lambda status: status.at > camera.pushes[-1].at + 4)  # a paused camera has no viewer
    counts = [counted(status, "packets_received_total") for status in worker.statuses if status.at > last.at - 3]
    assert len(set(counts)) == 1
    # The frames in flight at the pause have been answered.
    assert counted(last, "frames_answered_total") == counted(last, "frames_sent_total") == len(service.received())

    worker.configure(replace(worker.settings, paused=False))
    resumed_at = time.monotonic()
    service.wait_for(len(service.received()) + 5)
    again = worker.wait_for_state("streaming")
    assert not again.camera.paused
    fresh = [message for message in service.received() if message.at > resumed_at]
    wall = time.time() - time.monotonic()
    assert all(message.created - wall > resumed_at - 0.1 for message in fresh), (
        "no frame from before the pause may be sent"
    )


def test_a_camera_may_start_paused(
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
    worker.configure(replace(worker.settings, paused=False))
    service.wait_for(3)
    worker.wait_for_state("streaming")


def test_a_paused_camera_with_a_rejected_password_is_no_alarm(
    start_worker: Callable[..., CameraWorker],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
    debian_redis: Callable[..., DebianRedis],
) -> None:
    camera = http_camera(user="viewer", password="right")
    worker = start_worker(camera.url(credentials=False), recorder(), debian_redis())
    worker.wait_for_state("auth_failed")
    worker.configure(replace(worker.settings, paused=True))
    assert worker.wait_for_state("paused").error is None
    asked = len(camera.requests)
    worker.configure(replace(worker.settings, paused=False))
    # The backoff after a wrong password avoids a lockout, so a pause must not shorten the backoff.
    assert worker.wait_for_state("auth_failed").error is not None
    assert len(camera.requests) == asked
