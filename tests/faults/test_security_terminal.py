"""Text from cameras, Redis and the gateway that would control a terminal or end a command."""

from __future__ import annotations

import json
import logging
import os
import re
import time
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub import cli
from nvision_hub.cli.terminal import console
from nvision_hub.errors import HubError
from nvision_hub.logs.formatters import JsonFormatter, TextFormatter
from nvision_hub.metrics.meter import Meter
from tests.support import command, hub
from tests.support.gateway import facts, status
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.gateway import SupervisedGateway
    from tests.support.onvif_camera import OnvifNetwork
    from tests.support.redis_server import KeptValkey

pytestmark = pytest.mark.fault

ESCAPES: Final = "a\x1b]0;owned\x07\x1b[2J\x9b31m\x7fz"
CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
CAMERA: Final = {"id": "lobby", "url": "rtsp://10.0.0.5/stream1"}


@pytest.mark.parametrize(
    "xaddrs", ["http://10.0.0.9[/", "http://10.0.0.9:99999/", "http://10.0.0.9\x9b2J/", "http:///"]
)
def test_discover_ignores_invalid_addresses(onvif_network: OnvifNetwork, xaddrs: str) -> None:
    onvif_network.add(name="Hostile", onvif_port=8081, xaddrs=xaddrs)
    onvif_network.add(name="Gate", onvif_port=8082, rtsp_port=8555)
    done = onvif_network.run("discover", "--seconds", "2")
    assert done.returncode == 0, done.stderr
    assert "- id: gate" in done.stdout
    assert "Found 1 camera." in done.stderr
    assert not CONTROL.search(done.stdout + done.stderr)
    measured(
        74,
        "invalid addresses from ONVIF devices",
        injected=f"answer to `discover` with the address `{ascii(xaddrs)[1:-1]}`",
        target="the other devices are found",
        measured="the other device is printed; no control character on the terminal",
    )


def event(camera: str, **more: Any) -> dict[str, Any]:
    origin = {"camera": camera, "received_at": "2026-11-22T14:00:00.120Z", "captured_at": None}
    return {"source_id": camera, "detected_objects": [], "hub": origin, **more}


@pytest.mark.parametrize("options", [(), ("--json",)])
def test_tail_prints_no_control_characters(
    kept_valkey: Callable[..., KeptValkey],
    start_command: Callable[..., Running],
    tmp_path: Path,
    options: tuple[str, ...],
) -> None:
    broker = kept_valkey()
    broker.start()
    hub.write(tmp_path, [CAMERA], None, redis={"url": broker.url})
    running = start_command("tail", *options, cwd=tmp_path)
    hostile = [
        b"\x1b]0;owned\x07",
        b"[" * 100_000,
        json.dumps(event(ESCAPES), ensure_ascii=False).encode(),
        json.dumps(event("gate", detected_objects=[{"name": ESCAPES, "confidence": 1}]), ensure_ascii=False).encode(),
        json.dumps(
            event("old") | {"hub": {**event("old")["hub"], "received_at": "0001-01-01T00:00:00+23:00"}}
        ).encode(),
        json.dumps(event("huge")).encode().replace(b"[]", b"[" + b"9" * 5000 + b"]"),
    ]
    with redis.Redis.from_url(broker.url) as client:
        deadline = time.monotonic() + PATIENCE_S
        while not client.publish(f"nvision:results:{ESCAPES}", hostile[0]):
            assert time.monotonic() < deadline
        for message in (*hostile[1:], json.dumps(event("last")).encode()):
            client.publish("nvision:results:lobby", message)
    running.wait_for(lambda: "last" in running.out)
    assert "owned" in running.out
    assert "ignored a message that is not an event" in running.out + running.err
    assert not CONTROL.search(running.out + running.err)
    for line in running.out.splitlines() if options else ():
        json.loads(line)
    measured(
        75,
        "escape sequences for the terminal",
        injected=f"{len(hostile)} forged messages in Redis for `tail{' --json' if options else ''}`, with ESC and C1 "
        "in the channel, camera and names",
        target="no control character on the terminal",
        measured="none; invalid messages are skipped",
    )


def test_status_prints_no_control_characters(start_gateway: Callable[..., SupervisedGateway], tmp_path: Path) -> None:
    """The gateway shows what other hubs have written to Redis."""
    one = start_gateway()
    pid = os.getpid()
    one.set_process(f"camera:{ESCAPES}", pid=pid, started_at=time.monotonic(), facts=facts(ESCAPES))
    one.report(f"camera:{ESCAPES}", status(pid, Meter(), state=f"up{ESCAPES}", seen=(ESCAPES,)))
    one.set_process(f"relay@{ESCAPES}", phase=f"waiting{ESCAPES}")
    hub.write(tmp_path, [CAMERA], None)
    state_dir = tmp_path / "state"
    state_dir.mkdir(mode=0o700)
    endpoints = {"pid": pid, "site": "test", "redis": f"redis://{ESCAPES}", "prefix": "nvision", "service": None}
    (state_dir / "hub.json").write_text(json.dumps(endpoints | {"demo": None, "gateway": one.url}))
    for arguments in (("status",), ("status", "--json"), ("pause", "unknown")):
        done = command.run(*arguments, cwd=tmp_path)
        assert done.returncode == (2 if "pause" in arguments else 0), done.stderr
        assert "pause" in arguments or "owned" in done.stdout
        assert not CONTROL.search(done.stdout + done.stderr), arguments
    measured(
        75,
        "escape sequences for the terminal",
        injected="ids, states and addresses with ESC and C1 from another hub, for `status` and `pause`",
        target="no control character on the terminal",
        measured="none",
    )


def test_errors_and_logs_contain_no_control_characters(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise HubError(f"one {ESCAPES}\ntwo")

    monkeypatch.setattr(cli, "_invoke", fail)
    assert cli.main([]) == 1
    shown = capsys.readouterr().err
    assert shown.splitlines()[1] == "two"
    record = logging.makeLogRecord({"msg": ESCAPES, "levelname": "WARNING"})
    for text in (shown, TextFormatter().format(record), JsonFormatter().format(record)):
        assert "owned" in text
        assert not CONTROL.search(text)


@given(text=st.text(st.characters(max_codepoint=0x2FF)))
def test_a_console_prints_no_control_characters(text: str) -> None:
    out = console()
    with out.capture() as captured:
        out.print(text)
    assert not CONTROL.search(captured.get())
