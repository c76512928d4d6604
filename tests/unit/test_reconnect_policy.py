"""A camera's reconnect delays for each cause of failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.runtime.status import CameraState
from workers.camera.camera_reconnects import ReconnectPolicy

FAILURES = [CameraState.AUTH_FAILED, CameraState.UNREACHABLE, CameraState.STALLED, CameraState.NOT_FOUND]


@given(st.lists(st.sampled_from(FAILURES), min_size=1, max_size=60))
def test_passwords_are_sent_at_most_three_times_a_minute(failures: list[CameraState]) -> None:
    retries, now = ReconnectPolicy(), 0.0
    refused: list[float] = []
    for state in failures:
        if state is CameraState.AUTH_FAILED:
            refused.append(now)
        now += retries.next_s(state)
    for first, fourth in zip(refused, refused[3:], strict=False):
        assert fourth - first > 60


def test_after_three_rejections_a_password_is_sent_once_a_minute_at_most() -> None:
    retries = ReconnectPolicy()
    delays = [retries.next_s(CameraState.AUTH_FAILED) for _ in range(20)]
    assert all(delay > 20 for delay in delays)
    assert all(60 < delay <= 600 for delay in delays[2:])


@pytest.mark.parametrize("state", [CameraState.UNREACHABLE, CameraState.STALLED])
def test_a_returning_camera_is_reached_within_seconds(state: CameraState) -> None:
    retries = ReconnectPolicy()
    delays = [retries.next_s(state) for _ in range(500)]
    assert max(delays) <= 5
    assert len(set(delays)) == len(delays)  # no two delays are equal


def test_alternating_failures_do_not_reset_the_backoff() -> None:
    retries = ReconnectPolicy()
    delays = [retries.next_s(FAILURES[number % 2]) for number in range(200)]
    assert max(delays[1::2]) > 4  # the delays for network errors have grown
    assert min(delays[6::2]) > 60


def test_only_sustained_health_resets_the_backoff() -> None:
    retries = ReconnectPolicy()
    for _ in range(3):
        retries.next_s(CameraState.AUTH_FAILED)
    retries.healthy(0.0)
    retries.healthy(20.0)
    assert retries.next_s(CameraState.AUTH_FAILED) > 60
    for now in (100.0, 115.0, 131.0):
        retries.healthy(now)
    assert retries.next_s(CameraState.AUTH_FAILED) <= 41
