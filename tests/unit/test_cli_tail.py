"""Lines that `tail --tracks` prints, and which messages it accepts."""

from __future__ import annotations

import json
import re
from typing import Any, Final

import pytest
from click.testing import CliRunner

from nvision_hub.cli.commands.tail import tail, track_line
from nvision_hub.nvision.received_events import ReceivedTrackEvent
from nvision_hub.nvision.result_events import encode
from nvision_hub.tracking.changes import Change, ChangeType, EndReason
from nvision_hub.tracking.cloud_events import cloud_event
from tests.support.track_events import NOW, ORIGIN, STATE, event

CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def line(payload: dict[str, Any]) -> str:
    """Return the line of an event, without its time."""
    return track_line(ReceivedTrackEvent.parse(encode(payload))).plain.split("  ", 1)[1]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (Change(type=ChangeType.STARTED, at=NOW, track=STATE), "started 0.88 stationary, in bay"),
        (Change(type=ChangeType.ZONE_ENTERED, at=NOW, track=STATE, zone="bay"), "entered bay"),
        (Change(type=ChangeType.ZONE_LEFT, at=NOW, track=STATE, zone="bay", dwell_s=2.04), "left bay after 2.0 s"),
        (Change(type=ChangeType.ZONE_LEFT, at=NOW, track=STATE, zone="bay"), "left bay"),
        (
            Change(type=ChangeType.ZONE_DWELLED, at=NOW, track=STATE, zone="bay", dwell_s=30.2),
            "has been in bay for 30.2 s",
        ),
        (Change(type=ChangeType.LINE_CROSSED, at=NOW, track=STATE, line="gate", direction="in"), "crossed gate (in)"),
    ],
)
def test_a_line_says_what_the_object_did(change: Change, what: str) -> None:
    assert line(cloud_event(change, ORIGIN)) == f"dock          {STATE.id[-6:]} person {what}"


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_the_command_reads_the_channels_of_tracks(monkeypatch: pytest.MonkeyPatch, options: tuple[str, ...]) -> None:
    payloads = [encode(event()), b'{"hub": {"id": "a result"}}', encode(event(ChangeType.STARTED))]
    channels = []

    def events(_chosen: object, kind: str, camera: str) -> list[bytes]:
        channels.append((kind, camera))
        return payloads

    monkeypatch.setattr("nvision_hub.cli.commands.tail._events", events)
    done = CliRunner().invoke(tail, ["--tracks", *options])
    assert (done.exit_code, channels) == (0, [("tracks", "*")])
    assert "ignored a message that is not an event" in done.output
    if options:
        shown = [json.loads(text) for text in done.stdout.splitlines()]
        assert [each["type"] for each in shown] == ["nvision.track.updated", "nvision.track.started"]
    else:
        assert "person updated 0.88 stationary, in bay" in done.stdout


def test_the_line_of_an_end_has_the_duration_and_the_reason() -> None:
    ended = event(ChangeType.ENDED, ended_at=NOW + 1, end_reason=EndReason.LOST, visits=())
    assert line(ended).endswith("person ended after 1.0 s (lost)")


def test_a_line_has_no_control_characters() -> None:
    hostile = event()
    hostile["data"]["track"] |= {"camera": "\x1b[2J", "class": "\x9b31m", "zones": ["\x07"], "id": "\r\n"}
    assert not CONTROL.search(line(hostile))


@pytest.mark.parametrize(
    "changes",
    [
        {"specversion": "0.3"},
        {"type": "com.example.other"},
        {"id": 7},
        {"data": {}},
        {"data": {"track": {}}},
        {"hub": {"id": "x"}, "data": None},
    ],
)
def test_anything_else_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="validation error"):
        ReceivedTrackEvent.parse(json.dumps(event() | changes).encode())


def test_a_line_with_an_invalid_time_is_refused() -> None:
    with pytest.raises(ValueError, match="Invalid isoformat"):
        line(event() | {"time": "yesterday"})
