"""The fleet's state: counters that never decrease, states, errors, summaries and histories."""

from __future__ import annotations

import json
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.metrics.snapshot import MAX_LABEL_SETS, Buckets, MetricSnapshot
from nvision_hub.runtime.messages import ProcessChanged, ProcessInfo, ProcessRemoved, Reply, StatusReported
from tests.support.gateway import counted, facts, status
from workers.gateway.api.schemas import camera_detail, camera_summaries, camera_summary
from workers.gateway.state.fleet import FleetState
from workers.gateway.state.fleet_metrics import FleetMetrics
from workers.gateway.state.history import HISTORY_S, INTERVAL_S, MetricHistory

if TYPE_CHECKING:
    from nvision_hub.runtime.status import Status

LOBBY = "camera:lobby"


def set_process(fleet: FleetState, name: str = LOBBY, *, wall: float = 0.0, **fields: Any) -> None:
    info = ProcessInfo(**{"name": name, "phase": "running", "facts": facts("lobby"), **fields})
    fleet.on_message(ProcessChanged(info=info), wall=wall)


def report(fleet: FleetState, status: Status, name: str = LOBBY, *, wall: float = 0.0) -> None:
    fleet.on_message(StatusReported(name=name, status=status), wall=wall)


def samples(fleet: FleetState) -> dict[str, float]:
    """Return every sample by name and labels, as read by the Prometheus parser."""
    text = FleetMetrics(fleet, site="here").text().decode()
    return {
        f"{sample.name}{json.dumps(sample.labels, sort_keys=True)}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def sent(fleet: FleetState) -> float | None:
    return samples(fleet).get('nvision_hub_frames_sent_total{"camera": "lobby", "site": "here"}')


# Counters


def test_counters_continue_after_a_restart() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1)
    report(fleet, status(1, counted(frames_sent_total=7)))
    assert sent(fleet) == 7
    set_process(
        fleet,
        phase="waiting",
        due_in_s=1.0,
        restarts={"sigkill": 1},
        past=counted(frames_sent_total=7).snapshot(),
    )
    assert sent(fleet) == 7
    set_process(fleet, pid=2, restarts={"sigkill": 1}, past=counted(frames_sent_total=7).snapshot())
    report(fleet, status(1, counted(frames_sent_total=7)))  # a late status from the process that has ended
    assert sent(fleet) == 7
    report(fleet, status(2, counted(frames_sent_total=3)))
    assert sent(fleet) == 10


def test_a_process_older_than_the_gateway_has_no_samples_before_its_status() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1, past=counted(frames_sent_total=7).snapshot())
    assert sent(fleet) is None, "the previous gateway reported more than 7"
    report(fleet, status(1, counted(frames_sent_total=3)))
    assert sent(fleet) == 10


def test_a_status_may_arrive_before_its_description() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1)
    report(fleet, status(1, counted(frames_sent_total=7)))
    report(fleet, status(2, counted(frames_sent_total=1)))
    assert sent(fleet) == 7
    set_process(fleet, pid=2, past=counted(frames_sent_total=7).snapshot())
    assert sent(fleet) == 8


@given(
    st.lists(st.sampled_from(["count", "report", "die", "start", "restart the gateway", "late report"]), max_size=60)
)
def test_counters_never_decrease(steps: list[str]) -> None:
    """The test acts as the supervisor: each change sends a description with the counters of all earlier processes."""
    fleet, previous = FleetState(), 0.0
    pid: int | None = 1
    past, meter, last, old = MetricSnapshot(), Meter(), None, None
    set_process(fleet, pid=pid)
    for step in steps:
        match step:
            case "count":
                meter.count(catalogue.FRAMES_SENT_TOTAL)
            case "report" if pid is not None:
                last = status(pid, meter)
                report(fleet, last)
            case "die" if pid is not None:
                if last is not None:
                    past = past.merge(last.metrics)
                old, last, meter, pid = last or old, None, Meter(), None
                set_process(fleet, phase="waiting", past=past)
            case "start" if pid is None:
                pid = 1 + (old.pid if old is not None else 1)
                set_process(fleet, pid=pid, past=past)
            case "late report" if old is not None:
                report(fleet, old)
            case "restart the gateway":
                fleet = FleetState()
                set_process(fleet, pid=pid, phase="waiting" if pid is None else "running", past=past)
            case _:
                pass
        now = sent(fleet)
        assert now is None or now >= previous
        previous = now if now is not None else previous


def test_the_series_of_a_removed_process_disappear() -> None:
    fleet = FleetState()
    exposition = FleetMetrics(fleet, site="here")
    set_process(fleet, pid=1, restarts={"exit_1": 2})
    report(fleet, status(1, counted(frames_sent_total=7)))
    assert b'camera="lobby"' in exposition.text()
    fleet.on_message(ProcessRemoved(name=LOBBY), wall=0.0)
    assert b"lobby" not in exposition.text()


