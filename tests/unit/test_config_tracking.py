"""The keys `tracking`, `zones` and `lines`: defaults, merging with `defaults`, and errors."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, get_args

import pytest

from nvision_hub.broker.webhook_filter import RESULT
from nvision_hub.config.load import load
from nvision_hub.config.tracking_section import Tracking, WebhookEvent
from nvision_hub.errors import ConfigError
from nvision_hub.tracking.changes import ChangeType

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Camera, Webhook

BAY = "{points: [[0.1, 0.4], [0.6, 0.4], [0.6, 1]], classes: [person, truck], dwell: 30}"


def camera(folder: Path, text: str, defaults: str = "") -> Camera:
    file = folder / "cameras.yaml"
    cameras = f"cameras:\n  - id: dock\n    url: demo://street\n{text}"
    file.write_text(f"defaults: {{{defaults}}}\n{cameras}", encoding="utf-8")
    return load(file, environ={}).camera("dock")


def test_cameras_are_tracked_by_default(tmp_path: Path) -> None:
    found = camera(tmp_path, "")
    assert found.tracking == Tracking(lost_after=4, update_interval=5, min_confidence=0.4, anchor="foot")
    assert (found.zones, found.lines) == ({}, {})


@pytest.mark.parametrize("off", ["off", "'off'"])
def test_tracking_can_be_off(tmp_path: Path, off: str) -> None:
    assert camera(tmp_path, f"    tracking: {off}\n").tracking is None
    assert camera(tmp_path, "", defaults=f"tracking: {off}").tracking is None
    again = camera(tmp_path, "    tracking: {lost_after: 2}\n", defaults=f"tracking: {off}").tracking
    assert again == Tracking(lost_after=2)


def test_a_camera_adds_to_the_zones_and_lines_of_defaults(tmp_path: Path) -> None:
    line = "{points: [[0.2, 0.9], [0.8, 0.9]]}"
    text = f"    zones: {{bay: {BAY}}}\n    lines: {{gate: {line}}}\n    tracking: {{anchor: center}}\n"
    defaults = "tracking: {lost_after: 9}, zones: {all: {points: [[0, 0], [1, 0], [1, 1], [0, 1]]}}"
    found = camera(tmp_path, text, defaults)
    assert set(found.zones) == {"all", "bay"}
    assert found.zones["bay"].classes == ("person", "truck")
    assert (found.zones["bay"].dwell, found.zones["bay"].inertia, found.zones["all"].dwell) == (30, 2, None)
    assert found.lines["gate"].points == ((0.2, 0.9), (0.8, 0.9))
    assert found.tracking == Tracking(lost_after=9, anchor="center")
    assert found == camera(tmp_path, text, defaults)
    assert hash(found) == hash(found.model_copy())


NO_AREA = "encloses no area; list the corners of the zone in order, as fractions of the frame"
SAME_POINT = "has the same point twice; give the two ends of the line"
NO_ID = "must be 1 to 63 lower-case letters, digits, - and _, and not begin with - or _, such as lobby-2"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tracking: on", "5:15: cameras[0].tracking: must be `off` or a section of indented `key: value` lines"),
        ("tracking: {anchor: middle}", "5:24: cameras[0].tracking.anchor: must be `foot` or `center`"),
        ("zones: {flat: {points: [[0, 0], [1, 0], [0.5, 0]]}}", f"5:28: cameras[0].zones.flat.points: {NO_AREA}"),
        ("lines: {gate: {points: [[0.5, 0], [0.5, 0]]}}", f"5:28: cameras[0].lines.gate.points: {SAME_POINT}"),
        ("zones: {bay: }", "5:17: cameras[0].zones.bay.points: is missing"),
        ("zones: {Bay: {points: [[0, 0], [1, 0], [1, 1]]}}", f"5:18: cameras[0].zones.Bay: {NO_ID}"),
    ],
)
def test_errors_name_the_place_the_cause_and_the_fix(tmp_path: Path, text: str, error: str) -> None:
    with pytest.raises(ConfigError) as caught:
        camera(tmp_path, f"    {text}\n")
    assert str(caught.value).endswith(f"cameras.yaml:{error}")


ZONE = "    zones: {bay: {points: [[0, 0], [1, 0], [1, 1]]}}\n"
WEBHOOK = f"  - {{id: alarms, url: 'https://example.com/', secret: whsec_{'A' * 40}, MORE}}\n"


def with_webhook(folder: Path, more: str) -> Webhook:
    (folder / "cameras.yaml").write_text(
        f"cameras:\n  - id: dock\n    url: demo://street\n{ZONE}webhooks:\n{WEBHOOK.replace('MORE', more)}",
        encoding="utf-8",
    )
    (found,) = load(folder / "cameras.yaml", environ={}).webhooks
    return found


def test_a_webhook_can_choose_each_type_of_event() -> None:
    assert set(get_args(WebhookEvent)) == {RESULT, *ChangeType}


def test_webhooks_choose_events_and_zones(tmp_path: Path) -> None:
    found = with_webhook(tmp_path, "events: [result, zone.entered], zones: [bay]")
    assert (found.events, found.zones, found.max_age) == (("result", "zone.entered"), ("bay",), None)


def test_a_webhook_can_limit_the_age_of_events(tmp_path: Path) -> None:
    assert with_webhook(tmp_path, "max_age: 90").max_age == 90.0


@pytest.mark.parametrize(
    ("more", "error"),
    [
        ("events: [zone.enterd]", "webhooks[0].events[0]: must be `result`"),
        ("events: []", "webhooks[0].events: "),
        ("max_age: 0", "webhooks[0].max_age: must be a number above 0 and at most 2592000"),
        ("max_age: .inf", "webhooks[0].max_age: "),
        ("max_age: 2592001", "webhooks[0].max_age: must be a number above 0 and at most 2592000"),
        ("zones: [bai]", "webhooks[0].zones[0]: no camera has a zone with this id; did you mean `bay`?"),
    ],
)
def test_invalid_values_of_a_webhook_are_errors(tmp_path: Path, more: str, error: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(error)):
        with_webhook(tmp_path, more)
