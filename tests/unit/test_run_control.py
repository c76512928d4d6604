"""Stop and pause of a camera: which of the two events are set after each step."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.camera.run_control import RunControl


@pytest.mark.parametrize("paused", [False, True])
def test_a_camera_starts_paused_or_running(*, paused: bool) -> None:
    control = RunControl(paused=paused)
    assert (control.paused, control.stopped) == (paused, False)
    assert control.interrupted.is_set() is paused
    assert control.resumed.is_set() is not paused


@given(st.lists(st.sampled_from(["stop", "pause", "resume"])))
def test_the_events_follow_every_step(steps: list[str]) -> None:
    control = RunControl()
    for number, step in enumerate(steps):
        getattr(control, step)()
        paused = next((each == "pause" for each in reversed(steps[: number + 1]) if each != "stop"), False)
        stopped = "stop" in steps[: number + 1]
        assert (control.paused, control.stopped) == (paused, stopped)
        assert control.interrupted.is_set() is (paused or stopped)
        assert control.resumed.is_set() is (stopped or not paused), "nothing waits for the end of a pause after a stop"
