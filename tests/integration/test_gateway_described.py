"""Valid and invalid requests generated from the OpenAPI document cause no server error."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import numpy as np
import pytest
import redis
import simplejpeg

from nvision_hub.runtime.messages import AddCamera, Forward, RemoveCamera, Request, RequestPreview, WebhooksFacts
from nvision_hub.runtime.status import Status, WebhooksInfo
from tests.support.gateway import facts

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.gateway import SupervisedGateway

pytestmark = [pytest.mark.slow, pytest.mark.long]

CHECKS: Final = (
    "not_a_server_error",
    "status_code_conformance",
    "content_type_conformance",
    "response_schema_conformance",
    "negative_data_rejection",
    "unsupported_method",
)
TOKEN: Final = "canaryGatewayToken"  # used in this test only
EXAMPLES: Final = 10  # per operation
TIMEOUT_S: Final = 400.0


def preview(camera: str) -> bytes:
    """Return a preview in the format that camera workers publish."""
    jpeg = bytes(simplejpeg.encode_jpeg(np.zeros((48, 64, 3), np.uint8), 80))
    fields = {"camera": camera, "frame_id": "f1", "captured_at": 1.0, "width": 64, "height": 48, "sequence": 1}
    header = json.dumps(fields).encode()
    return len(header).to_bytes(4, "big") + header + jpeg


def test_generated_requests_cause_no_errors(start_gateway: Callable[..., SupervisedGateway], tmp_path: Path) -> None:
    def answer(request: Request) -> str | None:
        """Carry out every request. If the camera `lobby` is removed, add it again immediately."""
        match request:
            case AddCamera(entry={"id": str(camera)}) if camera != "lobby":
                one.set_process(f"camera:{camera}", facts=facts(camera))
            case AddCamera():
                return "camera lobby already exists"
            case RemoveCamera(camera=camera):
                one.remove_process(f"camera:{camera}")
                if camera == "lobby":
                    one.camera("lobby")
            case Forward(target=target, message=RequestPreview()):
                with redis.Redis.from_url(one.settings.stream.url) as broker:
                    broker.publish(f"nvision:previews:{target.removeprefix('camera:')}", preview("lobby"))
        return None

    one = start_gateway(answer=answer, token=TOKEN, callback_token="lobby")
    one.camera("lobby", last_frame_at=1.0, last_result_at=2.0)
    one.set_process(
        "webhooks", pid=7, facts=WebhooksFacts(webhooks=({"id": "alarms", "url": "https://example.com/***"},))
    )
    one.report("webhooks", Status(pid=7, state="running", info=WebhooksInfo(webhooks=())))
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
        timeout=TIMEOUT_S,
        check=False,
    )
    output: Any = done.stdout[-6000:] + done.stderr[-2000:]
    assert done.returncode == 0, output
    with one.client(TOKEN) as client:
        assert client.get("/api/v1/cameras").status_code == 200
        assert client.get("/healthz").status_code == 200
    assert {type(request) for request in one.requests} >= set(get_args(Request))
