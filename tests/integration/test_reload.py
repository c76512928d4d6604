"""Reload of cameras.yaml in a running hub: effects on its processes and on the frames that the service receives."""

from __future__ import annotations

import json
import os
import signal
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from tests.support.hub import Hub
    from tests.support.recorder import Received, Recorder

STREET: Final = {"id": "street", "url": "demo://street", "fps": 5}
PARKING: Final = {"id": "parking", "url": "demo://parking", "fps": 5}


def rewrite(hub: Hub, cameras: Sequence[dict[str, Any]], **more: Any) -> None:
    """Change cameras.yaml like an editor: write a new file and replace the old one with it."""
    file = hub.folder / "cameras.yaml"
    content = json.loads(file.read_text()) | {"cameras": list(cameras)} | more
    draft = hub.folder / "draft"
    draft.write_text(json.dumps(content))
    draft.replace(file)


def both_streaming(start_hub: Callable[..., Hub], service: Recorder) -> Hub:
    hub = start_hub([STREET, PARKING], service)
    service.wait_for(3, "street")
    service.wait_for(3, "parking")
    hub.wait_for_results("street", 3)
    hub.wait_for_results("parking", 3)
    return hub


def pids(hub: Hub) -> tuple[int | None, int | None]:
    return hub.camera("street").pid, hub.camera("parking").pid


