"""What the gateway knows: counters that never go back through any history, states, errors, and what is shown."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nvision_hub.link import Command
from nvision_hub.oversight import GONE, Account, report_record
from nvision_hub.status import LABEL_SETS_MAX, Meter
from tests.support.gateway import counted, facts, status
from workers.gateway import shown
from workers.gateway.fleet import Fleet
from workers.gateway.metrics import TOLD, Exposition
from workers.gateway.tally import Buckets, tally
from workers.gateway.track import EVERY_S, KEPT_S, Track

if TYPE_CHECKING:
    from nvision_hub.status import Status

LOBBY = "camera:lobby"


def account(fleet: Fleet, name: str = LOBBY, *, wall: float = 0.0, **fields: Any) -> None:
    told = Account(**{"name": name, "phase": "running", "facts": facts("lobby"), **fields})
    fleet.heed(Command.decode(told.encode()), wall=wall)


def report(fleet: Fleet, status: Status, name: str = LOBBY, *, wall: float = 0.0) -> None:
    fleet.heed(Command.decode(report_record(name, status.encode())), wall=wall)


def exposed(fleet: Fleet) -> dict[str, float]:
    """Every sample by its name and labels, as Prometheus' own parser reads them."""
    text = Exposition(fleet, site="here", version="1").text().decode()
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sent(fleet: Fleet) -> float | None:
    return exposed(fleet).get('nvision_hub_frames_sent_total{"camera": "lobby", "site": "here"}')


# Counters


def test_a_member_counts_on_where_its_last_process_ended() -> None:
    fleet = Fleet()
    account(fleet, pid=1)
    report(fleet, status(1, counted(frames_sent_total=7)))
    assert sent(fleet) == 7
    account(fleet, phase="waiting", due_in_s=1.0, restarts={"sigkill": 1}, past=counted(frames_sent_total=7).snapshot())
    assert sent(fleet) == 7
    account(fleet, pid=2, restarts={"sigkill": 1}, past=counted(frames_sent_total=7).snapshot())
    report(fleet, status(1, counted(frames_sent_total=7)))  # the dead one's, late
    assert sent(fleet) == 7
    report(fleet, status(2, counted(frames_sent_total=3)))
    assert sent(fleet) == 10


def test_of_a_process_older_than_the_gateway_nothing_is_told_before_it_has_reported() -> None:
    fleet = Fleet()
    account(fleet, pid=1, past=counted(frames_sent_total=7).snapshot())
    assert sent(fleet) is None, "7 would be less than what the gateway before this one has told"
    report(fleet, status(1, counted(frames_sent_total=3)))
    assert sent(fleet) == 10


def test_a_report_may_come_before_its_account() -> None:
    fleet = Fleet()
    account(fleet, pid=1)
    report(fleet, status(1, counted(frames_sent_total=7)))
    report(fleet, status(2, counted(frames_sent_total=1)))
    assert sent(fleet) == 7
    account(fleet, pid=2, past=counted(frames_sent_total=7).snapshot())
    assert sent(fleet) == 8


@given(
    st.lists(st.sampled_from(["count", "report", "die", "start", "restart the gateway", "late report"]), max_size=60)
)
def test_counters_never_go_back(steps: list[str]) -> None:
    """The supervisor's side is modelled as it is: an account at each change, past summed from last reports."""
    fleet, told = Fleet(), 0.0
    pid: int | None = 1
    past, meter, last, old = Meter(), Meter(), None, None
    account(fleet, pid=pid)
    for step in steps:
        match step:
            case "count":
                meter.count("frames_sent_total")
            case "report" if pid is not None:
                last = status(pid, meter)
                report(fleet, last)
            case "die" if pid is not None:
                if last is not None:
                    past.add(last.metrics)
                old, last, meter, pid = last or old, None, Meter(), None
                account(fleet, phase="waiting", past=past.snapshot())
            case "start" if pid is None:
                pid = 1 + (old.pid if old is not None else 1)
                account(fleet, pid=pid, past=past.snapshot())
            case "late report" if old is not None:
                report(fleet, old)
            case "restart the gateway":
                fleet = Fleet()
                account(fleet, pid=pid, phase="waiting" if pid is None else "running", past=past.snapshot())
            case _:
                pass
        now = sent(fleet)
        assert now is None or now >= told
        told = now if now is not None else told


