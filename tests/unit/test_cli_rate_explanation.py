"""The explanation of a camera's rate: one sentence for each limit that applies."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner

import nvision_hub.cli.commands.explain as explain_module
from nvision_hub.cli.rate_explanation import RateExplanation, explain_rate
from nvision_hub.errors import HubError
from nvision_hub.metrics import catalogue
from nvision_hub.runtime.messages import CameraFacts, ProcessChanged, ProcessInfo, StatusReported
from tests.support.fake_api import FakeApi
from tests.support.gateway import counted, facts, status
from workers.gateway.api.schemas import camera_detail, camera_history
from workers.gateway.state.fleet import FleetState

CONFIGURED = ("configuration", "fps is 5")


def camera(**changes: Any) -> dict[str, Any]:
    """Return a camera that sends all its frames, with these changes."""
    healthy = {
        "id": "lobby",
        "state": "streaming",
        "error": None,
        "fps": 5.0,
        "paused": False,
        "scheduled": None,
        "limited_by": None,
        "rate_in": 0.0,  # also while the rate is unknown
        "rate_out": 5.0,
        "worker": {"pid": 7, "cpu": 0.2, "memory_bytes": 1},
        "run_time": {"set": {}, "file": {}, "added": False},
        "settings": {"when": "always", "motion": {"idle_fps": 0.1}},
        "metrics": {"camera_target_fps": 5.0, "camera_idle": 0},
    }
    return healthy | changes


def history(*, rate_in: float | None = 25.0, round_trip_s: float | None = 0.1, **dropped: float) -> dict[str, Any]:
    return {
        "rate_in": [9.0, rate_in],
        "round_trip_p50_s": [9.0, round_trip_s],
        "dropped_by_reason_per_s": {reason: [9.0, rate] for reason, rate in dropped.items()},
    }


def limits(facts: dict[str, Any], past: dict[str, Any] | None = None) -> list[tuple[str, str]]:
    return [(each.limit, each.sentence) for each in explain_rate(facts, past or history()).limits]


def only_limit(facts: dict[str, Any], past: dict[str, Any] | None = None) -> tuple[str, str]:
    """Return the only limit after the configuration."""
    first, *more = limits(facts, past)
    assert first == CONFIGURED
    assert len(more) == 1, more
    return more[0]


def test_a_camera_that_sends_all_its_frames_has_only_its_configured_rate() -> None:
    assert limits(camera()) == [CONFIGURED]
    explained = explain_rate(camera(), history())
    assert (explained.camera, explained.state, explained.fps, explained.rate_out) == ("lobby", "streaming", 5.0, 5.0)
    assert explained.limits[0].max_fps == 5.0


def test_a_rate_that_was_set_at_run_time_shows_the_rate_of_the_file() -> None:
    changed = camera(fps=2.0, run_time={"set": {"fps": 2.0}, "file": {"fps": 5.0}, "added": False})
    changed["metrics"]["camera_target_fps"] = 2.0
    assert limits(changed) == [("configuration", "fps is 2, set at run time; cameras.yaml has 5")]
    added = camera(run_time={"set": {}, "file": {}, "added": True})
    assert limits(added) == [("configuration", "fps is 5, of a camera that was added at run time")]


def test_a_pause_by_an_operator_hides_all_other_limits() -> None:
    paused = camera(state="paused", paused=True, scheduled="1/s until 06:00", rate_out=0.0, limited_by="the ledger")
    assert only_limit(paused) == ("pause", "an operator has paused the camera; resume it: nvision-hub resume lobby")


def test_a_schedule_shows_its_rate_or_its_pause() -> None:
    slow = camera(scheduled="0.5/s until 06:00", rate_out=0.5, metrics={"camera_target_fps": 0.5})
    assert only_limit(slow) == ("schedule", "the schedule sets 0.5/s until 06:00")
    assert explain_rate(slow, history()).limits[1].max_fps == 0.5
    paused = camera(state="paused", scheduled="paused until 13:00", rate_out=0.0, metrics={"camera_target_fps": 0.0})
    assert only_limit(paused) == ("schedule", "the schedule sets paused until 13:00")


@pytest.mark.parametrize("state", ["starting", "connecting", "auth_failed", "unreachable", "crash_loop", "stopped"])
def test_a_camera_without_frames_shows_its_state_and_error(state: str) -> None:
    down = camera(state=state, error="connection refused by 10.0.0.5:554", rate_in=0.0, rate_out=0.0)
    assert only_limit(down) == ("state", f"the camera is in the state {state}: connection refused by 10.0.0.5:554")
    silent = camera(state=state, rate_in=0.0, rate_out=0.0, metrics={})
    assert only_limit(silent)[1].endswith("the hub has not reported a cause yet")


def test_without_motion_the_idle_rate_applies() -> None:
    idle = camera(rate_out=0.1, settings={"when": "motion", "motion": {"idle_fps": 0.1}})
    idle["metrics"] |= {"motion_active": 0}
    sentence = "nothing moves, so the hub sends 0.1 frames per second (when: motion, motion.idle_fps)"
    assert only_limit(idle) == ("motion", sentence)
    rare = idle | {"fps": 0.05, "metrics": {"camera_target_fps": 0.05, "motion_active": 0}}
    assert limits(rare) == [("configuration", "fps is 0.05")]
    moving = camera(settings=idle["settings"])
    moving["metrics"] |= {"motion_active": 1}
    assert limits(moving) == [CONFIGURED]


def test_a_camera_that_reports_no_motion_sends_nothing() -> None:
    idle = camera(rate_out=0.0, settings={"when": "motion", "motion": {"idle_fps": 0.1}})
    idle["metrics"] |= {"motion_active": 0, "camera_idle": 1}
    limit, sentence = only_limit(idle)
    assert (limit, sentence.split(",")[0]) == ("motion", "the camera reports no motion")
    assert explain_rate(idle, history()).limits[1].max_fps == 0.0


def test_a_camera_that_delivers_too_few_frames_is_named() -> None:
    slow = camera(rate_in=1.1, rate_out=1.1)
    sentence = "the camera delivers only 1.1 frames per second; raise its frame rate, or lower fps"
    assert only_limit(slow, history(rate_in=1.1)) == ("camera", sentence)


@pytest.mark.parametrize("rate_in", [0.0, None])
def test_a_camera_that_delivers_few_frames_on_purpose_is_healthy(rate_in: float | None) -> None:
    rare = camera(fps=0.1, rate_out=0.0, metrics={"camera_target_fps": 0.1})
    assert limits(rare, history(rate_in=rate_in)) == [("configuration", "fps is 0.1")]


def test_an_unknown_rate_of_the_camera_is_no_limit() -> None:
    assert limits(camera(), history(rate_in=None)) == [CONFIGURED]
    assert limits(camera(), history() | {"rate_in": []}) == [CONFIGURED]


@pytest.mark.parametrize("key", ["settings", "metrics", "worker"])
def test_a_hub_of_an_older_version_must_be_restarted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    older = camera(rate_out=2.0)
    del older[key]
    bodies = {"/cameras": {"cameras": [older]}, "/cameras/lobby": older, "/cameras/lobby/history": history(late=1.0)}
    monkeypatch.setattr(explain_module, "ApiClient", lambda _chosen: FakeApi(bodies))
    with pytest.raises(
        HubError, match=f"the hub runs an older version, which does not report '{key}'; restart the hub"
    ):
        CliRunner().invoke(explain_module.explain, ["lobby"], catch_exceptions=False)


def test_damaged_frames_are_named() -> None:
    torn = camera(rate_out=3.0)
    sentence = "1.5 frames per second are damaged on the way from the camera"
    assert only_limit(torn, history(torn=1.5)) == ("camera", sentence)
    assert only_limit(torn, history(torn=0.04))[0] == "unknown", "too few to mention"


@pytest.mark.parametrize(
    ("limited_by", "limit"),
    [
        ("the site's images_per_day", "budget"),
        ("the camera's images_per_hour", "budget"),
        ("the site's images_per_second", "account_rate"),
        ("the ledger's disk", "budget"),
        ("the ledger, which does not run", "budget"),
    ],
)
def test_a_limit_of_images_is_named(limited_by: str, limit: str) -> None:
    limited = camera(rate_out=1.0, limited_by=limited_by)
    assert only_limit(limited) == (limit, f"limited by {limited_by}")
    withheld = f"limited by {limited_by}, which withholds 4.0 frames per second"
    assert only_limit(limited, history(budget=4.0)) == (limit, withheld)


def test_a_slow_service_is_named_by_its_round_trip() -> None:
    slow = camera(rate_out=2.0)
    limit, sentence = only_limit(slow, history(overwritten=3.0, round_trip_s=4.8))
    assert limit == "service"
    assert sentence.startswith("a result comes 4.8 s after its frame; the hub waits for results and skips 3.0 frames")


def test_a_slow_camera_has_a_longer_round_trip_before_the_service_counts_as_slow() -> None:
    rare = camera(fps=0.5, rate_out=0.3, metrics={"camera_target_fps": 0.5})
    assert limits(rare, history(overwritten=0.2, round_trip_s=3.0))[1][0] == "machine"
    assert limits(rare, history(overwritten=0.2, round_trip_s=8.0))[1][0] == "service"


@pytest.mark.parametrize("round_trip_s", [0.2, None])
def test_frames_that_are_replaced_before_a_fast_service_needs_them_name_the_machine(round_trip_s: float | None) -> None:
    limit, sentence = only_limit(camera(rate_out=2.0), history(overwritten=3.0, round_trip_s=round_trip_s))
    assert limit == "machine"
    assert sentence.startswith("newer frames replace 3.0 frames per second before they are sent")


def test_late_frames_name_the_machine_with_its_load_and_the_error() -> None:
    late = camera(rate_out=2.0, error="this machine is too busy", worker={"pid": 7, "cpu": 0.98, "memory_bytes": 1})
    sentence = (
        "3.0 frames per second arrive or are decoded too late; the worker uses 1.0 CPU cores; the camera's error is: "
        "this machine is too busy"
    )
    assert only_limit(late, history(late=3.0)) == ("machine", sentence)
    unknown = camera(rate_out=2.0, worker={"pid": 7, "cpu": None, "memory_bytes": None})
    assert only_limit(unknown, history(late=3.0))[1] == "3.0 frames per second arrive or are decoded too late"


@pytest.mark.parametrize(("reason", "limit"), [("lease", "lease"), ("uplink", "service")])
def test_frames_without_a_lease_or_a_connection_are_named(reason: str, limit: str) -> None:
    found, sentence = only_limit(camera(rate_out=2.0), history(**{reason: 3.0}))
    assert found == limit
    assert "3.0 frames per second" in sentence


def test_a_low_rate_without_a_limit_is_admitted() -> None:
    limit, sentence = only_limit(camera(rate_out=3.0))
    assert limit == "unknown"
    assert sentence.startswith("no limit explains the lower rate")
    assert limits(camera(fps=0.2, rate_out=0.0, metrics={})) == [("configuration", "fps is 0.2")], "too few frames"


def test_limits_are_in_the_order_in_which_they_apply() -> None:
    limited = camera(
        scheduled="4/s until 06:00",
        rate_out=0.1,
        limited_by="the site's images_per_day",
        settings={"when": "motion", "motion": {"idle_fps": 1.0}},
        metrics={"camera_target_fps": 4.0, "motion_active": 0},
    )
    past = history(rate_in=2.0, late=1.0, overwritten=1.0, uplink=1.0, lease=1.0, torn=1.0, budget=1.0)
    names = [limit for limit, _ in limits(limited, past)]
    assert names == [
        *("configuration", "schedule", "motion", "camera", "camera", "budget"),
        *("lease", "service", "machine", "machine"),
    ]


def explained_by_gateway(facts: CameraFacts, *, run: bool = True, **info: Any) -> RateExplanation:
    """Explain a camera in the form in which the gateway describes it."""
    fleet = FleetState()
    changed = ProcessInfo(name="camera:lobby", phase="running", pid=1 if run else None, facts=facts)
    fleet.on_message(ProcessChanged(info=changed), wall=0.0)
    meter = counted(frames_sent_total=7)
    meter.set_gauge(catalogue.CAMERA_TARGET_FPS, 5.0)
    if run:
        fleet.on_message(StatusReported(name="camera:lobby", status=status(1, meter, **info)), wall=0.0)
    for second in (0.0, 2.0, 4.0):
        meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="budget", by=8)
        if run:
            fleet.on_message(StatusReported(name="camera:lobby", status=status(1, meter, **info)), wall=0.0)
        fleet.record(second)
    process = fleet.camera("lobby")
    assert process is not None
    shown = json.loads(json.dumps([camera_detail(fleet, process), camera_history(process)]))
    return explain_rate(*shown)


def test_the_gateway_provides_all_facts() -> None:
    limited = explained_by_gateway(facts("lobby"), limited_by="the site's images_per_day", rate_in=9.0, rate_out=1.0)
    assert [(each.limit, each.sentence) for each in limited.limits] == [
        CONFIGURED,
        ("budget", "limited by the site's images_per_day, which withholds 4.0 frames per second"),
    ]


def test_a_camera_whose_settings_are_unknown_is_explained() -> None:
    unknown = explained_by_gateway(CameraFacts(index=0), run=False)
    assert [each.limit for each in unknown.limits] == ["state"]