def test_every_metric_has_its_type_and_its_labels() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1, restarts={"exit_1": 2})
    meter = counted(worker_cpu_seconds_total=1.5)
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="late")
    meter.count(catalogue.DETECTIONS_TOTAL, name='per"son\\\n')
    meter.count(catalogue.SERVICE_REQUESTS_TOTAL)  # cameras do not have this metric
    meter.set_gauge(catalogue.SPOOL_EVENTS, 3)
    meter.observe(catalogue.FRAME_AGE_SECONDS, 0.02)
    meter.observe(catalogue.FRAME_AGE_SECONDS, 99)
    sent_as_gauge = status(1, meter)
    sent_as_gauge.metrics.gauges["frames_sent_total", ()] = 3  # wrong type: this is a counter
    report(fleet, sent_as_gauge)
    set_process(fleet, "gateway", pid=9, facts=None)
    by_callback = Meter()
    by_callback.count(catalogue.RESULTS_RECEIVED_TOTAL, camera="lobby")
    report(fleet, status(9, by_callback, state="serving"), "gateway")
    set_process(fleet, "hub", pid=3, facts=None)
    reloads = Meter()
    reloads.count(catalogue.CONFIG_RELOADS_TOTAL, outcome="taken")
    report(fleet, status(3, reloads), "hub")
    found = samples(fleet)
    lobby = '"camera": "lobby"'
    assert found == found | {
        'nvision_hub_build_info{"version": "0.1.0"}': 1,
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
    text = FleetMetrics(fleet, site="here").text().decode()
    for name, metric in catalogue.METRICS.items():
        assert (f"# TYPE nvision_hub_{name} {metric.type}\n" in text) is metric.exposed
        assert (f"# HELP nvision_hub_{name} {metric.help}\n" in text) is metric.exposed


def test_names_of_detections_are_bounded() -> None:
    fleet, meter = FleetState(), Meter()
    set_process(fleet, pid=1)
    for number in range(2 * MAX_LABEL_SETS):
        meter.count(catalogue.DETECTIONS_TOTAL, name=f"name {number}")
    report(fleet, status(1, meter))
    assert sum("detections_total" in name for name in samples(fleet)) == MAX_LABEL_SETS + 1


# States and errors


def test_each_state_has_the_time_it_was_entered() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1, wall=10.0)
    member = fleet.camera("lobby")
    assert member is not None
    assert (member.state, member.since) == ("starting", 10.0)
    report(fleet, status(1, Meter(), since=12.5), wall=13.0)
    assert (member.state, member.since) == ("streaming", 12.5)
    set_process(fleet, pid=None, phase="waiting", crash_loop=True, due_in_s=60.0, restarts={"exit_1": 5}, wall=20.0)
    assert (member.state, member.since) == ("crash_loop", 20.0)
    assert member.error == "the process keeps ending"
    set_process(fleet, pid=None, phase="ended", wall=30.0)
    assert (member.state, member.since) == ("stopped", 30.0)


def test_an_error_is_recorded_once_each_time_it_begins() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1)
    for at, error in enumerate([None, "away", "away", None, "away", "refused"]):
        report(fleet, status(1, Meter(), error=error), wall=float(at))
    member = fleet.camera("lobby")
    assert member is not None
    assert list(member.errors) == [(1.0, "away"), (4.0, "away"), (5.0, "refused")]
    for at in range(100):
        report(fleet, status(1, Meter(), error=f"error {at}"), wall=float(at))
    assert len(member.errors) == 20


def test_a_message_about_no_known_process_changes_nothing() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1)
    report(fleet, status(1, Meter()), "camera:unknown")
    fleet.on_message(Reply(request_id="n1", error=None), wall=0.0)
    assert list(fleet.processes) == [LOBBY]
    assert sent(fleet) is None


def test_cameras_are_in_the_order_of_the_configuration() -> None:
    fleet = FleetState()
    for index, name in ((2, "c"), (0, "b"), (1, "a")):
        set_process(fleet, f"camera:{name}", pid=1, facts=facts(name, index=index))
    assert [camera["id"] for camera in camera_summaries(fleet)] == ["b", "a", "c"]