def test_series_go_with_their_member() -> None:
    fleet = Fleet()
    exposition = Exposition(fleet, site="here", version="1")
    account(fleet, pid=1, restarts={"exit_1": 2})
    report(fleet, status(1, counted(frames_sent_total=7)))
    assert b'camera="lobby"' in exposition.text()
    fleet.heed(Command(verb=GONE, arguments={"name": LOBBY}), wall=0.0)
    assert b"lobby" not in exposition.text()


def test_every_metric_has_its_type_and_its_labels() -> None:
    fleet = Fleet()
    account(fleet, pid=1, restarts={"exit_1": 2})
    meter = counted(worker_cpu_seconds_total=1.5)
    meter.count("frames_dropped_total", reason="late")
    meter.count("detections_total", name='per"son\\\n')
    meter.count("service_requests_total")  # not a camera's
    meter.gauge("spool_events", 3)
    meter.gauge("frames_sent_total", 3)  # of the wrong type
    meter.observe("frame_age_seconds", 0.02)
    meter.observe("frame_age_seconds", 99)
    report(fleet, status(1, meter))
    account(fleet, "gateway", pid=9, facts={})
    by_callback = Meter()
    by_callback.count("results_received_total", camera="lobby")
    report(fleet, status(9, by_callback, state="serving"), "gateway")
    account(fleet, "hub", pid=3, facts={})
    reloads = Meter()
    reloads.count("config_reloads_total", outcome="taken")
    report(fleet, status(3, reloads), "hub")
    found = exposed(fleet)
    lobby = '"camera": "lobby"'
    assert found == found | {
        'nvision_hub_build_info{"version": "1"}': 1,
        f'nvision_hub_camera_up{{{lobby}, "site": "here"}}': 1,
        f'nvision_hub_camera_state{{{lobby}, "site": "here", "state": "streaming"}}': 1,
        f'nvision_hub_camera_state{{{lobby}, "site": "here", "state": "stalled"}}': 0,
        f'nvision_hub_worker_restarts_total{{{lobby}, "reason": "exit_1", "site": "here", "worker": "{LOBBY}"}}': 2,
        f'nvision_hub_worker_cpu_seconds_total{{{lobby}, "site": "here", "worker": "{LOBBY}"}}': 1.5,
        f'nvision_hub_frames_dropped_total{{{lobby}, "reason": "late", "site": "here"}}': 1,
        f'nvision_hub_results_received_total{{{lobby}, "site": "here", "via": "websocket"}}': 0,
        f'nvision_hub_results_received_total{{{lobby}, "site": "here", "via": "callback"}}': 1,
        f'nvision_hub_frame_age_seconds_bucket{{{lobby}, "le": "0.025", "site": "here"}}': 1,
        f'nvision_hub_frame_age_seconds_bucket{{{lobby}, "le": "+Inf", "site": "here"}}': 2,
        f'nvision_hub_frame_age_seconds_count{{{lobby}, "site": "here"}}': 2,
        'nvision_hub_config_reloads_total{"outcome": "taken", "site": "here"}': 1,
    }
    assert sum(found[name] for name in found if name.startswith("nvision_hub_camera_state")) == 1
    names = [
        json.loads(name.partition("{")[0] and "{" + name.partition("{")[2])["name"]
        for name in found
        if "detections" in name
    ]
    assert names == ['per"son\\\n']
    assert not any("service_requests" in name for name in found)
    text = Exposition(fleet, site="here", version="1").text().decode()
    for name, told in TOLD.items():
        assert f"# TYPE nvision_hub_{name} {told.kind}\n" in text
        assert f"# HELP nvision_hub_{name} {told.help}\n" in text