def typical_gap_s(records: Sequence[Received]) -> float:
    """Return the lower quartile of the seconds between captures. On a busy machine, dropped frames leave gaps."""
    gaps_s = sorted(later.created - earlier.created for earlier, later in pairwise(records))
    return gaps_s[len(gaps_s) // 4]


def test_the_four_run_time_settings_change_without_a_restart(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    service = recorder()
    hub = both_streaming(start_hub, service)
    before = pids(hub)
    tuned = {
        "fps": 10,
        "jpeg_quality": 50,
        "max_width": 640,
        "nvision": {"confidence_threshold": 0.7},
    }
    rewrite(hub, [STREET | tuned, PARKING])
    hub.wait_until(lambda: "camera:street is reconfigured" in hub.log())
    service.wait_for(len(service.received("street")) + 25, "street")
    newest = service.received("street")[-10:]
    assert typical_gap_s(newest) == pytest.approx(0.1, rel=0.3)
    assert all(("ConfidenceThreshold", "0.7") in [tuple(pair) for pair in record.configurations] for record in newest)
    hub.wait_until(lambda: bool(hub.events("street")) and hub.events("street")[-1]["hub"]["width"] == 640)
    assert pids(hub) == before
    assert [hub.camera(name).restarts for name in ("street", "parking")] == [0, 0]


def test_a_schedule_changes_the_rate_and_pauses_until_it_is_removed(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    service = recorder()
    hub = start_hub([STREET | {"schedule": [{"fps": 10}]}], service)
    hub.wait_for_results("street", 3)
    hub.wait_until(lambda: hub.camera("street").info["scheduled"] == "10/s")
    assert hub.camera("street").metrics["camera_target_fps"] == 10
    service.wait_for(len(service.received("street")) + 25, "street")
    newest = service.received("street")[-15:]
    assert typical_gap_s(newest) == pytest.approx(0.1, rel=0.3)
    rewrite(hub, [STREET | {"schedule": [{"paused": True}]}])
    hub.wait_until(lambda: hub.camera("street").state == "paused")
    assert hub.camera("street").info["scheduled"] == "paused"
    assert hub.camera("street").metrics["camera_target_fps"] == 0
    paused_at = len(service.received("street"))
    rewrite(hub, [STREET])
    hub.wait_until(lambda: hub.camera("street").state == "streaming")
    service.wait_for(paused_at + 3, "street")
    assert hub.camera("street").info["scheduled"] is None


@pytest.mark.long
def test_adding_and_removing_cameras_affects_no_other(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    service = recorder()
    hub = both_streaming(start_hub, service)
    street, parking = pids(hub)
    (hub.folder / "cameras.d").mkdir()
    crossing = {"id": "crossing", "url": "demo://crossing", "fps": 5}
    (hub.folder / "cameras.d" / "crossing.yaml").write_text(json.dumps({"cameras": [crossing]}))
    rewrite(hub, [PARKING], include="cameras.d/*.yaml")
    service.wait_for(3, "crossing")
    hub.wait_until(lambda: street is not None and not psutil.pid_exists(street))
    ended = len(service.received("street"))
    service.wait_for(len(service.received("parking")) + 10, "parking")
    assert len(service.received("street")) == ended
    assert hub.camera("parking").pid == parking
    assert len(hub.events("street")) == ended, "results of frames sent before the removal are published"


@pytest.mark.long
def test_a_changed_address_restarts_that_camera(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    service = recorder()
    hub = both_streaming(start_hub, service)
    street, parking = pids(hub)
    rewrite(hub, [STREET, PARKING | {"url": "demo://crossing"}])
    hub.wait_until(lambda: hub.camera("parking").pid not in {None, parking})
    hub.wait_for_results("parking", 3)
    assert hub.camera("street").pid == street


@pytest.mark.long
def test_an_invalid_file_is_rejected_and_the_previous_one_stays_active(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    service = recorder()
    hub = both_streaming(start_hub, service)
    before = pids(hub)
    rewrite(hub, [STREET | {"fps": 0}, PARKING | {"colour": "red"}, {"id": "new", "url": "demo://crossing"}])
    hub.wait_until(lambda: "reload of cameras.yaml rejected" in hub.log())
    assert "cameras[0].fps" in hub.log()
    assert "cameras[1].colour" in hub.log()
    service.wait_for(len(service.received("street")) + 10, "street")
    assert pids(hub) == before
    assert "camera:new" not in hub.members()
    rewrite(hub, [STREET, PARKING | {"fps": 2}])
    hub.wait_until(lambda: "camera:parking is reconfigured" in hub.log())


@pytest.mark.long
def test_a_changed_symlink_of_a_configmap_is_detected(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder], tmp_path: Path
) -> None:
    service = recorder()
    hub = start_hub([STREET], service)
    hub.wait_for_results("street", 1)
    file = hub.folder / "cameras.yaml"
    for version in ("one", "two"):
        (hub.folder / version).mkdir()
    content = json.loads(file.read_text())
    (hub.folder / "one" / "cameras.yaml").write_text(json.dumps(content))
    (hub.folder / "two" / "cameras.yaml").write_text(json.dumps(content | {"cameras": [STREET | {"fps": 2}]}))
    # In a Kubernetes ConfigMap mount, the file is a link into ..data, and ..data is a link to the version's folder.
    (hub.folder / "..data").symlink_to("one")
    link = tmp_path / "link"
    link.symlink_to(os.path.join("..data", "cameras.yaml"))  # noqa: PTH118 - a relative link is wanted
    link.replace(file)
    hub.wait_until(lambda: "cameras.yaml reloaded" in hub.log())
    swapped = hub.folder / "..swapped"
    swapped.symlink_to("two")
    swapped.replace(hub.folder / "..data")
    hub.wait_until(lambda: "camera:street is reconfigured" in hub.log())


def test_sighup_reads_the_file_again(start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]) -> None:
    hub = start_hub([STREET], recorder())
    hub.wait_for_results("street", 1)
    hub.process.send_signal(signal.SIGHUP)
    hub.wait_until(lambda: "cameras.yaml reloaded" in hub.log())
    assert hub.camera("street").restarts == 0


@pytest.mark.long
@pytest.mark.parametrize("key", ["state_dir"])
def test_settings_that_need_a_restart_cannot_change(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder], key: str
) -> None:
    hub = start_hub([STREET], recorder())
    hub.wait_for_results("street", 1)
    rewrite(hub, [STREET], **{key: "elsewhere"})
    hub.wait_until(lambda: f"{key}: cannot change while the hub runs" in hub.log())
