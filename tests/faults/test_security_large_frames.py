"""A camera that sends frames of 67 megapixels, and clients that make the gateway decode them."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Final

import httpx2
import numpy as np
import pytest
import simplejpeg

from nvision_hub.media.memory_limits import MAX_PIXELS
from tests.support.connections import memory_bytes
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]

SIDE: Final = 8_190  # pixels
REQUESTS: Final = 8
MIB: Final = 2**20


@pytest.fixture
def large_snapshots() -> Iterator[str]:
    """Serve one JPEG of `SIDE` x `SIDE` pixels. Yield its address, as a camera's URL."""
    assert SIDE**2 < MAX_PIXELS, "a camera's worker sends these frames"
    jpeg = bytes(simplejpeg.encode_jpeg(np.zeros((SIDE, SIDE, 3), np.uint8), 85, "RGB", "420"))

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("content-type", "image/jpeg")
            self.send_header("content-length", str(len(jpeg)))
            self.end_headers()
            self.wfile.write(jpeg)

        def log_message(self, *_arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
        thread.start()
        yield f"snapshot+http://127.0.0.1:{server.server_port}/image.jpg"
        server.shutdown()
        thread.join()


def test_large_frames_take_no_memory_in_the_gateway(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder], large_snapshots: str
) -> None:
    hub = start_hub([{"id": "large", "url": large_snapshots, "fps": 1}], recorder(), gateway=True)
    hub.wait_for_results("large", 1)
    url, pid = hub.gateway(), hub.member_pid("gateway")
    before = memory_bytes(pid)

    def answer(path: str) -> tuple[int, str]:
        # A busy machine may not send the next frame in time (404). The attack consists of requests that find a frame.
        deadline = time.monotonic() + PATIENCE_S
        while True:
            found = httpx2.get(f"{url}/api/v1/cameras/large/{path}", timeout=PATIENCE_S, trust_env=False)
            if found.status_code != 404 or time.monotonic() > deadline:
                return found.status_code, found.json()["code"] if found.status_code != 200 else ""

    with ThreadPoolExecutor(REQUESTS) as clients:
        for path in ("tuning", "tuning?max_width=640", "snapshot.jpg?boxes=1"):
            assert set(clients.map(answer, [path] * REQUESTS)) == {(409, "frame_too_large")}, path
    assert httpx2.get(f"{url}/healthz", timeout=PATIENCE_S, trust_env=False).status_code == 200
    assert hub.member_pid("gateway") == pid
    taken = memory_bytes(pid) - before
    assert taken < 256 * MIB, f"{taken / MIB:.0f} MiB"
    measured(
        62,
        "frames of 67 megapixels",
        injected=f"a camera with frames of {SIDE} x {SIDE} pixels, and {REQUESTS} requests at once that decode them",
        target="requests rejected, memory bounded",
        measured=f"all rejected with 409; the gateway's peak memory rose by {taken / MIB:.0f} MiB",
    )