def test_endless_names_from_a_service_are_bounded_before_they_get_here() -> None:
    fleet, meter = Fleet(), Meter()
    account(fleet, pid=1)
    for number in range(2 * LABEL_SETS_MAX):
        meter.count("detections_total", name=f"name {number}")
    report(fleet, status(1, meter))
    assert sum("detections_total" in name for name in exposed(fleet)) == LABEL_SETS_MAX + 1


# States and errors


def test_states_and_since_when() -> None:
    fleet = Fleet()
    account(fleet, pid=1, wall=10.0)
    member = fleet.camera("lobby")
    assert member is not None
    assert (member.state, member.since) == ("starting", 10.0)
    report(fleet, status(1, Meter(), since=12.5), wall=13.0)
    assert (member.state, member.since) == ("streaming", 12.5)
    account(fleet, pid=None, phase="waiting", crash_loop=True, due_in_s=60.0, restarts={"exit_1": 5}, wall=20.0)
    assert (member.state, member.since) == ("crash_loop", 20.0)
    assert member.error == "its process keeps ending"
    account(fleet, pid=None, phase="ended", wall=30.0)
    assert (member.state, member.since) == ("stopped", 30.0)


def test_errors_are_kept_once_each_time_they_begin() -> None:
    fleet = Fleet()
    account(fleet, pid=1)
    for at, error in enumerate([None, "away", "away", None, "away", "refused"]):
        report(fleet, status(1, Meter(), error=error), wall=float(at))
    member = fleet.camera("lobby")
    assert member is not None
    assert list(member.errors) == [(1.0, "away"), (4.0, "away"), (5.0, "refused")]
    for at in range(100):
        report(fleet, status(1, Meter(), error=f"error {at}"), wall=float(at))
    assert len(member.errors) == 20


def test_what_is_no_status_is_passed_over() -> None:
    fleet = Fleet()
    account(fleet, pid=1)
    for bad in (b"[]", b"5", b'{"pid": 1}'):
        fleet.heed(Command.decode(report_record(LOBBY, bad)), wall=0.0)
    fleet.heed(Command(verb="unheard of"), wall=0.0)
    assert sent(fleet) is None


def test_cameras_come_in_the_order_of_their_file() -> None:
    fleet = Fleet()
    for index, name in ((2, "c"), (0, "b"), (1, "a")):
        account(fleet, f"camera:{name}", pid=1, facts={**facts(name), "index": index})
    assert [camera["id"] for camera in shown.cameras(fleet)] == ["b", "a", "c"]


def test_a_camera_as_it_is_shown() -> None:
    fleet = Fleet()
    account(fleet, pid=1, restarts={"sigkill": 2})
    meter = counted(frames_sent_total=10, results_received_total=4, results_published_total=3)
    meter.count("frames_dropped_total", reason="late", by=2)
    meter.count("results_lost_total", reason="unreadable")
    meter.count("camera_reconnects_total", reason="stalled")
    report(fleet, status(1, meter, last_result_at=60.0, last_frame_at=61.25))
    member = fleet.camera("lobby")
    assert member is not None
    camera = shown.camera(fleet, member)
    assert camera == camera | {
        "id": "lobby",
        "labels": {"floor": "1"},
        "state": "streaming",
        "sent": 10,
        "dropped": {"late": 2},
        "results_received": 4,
        "results_lost": {"unreadable": 1},
        "reconnects": {"camera": {"stalled": 1}, "uplink": {}},
        "restarts": {"sigkill": 2},
        "last_result_at": "1970-01-01T00:01:00.000Z",
        "last_picture_at": "1970-01-01T00:01:01.250Z",
        "seen": ["person"],
    }
    member.result_at, member.result_names = 70.0, ["car"]
    later = shown.camera(fleet, member)
    assert (later["last_result_at"], later["seen"]) == ("1970-01-01T00:01:10.000Z", ["car"])
    json.dumps(shown.detail(fleet, member))


