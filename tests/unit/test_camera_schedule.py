"""Camera schedules: the entries in cameras.yaml, and the rate at which a worker sends frames."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import pytest

from nvision_hub.budget.schedule import Window
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError
from nvision_hub.runtime.status import CameraInfo
from workers.camera.scheduled_rate import SETTLED_S, RateMonitor, ScheduledRate

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Config

BANGKOK = "Asia/Bangkok"
NIGHT = Window(days=frozenset(range(5)), begin_min=22 * 60, end_min=6 * 60, fps=5.0)
WEEKEND = Window(days=frozenset({5, 6}), fps=0.5)
NOON = Window(begin_min=12 * 60, end_min=13 * 60, paused=True)


def loaded(folder: Path, entries: str, more: str = "") -> Config:
    file = folder / "cameras.yaml"
    file.write_text(f"{more}\ncameras: [{{id: dock, url: demo://street, schedule: {entries}}}]\n")
    return load(file, environ={})


def at(*parts: int) -> float:
    return datetime(*parts, tzinfo=ZoneInfo(BANGKOK)).timestamp()  # type: ignore[arg-type,misc]


def rate_at(wall: float) -> ScheduledRate:
    return ScheduledRate([NIGHT, WEEKEND, NOON], BANGKOK, fps=1.0, is_paused=False, wall=wall)


def test_entries_become_windows(tmp_path: Path) -> None:
    entries = """[{days: mon-fri, from: "22:00", to: "06:00", fps: 5}, {days: [sat, sun], fps: 0.5},
        {from: 12:00, to: 13:00, paused: true}, {days: [fri-mon], to: "24:00", fps: 2},
        {from: "22:00", to: "00:00", fps: 1}]"""
    config = loaded(tmp_path, entries, "budget: {time_zone: Asia/Bangkok}")
    assert [entry.window for entry in config.cameras[0].schedule] == [
        NIGHT,
        WEEKEND,
        NOON,
        Window(days=frozenset({4, 5, 6, 0}), fps=2.0),
        Window(begin_min=22 * 60, fps=1.0),
    ]
    assert config.budget.time_zone == BANGKOK
    assert config.cameras[0].shown()["schedule"][0]["from"] == "22:00"


def test_a_camera_inherits_the_schedule_of_the_defaults_and_may_remove_it(tmp_path: Path) -> None:
    defaults = "defaults: {schedule: [{fps: 2}]}"
    assert loaded(tmp_path, "[]", defaults).cameras[0].schedule == ()
    file = tmp_path / "cameras.yaml"
    file.write_text(f"{defaults}\ncameras: [{{id: dock, url: demo://street}}]\n")
    assert load(file, environ={}).cameras[0].schedule[0].window == Window(fps=2.0)


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ("[{days: monday, fps: 1}]", "schedule[0].days: must be a day, or a range of days"),
        ("[{from: '25:00', fps: 1}]", 'schedule[0].from: must be a time from "00:00" to "23:59"'),
        ("[{to: '6:00', fps: 1}]", 'schedule[0].to: must be a time from "00:00" to "24:00"'),
        ("[{fps: 0}]", "schedule[0].fps: must be a number above 0"),
        ("[{days: sat}]", "schedule[0]: must have either a rate or a pause"),
        ("[{fps: 1, paused: true}]", "schedule[0]: must have either a rate or a pause"),
        ("[{from: '06:00', to: '06:00', fps: 1}]", "schedule[0]: ends when it begins"),
        ("[{form: '06:00', fps: 1}]", "schedule[0].form: unknown key; did you mean `from`?"),
    ],
)
def test_an_invalid_entry_is_an_error_with_its_place(tmp_path: Path, entries: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, entries)
    assert f"cameras[0].{problem}" in str(caught.value)


def test_an_unknown_time_zone_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"budget\.time_zone: is not a time zone of this machine; write a name such as"
    ):
        loaded(tmp_path, "[]", "budget: {time_zone: Asia/Bankok}")


def test_a_worker_follows_its_schedule() -> None:
    rate = rate_at(at(2026, 12, 1, 11, 59))
    assert (rate.fps, rate.is_paused, rate.text) == (1.0, False, None)
    assert rate.update(at(2026, 12, 1, 12))
    assert (rate.is_paused, rate.text) == (True, "paused until 13:00")
    assert not rate.update(at(2026, 12, 1, 12, 59))
    assert rate.update(at(2026, 12, 1, 13))
    assert (rate.fps, rate.is_paused, rate.text) == (1.0, False, None)
    assert rate.update(at(2026, 12, 1, 22))
    assert (rate.fps, rate.text) == (5.0, "5/s until 06:00")
    assert rate.update(at(2026, 12, 5, 6))
    assert (rate.fps, rate.text) == (0.5, "0.5/s until Mon 00:00")


def test_a_clock_that_jumps_takes_effect_at_the_next_update() -> None:
    rate = rate_at(at(2026, 12, 1, 11))
    assert rate.update(at(2026, 12, 1, 12, 30))
    assert rate.is_paused
    assert rate.update(at(2026, 12, 1, 11, 30))  # the clock goes back
    assert not rate.is_paused


def test_an_operator_changes_the_rate_outside_of_the_schedule_and_pauses_always() -> None:
    rate = rate_at(at(2026, 12, 1, 23))
    rate.configure(fps=3.0, is_paused=False)
    assert rate.fps == 5.0
    rate.update(at(2026, 12, 2, 6))
    assert rate.fps == 3.0
    rate.configure(fps=3.0, is_paused=True)
    rate.update(at(2026, 12, 2, 23))
    assert rate.is_paused


def test_a_camera_without_a_schedule_sends_at_its_own_rate() -> None:
    rate = ScheduledRate([], "UTC", fps=5.0, is_paused=False, wall=0.0)
    assert not rate.update(1e9)
    assert (rate.fps, rate.is_paused, rate.text, rate.has_schedule) == (5.0, False, None, False)


SLOW = CameraInfo(fps=5.0, rate_in=25.0, rate_out=1.1)


def test_a_rate_far_below_the_target_is_reported_once_it_lasts() -> None:
    monitor = RateMonitor()
    assert monitor.update(SLOW, is_streaming=True, now=100.0) is None
    assert monitor.update(SLOW, is_streaming=True, now=100.0 + SETTLED_S - 0.1) is None
    sentence = monitor.update(SLOW, is_streaming=True, now=100.0 + SETTLED_S)
    assert sentence == "sends 1.1 of 5 frames per second: the counts of dropped frames show the reason"
    starved = replace(SLOW, rate_in=1.1)
    sentence = monitor.update(starved, is_streaming=True, now=120.0)
    assert sentence is not None
    assert sentence.endswith("the camera delivers only 1.1; raise its frame rate, or lower fps")
    assert monitor.update(replace(SLOW, rate_out=4.1), is_streaming=True, now=121.0) is None
    assert monitor.update(SLOW, is_streaming=True, now=122.0) is None, "the time starts again"


@pytest.mark.parametrize(
    ("info", "is_streaming"),
    [
        (SLOW, False),
        (replace(SLOW, moving=False), True),
        (replace(SLOW, limited_by="the site's images_per_day"), True),
        (replace(SLOW, fps=0.2, rate_out=0.0), True),
        (replace(SLOW, fps=None), True),
        (replace(SLOW, rate_out=None), True),
    ],
)
def test_a_low_rate_on_purpose_is_no_error(info: CameraInfo, *, is_streaming: bool) -> None:
    monitor = RateMonitor()
    assert [monitor.update(info, is_streaming=is_streaming, now=now) for now in (0.0, 100.0)] == [None, None]
