"""Changes in run-time.json that the API refuses today: stored by an earlier version, or edited into the file."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from tests.support.hub import write
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running

pytestmark = [pytest.mark.fault, pytest.mark.long]


def test_a_restart_restores_no_change_that_the_api_would_refuse(
    tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    write(tmp_path, [{"id": "lobby", "url": "rtsp://127.0.0.1:9/"}], None, gateway={"listen": "127.0.0.1:0"})
    (tmp_path / "private.mp4").write_bytes(b"private")
    added: dict[str, Any] = {
        "clip": {"id": "clip", "url": f"file:{tmp_path / 'private.mp4'}"},
        "spelled": {"id": "spelled", "url": f" FILE:{tmp_path / 'private.mp4'}"},
        "yard": {"id": "yard", "url": "rtsp://127.0.0.1:9/"},
    }
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    stored = {"settings": {"lobby": {"fps": -5}}, "added": added}
    (state_dir / "run-time.json").write_text(json.dumps(stored), encoding="utf-8")

    running = start_command("start", cwd=tmp_path)
    running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
    url = re.findall(r"gateway listening at (\S+)", running.err)[-1]
    with httpx2.Client(base_url=url, timeout=PATIENCE_S, trust_env=False) as client:

        def rejected() -> float:
            found = re.findall(
                r"^nvision_hub_overrides_rejected_total\S* (\S+)$", client.get("/metrics").text, re.MULTILINE
            )
            return sum(map(float, found))

        cameras = {camera["id"]: camera for camera in client.get("/api/v1/cameras").json()["cameras"]}
        assert sorted(cameras) == ["lobby", "yard"]
        assert cameras["lobby"]["run_time"]["set"] == {}
        running.wait_for(lambda: rejected() == 3)
        assert client.post("/api/v1/cameras/lobby/pause").is_success
    running.process.terminate()
    assert running.wait() == 0
    assert running.err.count("stored run-time change of ") == 3
    kept = json.loads((state_dir / "run-time.json").read_text(encoding="utf-8"))
    assert kept["added"] == added
    assert kept["settings"] == stored["settings"]
    measured(
        69,
        "changes that the API refuses, in run-time.json",
        injected="an added camera that reads a file, in two spellings, and a negative rate; hub started",
        target="not restored, counted, kept in the file",
        measured="three rejected and counted; the valid camera of the same file runs",
    )