# Quantiles and histories


@given(st.lists(st.floats(0.001, 20), min_size=1, max_size=200), st.sampled_from([0.5, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_the_value_that_it_stands_for(values: list[float], share: float) -> None:
    meter = Meter()
    for value in values:
        meter.observe("x", value)
    buckets = tally({}, meter.snapshot()).histograms["x"]
    found = buckets.quantile(share)
    assert found is not None
    exact = sorted(values)[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)]
    edges = [0.0, *buckets.bounds]
    for lower, upper in pairwise(edges):
        if lower < exact <= upper:
            assert lower <= found <= upper
            return
    assert found == edges[-1]  # beyond the last bound nothing more is known


def test_a_histogram_of_nothing_has_no_quantile() -> None:
    assert Buckets([1.0], [0, 0], 0.0).quantile(0.5) is None
    before = Buckets([1.0], [3, 0], 1.0)
    assert before.since(before).quantile(0.5) is None
    assert before.since(Buckets([2.0], [9, 9], 1.0)) == before


def test_quantiles_are_of_the_last_minute() -> None:
    track, meter = Track(), Meter()
    for _ in range(1000):
        meter.observe("frame_age_seconds", 9.0)
    for turn in range(100):
        for _ in range(5):
            meter.observe("frame_age_seconds", 0.02)
        track.record(2.0 * turn, tally({}, meter.snapshot()), rate_in=25.0, rate_out=5.0)
    age = track.age_s()
    assert age is not None
    assert age[1] <= 0.025
    assert track.round_trip_s() is None


def test_a_chart_has_gaps_where_turns_were_missed_and_holds_half_an_hour() -> None:
    track = Track()
    now = 0.0
    for turn in range(2000):
        now += EVERY_S if turn != 1990 else 5 * EVERY_S
        track.record(now + 0.3 * (turn % 2), None if turn == 1995 else tally({}, {}), rate_in=25.0, rate_out=None)
    points = track.points()
    assert {len(series) for series in points.values()} == {int(KEPT_S / EVERY_S)}
    assert points["rate_out"] == [None] * 900
    assert points["rate_in"][-14:] == [*[None] * 4, *[25.0] * 5, None, *[25.0] * 4]


def test_drops_are_told_by_reason_and_only_of_those_that_occurred() -> None:
    track, meter = Track(), Meter()
    meter.count("frames_dropped_total", by=50, reason="late")  # before anybody looked
    for turn in range(20):
        if turn >= 10:
            meter.count("frames_dropped_total", by=2, reason="uplink")
        known = None if turn in {5, 15} else tally({}, meter.snapshot())
        track.record(EVERY_S * turn, known, rate_in=None, rate_out=None)
    drops, total = track.dropped(), track.points()["dropped_per_s"]
    assert drops.keys() == {"uplink"}
    assert drops["uplink"] == total
    assert total[1:5] == [0.0] * 4
    assert (total[5], total[15], total[-1]) == (None, None, 1.0)


def test_what_occurred_half_an_hour_ago_is_told_no_more() -> None:
    track, meter = Track(), Meter()
    for turn in range(1000):
        if turn == 10:
            meter.count("frames_dropped_total", reason="late")
        track.record(EVERY_S * turn, tally({}, meter.snapshot()), rate_in=None, rate_out=None)
    assert track.dropped() == {}


def test_cpu_is_what_was_taken_lately_and_goes_on_over_a_restart() -> None:
    track = Track()
    for turn in range(20):
        track.record(
            2.0 * turn, tally({}, counted(worker_cpu_seconds_total=turn).snapshot()), rate_in=None, rate_out=None
        )
    assert track.cpu() == pytest.approx(0.5)
    past = counted(worker_cpu_seconds_total=19).snapshot()
    track.record(40.0, tally(past, counted(worker_cpu_seconds_total=1).snapshot()), rate_in=None, rate_out=None)
    assert track.cpu() == pytest.approx(0.5)
