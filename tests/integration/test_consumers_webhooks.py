"""The webhook receivers in docs/consumers.md, with the webhooks of a real hub."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest

from tests.support import files
from tests.support.receiver import OTHER_SECRET, SECRET

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

CAMERA = {"id": "lobby", "url": "file:clip.mp4", "fps": 5}


def port(running: Running) -> int:
    """Wait until a receiver listens. Return its port."""
    running.wait_for(lambda: re.match(r"port \d+\n", running.out))
    return int(running.out.split()[1])


def hook(name: str, receiver: Running, **more: Any) -> dict[str, Any]:
    url = f"http://127.0.0.1:{port(receiver)}/hook"
    return {"id": name, "url": url, "secret": SECRET, "allow_private": True, **more}


@pytest.mark.peer("Webhook receiver", "Koa", "npm:docs/examples:koa")
@pytest.mark.peer("Webhook receiver", "Standard Webhooks", "npm:docs/examples:standardwebhooks")
def test_both_receivers_get_the_deliveries_of_a_hub(
    start_hub: Callable[..., Hub],
    start_example: Callable[..., Running],
    recorder: Callable[..., Recorder],
    tmp_path: Path,
) -> None:
    plain = start_example("receive.mjs", cwd=tmp_path, port=0)
    signed = start_example("receive_signed.mjs", cwd=tmp_path, port=0, webhook_secret=SECRET)
    deceived = start_example("receive_signed.mjs", cwd=tmp_path, port=0, webhook_secret=OTHER_SECRET)
    rotated = start_example("receive_signed.mjs", cwd=tmp_path, port=0, webhook_secret=OTHER_SECRET)
    (tmp_path / "hub0").mkdir()
    files.write(tmp_path / "hub0" / "clip.mp4", full_range=False)
    hub = start_hub(
        [CAMERA],
        recorder(),
        webhooks=[
            hook("plain", plain, classes=["person"], min_confidence=0.5),
            hook("signed", signed),
            hook("deceived", deceived),
            hook("rotated", rotated, secret=[SECRET, OTHER_SECRET]),
        ],
    )
    # The recording service returns this detection. See tests/support/recorder_server.py.
    plain.wait_for(lambda: plain.out.count("person human 0.5 10 20 110 220\n") >= 5)
    for receiver in (signed, rotated):
        receiver.wait_for(lambda receiver=receiver: receiver.out.count(" lobby person\n") >= 5)  # type: ignore[misc]
    printed_ids = [line.split()[0] for line in signed.out.splitlines()[1:]]
    assert len(set(printed_ids)) == len(printed_ids)
    hub.wait_until(lambda: set(printed_ids) <= {event["hub"]["id"] for event in hub.events()})
    assert deceived.out.splitlines()[1:] == []

    def refused() -> bool:
        status: Any = hub._members["webhooks"]["status"] or {"metrics": {"counters": []}}
        return ["webhook_deliveries_total", "deceived", "http_error"] in [
            [name, labels.get("webhook"), labels.get("outcome")]
            for name, labels, count in status["metrics"]["counters"]
            if count
        ]

    hub.wait_until(refused)
    for receiver in (plain, signed, rotated):
        assert receiver.err == ""
