"""The OpenAPI document against what is really served: requests made from it, well and ill formed, find no 5xx."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import pytest
import redis
import simplejpeg

from nvision_hub.status import Meter
from tests.support.gateway import facts, status

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.link import Command
    from tests.support.gateway import Overseen

pytestmark = [pytest.mark.slow, pytest.mark.long]

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
TOKEN: Final = "canaryGatewayToken"  # of this test alone
EXAMPLES: Final = 10  # of each operation
WITHIN_S: Final = 400.0


def preview(camera: str) -> bytes:
    """A picture as a camera publishes it."""
    jpeg = bytes(simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8), 80))
    fields = {"camera": camera, "frame_id": "f1", "captured_at": 1.0, "width": 64, "height": 48, "sequence": 1}
    header = json.dumps(fields).encode()
    return len(header).to_bytes(4, "big") + header + jpeg


def test_no_request_that_can_be_made_from_it_breaks_anything(overseen: Callable[..., Overseen], tmp_path: Path) -> None:
    def answer(ask: Command) -> str | None:
        """A hub that does everything, and has its camera back at once."""
        match ask.verb, ask.arguments:
            case "add", {"camera": {"id": camera}} if camera != "lobby":
                one.account(f"camera:{camera}", facts=facts(camera))
            case "add", _:
                return "there is a camera lobby already"
            case "remove", {"camera": camera}:
                one.gone(f"camera:{camera}")
                if camera == "lobby":
                    one.camera("lobby")
            case "pass", {"verb": "watch", "target": target}:
                with redis.Redis.from_url(one.settings.stream.url) as broker:
                    broker.publish(f"nvision:previews:{target.removeprefix('camera:')}", preview("lobby"))
        return None

    one = overseen(answer=answer, token=TOKEN, callback_token="lobby")
    one.camera("lobby", last_frame_at=1.0, last_result_at=2.0)
    one.account("webhooks", pid=7, facts={"webhooks": [{"id": "alarms", "url": "https://example.com/***"}]})
    one.report("webhooks", status(7, Meter(), state="running", webhooks=[]))
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            "run",
            f"{one.url}/api/openapi.json",
            *("--checks", ",".join(CHECKS)),
            *("--phases", "examples,coverage,fuzzing"),
            *("--max-examples", str(EXAMPLES)),
            *("--seed", "1"),
            "--generation-deterministic",
            "--no-color",
            *("--header", f"Authorization: Bearer {TOKEN}"),
        ],
        cwd=tmp_path,
        env={**os.environ, "NO_PROXY": "*", "PYTHONWARNINGS": ""},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    told: Any = done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, told
    with one.client(TOKEN) as client:
        assert client.get("/api/v1/cameras").status_code == 200
        assert client.get("/healthz").status_code == 200
    assert {ask.verb for ask in one.asks} >= {"pause", "resume", "restart", "set", "add", "remove", "pass"}
