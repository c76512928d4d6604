"""Parsing of the arguments of `set`, and the rows that `status` builds from the API."""

from __future__ import annotations

import re
from typing import Any

import click
import pytest

from nvision_hub.cli.api_client import selected
from nvision_hub.cli.camera_table import api_camera_row, api_process_rows
from nvision_hub.cli.commands.control import _FROM_FILE, parse_settings

CAMERA: dict[str, Any] = {
    "id": "lobby",
    "state": "streaming",
    "error": None,
    "profile": None,
    "limited_by": None,
    "scheduled": None,
    "rate_in": 25.0,
    "rate_out": 5.0,
    "sent": 100,
    "dropped": {"overwritten": 3, "stale": 2},
    "last_picture_at": "2026-11-22T14:00:00.000Z",
    "last_result_at": "2026-11-22T14:00:00.500Z",
    "seen": ["person", "car", "person"],
}
AT = 1795356000.0  # 2026-11-22T14:00:00Z


def test_values_have_their_types() -> None:
    assert parse_settings(["fps=0.5", "jpeg_quality=70", "max_width=1280", "confidence_threshold=0.4"]) == {
        "fps": 0.5,
        "jpeg_quality": 70,
        "max_width": 1280,
        "confidence_threshold": 0.4,
    }
    assert parse_settings(["max_width=none"]) == parse_settings(["max_width=NULL"]) == {"max_width": None}
    assert parse_settings(["fps=file"]) == {"fps": _FROM_FILE}


@pytest.mark.parametrize(
    ("setting", "sentence"),
    [
        ("fps=0", "fps must be a number above 0 and at most 60"),
        ("fps=61", "fps must be a number above 0 and at most 60"),
        ("fps=nan", "fps must be a number above 0 and at most 60"),
        ("fps=fast", "fps must be a number above 0 and at most 60"),
        ("fps=none", "fps must be a number above 0 and at most 60"),
        ("fps=", "fps must be a number above 0 and at most 60"),
        ("jpeg_quality=0", "jpeg_quality must be a whole number from 1 to 100"),
        ("jpeg_quality=7.5", "jpeg_quality must be a whole number from 1 to 100"),
        ("max_width=15", "max_width must be a whole number from 16 to 16384, or none"),
        ("confidence_threshold=1.1", "confidence_threshold must be a number from 0 to 1"),
        ("fps", "fps needs a value, such as fps=5.0"),
        ("fsp=2", "did you mean `fps`?"),
        ("url=rtsp://10.0.0.5/", "choose from fps, jpeg_quality, max_width, confidence_threshold"),
    ],
)
def test_an_invalid_setting_is_explained(setting: str, sentence: str) -> None:
    with pytest.raises(click.UsageError) as refused:
        parse_settings([setting])
    assert sentence in refused.value.message


def test_a_setting_cannot_be_given_twice() -> None:
    with pytest.raises(click.UsageError, match="fps is given twice"):
        parse_settings(["fps=1", "fps=2"])


def test_a_camera_of_the_api_becomes_a_row() -> None:
    row = api_camera_row(CAMERA, AT + 1.5)
    assert (row.name, row.state, row.info.dropped, row.info.sent) == ("lobby", "streaming", 5, 100)
    assert row.age_s == pytest.approx(0.5)
    assert row.seen == "2 person, car"
    assert row.error is None
    old = api_camera_row({**CAMERA, "seen": [], "error": "gone\x1b[2J"}, AT + 100)
    assert old.seen == "nothing (100 s ago)"
    assert old.error == "gone?[2J"
    new = api_camera_row({**CAMERA, "last_picture_at": None, "last_result_at": None}, AT)
    assert (new.age_s, new.seen) == (None, "")


def test_rows_of_processes_contain_only_unhealthy_ones() -> None:
    processes: list[dict[str, Any]] = [
        {"name": "broker", "phase": "running", "error": None},
        {"name": "webhooks", "phase": "waiting", "error": None},
        {"name": "service", "phase": "running", "error": "no model"},
        {"name": "camera:lobby", "phase": "waiting", "error": "in its row"},
    ]
    assert [(row.name, row.state, row.error) for row in api_process_rows(processes)] == [
        ("webhooks", "waiting", None),
        ("service", "running", "no model"),
    ]


CAMERAS = [
    {"id": "lobby", "labels": {"floor": "1", "side": "north"}},
    {"id": "gate", "labels": {"floor": "0"}},
    {"id": "hall", "labels": {"floor": "1"}},
]


def test_a_label_selects_all_cameras_with_it() -> None:
    def ids(*names: str) -> list[str]:
        return [camera["id"] for camera in selected(CAMERAS, names)]

    assert ids("label:floor=1") == ["lobby", "hall"]
    assert ids("hall", "gate", "label:floor=1") == ["hall", "gate", "lobby"], "without duplicates, in the given order"
    for wrong, sentence in (
        ("label:flor=1", "no camera has the label flor=1; did you mean `floor=1`?"),
        ("label:floor=7", "no camera has the label floor=7"),
        ("label:floor", "label:floor needs a label and its value, such as label:floor=1"),
        ("label:=1", "needs a label and its value"),
        ("loby", "the hub has no camera 'loby'; did you mean `lobby`?"),
    ):
        with pytest.raises(click.UsageError, match=re.escape(sentence)):
            selected(CAMERAS, ["gate", wrong])