def test_a_summary_contains_the_counts_of_a_camera() -> None:
    fleet = FleetState()
    set_process(fleet, pid=1, restarts={"sigkill": 2})
    meter = counted(frames_sent_total=10, results_received_total=4, results_published_total=3)
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="late", by=2)
    meter.count(catalogue.RESULTS_LOST_TOTAL, reason="unreadable")
    meter.count(catalogue.CAMERA_RECONNECTS_TOTAL, reason="stalled")
    report(fleet, status(1, meter, last_result_at=60.0, last_frame_at=61.25))
    member = fleet.camera("lobby")
    assert member is not None
    camera = camera_summary(fleet, member)
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
    member.result_at, member.result_names = 70.0, ("car",)
    later = camera_summary(fleet, member)
    assert (later["last_result_at"], later["seen"]) == ("1970-01-01T00:01:10.000Z", ["car"])
    json.dumps(camera_detail(fleet, member))


# Quantiles and histories


@given(st.lists(st.floats(0.001, 20), min_size=1, max_size=200), st.sampled_from([0.5, 0.99]))
def test_a_quantile_lies_in_the_bucket_of_its_value(values: list[float], share: float) -> None:
    meter = Meter()
    for value in values:
        meter.observe(catalogue.PUBLISH_SECONDS, value)
    buckets = meter.snapshot().histograms.get(catalogue.PUBLISH_SECONDS.name)
    assert buckets is not None
    found = buckets.quantile(share)
    assert found is not None
    exact = sorted(values)[max(0, -(-int(share * 1000) * len(values) // 1000) - 1)]
    edges = [0.0, *buckets.bounds]
    for lower, upper in pairwise(edges):
        if lower < exact <= upper:
            assert lower <= found <= upper
            return
    assert found == edges[-1]  # a value above the last bound counts as the bound


def test_an_empty_histogram_has_no_quantile() -> None:
    assert Buckets((1.0,), (0, 0), 0.0).quantile(0.5) is None
    before = Buckets((1.0,), (3, 0), 1.0)
    assert before.since(before).quantile(0.5) is None
    assert before.since(Buckets((2.0,), (9, 9), 1.0)) == before


def test_quantiles_are_of_the_last_minute() -> None:
    track, meter = MetricHistory(), Meter()
    for _ in range(1000):
        meter.observe(catalogue.FRAME_AGE_SECONDS, 9.0)
    for turn in range(100):
        for _ in range(5):
            meter.observe(catalogue.FRAME_AGE_SECONDS, 0.02)
        track.record(2.0 * turn, meter.snapshot(), rate_in=25.0, rate_out=5.0)
    age = track.quantiles("age")
    assert age is not None
    assert age["p99"] <= 0.025
    assert track.quantiles("round_trip") is None


def test_a_chart_has_gaps_for_missed_intervals_and_holds_half_an_hour() -> None:
    track = MetricHistory()
    now = 0.0
    for turn in range(2000):
        now += INTERVAL_S if turn != 1990 else 5 * INTERVAL_S
        track.record(now + 0.3 * (turn % 2), None if turn == 1995 else MetricSnapshot(), rate_in=25.0, rate_out=None)
    points: dict[str, Any] = {**track.points()}
    assert {len(series) for series in points.values()} == {int(HISTORY_S / INTERVAL_S)}
    assert points["rate_out"] == [None] * 900
    assert points["rate_in"][-14:] == [*[None] * 4, *[25.0] * 5, None, *[25.0] * 4]


def test_drops_have_the_reasons_that_occurred() -> None:
    track, meter = MetricHistory(), Meter()
    assert track.dropped_counts() is None
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, by=50, reason="late")  # these drops happened before the first sample
    for turn in range(20):
        if turn >= 10:
            meter.count(catalogue.FRAMES_DROPPED_TOTAL, by=2, reason="uplink")
        known = None if turn in {5, 15} else meter.snapshot()
        track.record(INTERVAL_S * turn, known, rate_in=None, rate_out=None)
    drops, total = track.dropped(), track.points()["dropped_per_s"]
    assert drops.keys() == {"uplink"}
    assert drops["uplink"] == total
    assert total[1:5] == [0.0] * 4
    assert (total[5], total[15], total[-1]) == (None, None, 1.0)
    assert track.dropped_counts() == {"late": 50, "uplink": 20}


def test_drops_older_than_half_an_hour_disappear() -> None:
    track, meter = MetricHistory(), Meter()
    for turn in range(1000):
        if turn == 10:
            meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="late")
        track.record(INTERVAL_S * turn, meter.snapshot(), rate_in=None, rate_out=None)
    assert track.dropped() == {}


def test_cpu_is_recent_and_continues_over_a_restart() -> None:
    track = MetricHistory()
    for turn in range(20):
        track.record(2.0 * turn, counted(worker_cpu_seconds_total=turn).snapshot(), rate_in=None, rate_out=None)
    assert track.cpu() == pytest.approx(0.5)
    past = counted(worker_cpu_seconds_total=19).snapshot()
    track.record(40.0, past.merge(counted(worker_cpu_seconds_total=1).snapshot()), rate_in=None, rate_out=None)
    assert track.cpu() == pytest.approx(0.5)
