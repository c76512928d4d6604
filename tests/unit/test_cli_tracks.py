"""`nvision-hub tracks`: the tracks in the stream of a fake Redis."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

import fakeredis
import pytest
from click.testing import CliRunner

from nvision_hub.broker.client import track_commands
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.cli.broker_access import HubBroker
from nvision_hub.cli.commands.tracks import PAGE_ENTRIES, tracks
from nvision_hub.nvision.result_events import encode
from nvision_hub.timestamps import iso_utc
from nvision_hub.tracking.changes import ChangeType, EndReason
from tests.support.track_events import NOW, STATE, event

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.testing import Result

CONTROL: Final = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]")
OTHER: Final = "0199b2a0-0000-7000-8000-000000000000"


def publish(client: fakeredis.FakeRedis, *events: dict[str, Any]) -> None:
    """Publish events as a camera's worker does."""
    for each in events:
        camera = each["data"]["track"]["camera"]
        outgoing = OutgoingEvent(id=each["id"], camera=camera, payload=encode(each), received_at=0.0)
        for command in track_commands([outgoing], prefix="nvision", max_entries=10_000):
            client.execute_command(*command)  # type: ignore[no-untyped-call]  # the library lacks the annotation


def of_camera(camera: str, changed: dict[str, Any]) -> dict[str, Any]:
    changed["data"]["track"]["camera"] = camera
    return changed


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> fakeredis.FakeRedis:
    server = fakeredis.FakeServer()
    broker = HubBroker(url="redis://127.0.0.1", shown="redis://127.0.0.1", prefix="nvision")
    monkeypatch.setattr("nvision_hub.cli.commands.tracks.find_broker", lambda _chosen: broker)
    monkeypatch.setattr(
        "nvision_hub.cli.commands.tracks.connect_sync", lambda _url, **_: fakeredis.FakeRedis(server=server)
    )
    return fakeredis.FakeRedis(server=server)


@pytest.fixture
def run() -> Callable[..., Result]:
    def run(*arguments: str) -> Result:
        done = CliRunner().invoke(tracks, arguments, catch_exceptions=False)
        assert done.exit_code == 0
        return done

    return run


def test_each_track_has_one_line_with_its_latest_state(client: fakeredis.FakeRedis, run: Callable[..., Result]) -> None:
    entered = event(ChangeType.ZONE_ENTERED)
    entered["data"]["zone"] = {"id": "yard", "dwell_s": None}
    end = {"ended_at": NOW + 80, "last_seen_at": NOW + 80, "end_reason": EndReason.LOST, "visits": ()}
    late = {"id": OTHER, "started_at": NOW + 9, "last_seen_at": NOW + 11, "class_name": "car"}
    publish(client, event(ChangeType.STARTED, visits=()), entered, event(ChangeType.ENDED, **end))
    publish(client, event(ChangeType.STARTED, **late))
    publish(client, event(ChangeType.UPDATED))  # sent again by a worker that was killed, after the end of the track
    first, second = run().stdout.splitlines()
    assert re.split(r"\s{2,}", first)[1:] == ["dock", OTHER, "car 0.88", "2.0 s", "bay", "open"]
    assert re.split(r"\s{2,}", second)[1:] == ["dock", STATE.id, "person 0.88", "80 s", "bay, yard", "lost"]


def test_json_has_the_track_of_the_latest_event_and_all_zones(
    client: fakeredis.FakeRedis, run: Callable[..., Result]
) -> None:
    publish(client, event(), event(ChangeType.ENDED, ended_at=NOW + 1, end_reason=EndReason.STOPPED, visits=()))
    (shown,) = json.loads(run("--json").stdout)
    assert shown.pop("visited_zones") == ["bay"]
    assert shown == event(ended_at=NOW + 1, end_reason=EndReason.STOPPED, visits=())["data"]["track"]
    assert shown["ended_at"] == iso_utc(NOW + 1)


def test_a_clock_that_is_set_back_hides_no_later_event(client: fakeredis.FakeRedis, run: Callable[..., Result]) -> None:
    """The first event is sent again after the second one, and does not replace it."""
    started = event(ChangeType.STARTED, results=2)
    earlier = {"started_at": NOW - 3600, "last_seen_at": NOW - 3590, "visits": ()}
    publish(client, started, event(ChangeType.UPDATED, results=50, **earlier), started)
    (shown,) = json.loads(run("--json").stdout)
    assert (shown["results"], shown["last_seen_at"], shown["ended_at"]) == (50, iso_utc(NOW - 3590), None)
    publish(client, event(ChangeType.ENDED, ended_at=NOW - 3590, end_reason=EndReason.LOST, **earlier), started)
    (shown,) = json.loads(run("--json").stdout)
    assert (shown["ended_at"], shown["end_reason"]) == (iso_utc(NOW - 3590), "lost")


def test_options_select_tracks(client: fakeredis.FakeRedis, run: Callable[..., Result]) -> None:
    publish(client, event(), of_camera("yard", event(id=OTHER, visits=())))

    def ids(*arguments: str) -> list[str]:
        return [each["id"] for each in json.loads(run("--json", *arguments).stdout)]

    assert sorted(ids()) == sorted([STATE.id, OTHER])
    assert ids("--camera", "yard") == [OTHER]
    assert ids("--zone", "bay") == [STATE.id]
    assert ids("--zone", "bay", "--camera", "yard") == []
    assert ids("--since", "2200-01-01") == []


def test_all_pages_of_the_stream_are_read(client: fakeredis.FakeRedis, run: Callable[..., Result]) -> None:
    for number in range(PAGE_ENTRIES + 1):
        client.xadd("nvision:tracks", {"event": encode(event(id=f"track-{number}", visits=()))})
    assert len(json.loads(run("--json").stdout)) == PAGE_ENTRIES + 1


def test_entries_of_other_programs_are_ignored(client: fakeredis.FakeRedis, run: Callable[..., Result]) -> None:
    hostile = event()
    hostile["data"]["track"] |= {"class": "\x1b[2J", "zones": ["\x07"]}
    publish(client, hostile)
    naive = event(id=OTHER)
    naive["data"]["track"]["started_at"] = "2026-11-22T14:00:00"
    for payload in (b"", b"{}", b"\xff", encode(naive)):
        client.xadd("nvision:tracks", {"event": payload})
    client.xadd("nvision:tracks", {"other": "field"})
    done = run()
    assert len(done.stdout.splitlines()) == 1
    assert not CONTROL.search(done.output)
    assert "ignored 5 entries of the stream without an event" in done.stderr


def test_no_tracks_is_no_error(client: fakeredis.FakeRedis, run: Callable[..., Result]) -> None:
    assert client.exists("nvision:tracks") == 0
    done = run()
    assert (done.stdout, done.stderr) == ("", "no tracks\n")
    assert json.loads(run("--json").stdout) == []
