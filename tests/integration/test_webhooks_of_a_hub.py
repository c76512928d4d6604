"""Webhooks of a complete hub: cameras.yaml, deliveries and commands."""

from __future__ import annotations

import json
import os
import signal
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.cli.options import SinceParam
from nvision_hub.config.load import load
from nvision_hub.hub.composition import plan
from nvision_hub.runtime.messages import WebhooksFacts
from tests.support import command
from tests.support.clips import H264_720P
from tests.support.receiver import OTHER_SECRET, SECRET
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.hub import Hub
    from tests.support.receiver import Receiver
    from tests.support.recorder import Recorder
    from tests.support.rtsp import GstCamera

KILLS = 3  # five kills a minute would cause a crash loop


def hooks(it: Receiver, **more: Any) -> list[dict[str, Any]]:
    return [{"id": "alarms", "url": it.url(), "secret": SECRET, "allow_private": True, **more}]


def test_webhooks_start_a_dispatcher_and_no_camera_waits_for_it(
    tmp_path: Path, receiver: Callable[..., Receiver]
) -> None:
    file = tmp_path / "cameras.yaml"
    content = {"version": 1, "cameras": [{"id": "lobby", "url": "rtsp://10.0.0.5/"}]}
    file.write_text(json.dumps(content), encoding="utf-8")
    assert "webhooks" not in [child.name for child in plan(load(file)).children]
    file.write_text(json.dumps({**content, "webhooks": hooks(receiver())}), encoding="utf-8")
    (child,) = (child for child in plan(load(file)).children if child.name == "webhooks")
    camera = next(child for child in plan(load(file)).children if child.name == "camera:lobby")
    assert child.stage < camera.stage, "the dispatcher stops after the cameras"
    assert not child.awaited
    assert isinstance(child.facts, WebhooksFacts)
    assert child.facts.webhooks[0]["id"] == "alarms"
    assert SECRET not in json.dumps(child.facts.webhooks)
    assert "/hook" not in json.dumps(child.facts.webhooks)
    assert SECRET not in repr(child.settings)


@pytest.mark.long
@pytest.mark.fault
def test_results_arrive_despite_dispatcher_kills_and_a_changed_file(
    start_hub: Callable[..., Hub],
    gst_camera: Callable[..., GstCamera],
    recorder: Callable[..., Recorder],
    receiver: Callable[..., Receiver],
) -> None:
    camera, it = gst_camera(H264_720P), receiver()
    lobby = {"id": "lobby", "url": camera.url(), "fps": 10}
    hub = start_hub([lobby], recorder(), webhooks=hooks(it))
    worker = killed = None
    for _ in range(KILLS):
        seen = len(it.accepted())
        it.wait_until(lambda seen=seen: len(it.accepted()) > seen + 5)  # type: ignore[misc]
        worker = worker or hub.pid("camera:lobby")
        hub.wait_until(lambda killed=killed: hub.pid("webhooks") not in {None, killed})  # type: ignore[misc]
        killed = hub.member_pid("webhooks")
        os.kill(killed, signal.SIGKILL)
    expected = {event["hub"]["id"] for event in hub.events()}
    it.wait_until(lambda: expected <= set(it.accepted()))
    hub.wait_until(lambda: hub.restarts()["webhooks"] >= KILLS)
    seen = len(set(it.accepted()))  # a killed dispatcher delivers some results twice
    file = hub.folder / "cameras.yaml"
    content = json.loads(file.read_text(encoding="utf-8"))
    content["webhooks"] = hooks(it, secret=[OTHER_SECRET, SECRET])
    new = file.with_suffix(".new")
    new.write_text(json.dumps(content), encoding="utf-8")
    new.replace(file)
    it.wait_until(lambda: " " in it.deliveries()[-1].headers["webhook-signature"])
    assert hub.pid("camera:lobby") == worker, "a changed webhook does not affect cameras"
    given = command.run("replay", "--webhook", "alarms", "--since", "1h", "--json", cwd=hub.folder)
    assert given.returncode == 0, given.stderr
    queued = json.loads(given.stdout)["queued"]
    assert queued >= seen
    published = len(hub.events())
    it.wait_until(lambda: len(it.accepted()) >= published + queued)
    shown = command.run("dead-letters", "--json", cwd=hub.folder)
    assert (shown.returncode, shown.stdout) == (0, "")
    assert hub.stop() == 0
    measured(
        46,
        "dispatcher of a complete hub killed during delivery",
        injected=f"kill -9, {KILLS} times, with a camera at 10 results/s",
        target="each delivered at least once with the same webhook-id",
        measured=f"all {published} results delivered; the camera's worker keeps running; "
        "the supervisor restarts the dispatcher",
    )


@pytest.mark.long
def test_webhook_commands_report_errors(tmp_path: Path, receiver: Callable[..., Receiver]) -> None:
    content = {"version": 1, "cameras": [{"id": "lobby", "url": "rtsp://10.0.0.5/"}], "nvision": {"url": "local"}}
    file = tmp_path / "cameras.yaml"
    file.write_text(json.dumps({**content, "webhooks": hooks(receiver())}), encoding="utf-8")
    for arguments, code, message in (
        (("replay", "--since", "1h"), 2, "Missing option '--webhook'"),
        (("replay", "--webhook", "alarms"), 2, "give either --since or --dead"),
        (("replay", "--webhook", "alarms", "--since", "1h", "--dead"), 2, "give either --since or --dead"),
        (("replay", "--webhook", "alarm", "--dead"), 2, "did you mean `alarms`?"),
        (("replay", "--webhook", "alarms", "--since", "yesterday"), 2, "is not a time"),
        (("replay", "--webhook", "alarms", "--since", "999999d"), 2, "is not a time"),
        (("replay", "--webhook", "alarms", "--dead"), 69, "no hub is running with the state_dir"),
        (("dead-letters", "--webhook", "zzz"), 2, "choose from alarms"),
        (("dead-letters",), 69, "no hub is running with the state_dir"),
    ):
        done = command.run(*arguments, cwd=tmp_path)
        assert (done.returncode, done.stdout) == (code, ""), done.stderr
        assert message in done.stderr
    file.write_text(json.dumps({**content, "redis": {"url": "redis://127.0.0.1:9"}, "webhooks": hooks(receiver())}))
    done = command.run("replay", "--webhook", "alarms", "--since", "2026-11-22T14:00", cwd=tmp_path)
    assert done.returncode == 69
    assert "no Redis answers at redis://127.0.0.1:9" in done.stderr


@pytest.mark.parametrize(("text", "ago_s"), [("90s", 90), ("15min", 900), ("15m", 900), ("1h", 3600), ("2 d", 172_800)])
def test_since_accepts_a_duration(text: str, ago_s: float) -> None:
    passed = datetime.now(UTC) - SinceParam().convert(text, None, None)
    assert ago_s - 1 < passed.total_seconds() < ago_s + 60
