"""Attacks that try to make a running hub write a secret to its log, to Redis, to metrics or into an API response."""

from __future__ import annotations

import base64
import contextlib
import json
import re
import signal
import socketserver
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
import redis

from tests.support import command
from tests.support.hub import broker_url, write
from tests.support.needs import program
from tests.support.patience import PATIENCE_S
from tests.support.redis_server import answering
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.redis_server import DebianRedis

pytestmark = [pytest.mark.fault, pytest.mark.long]

CANARY: Final = "Canary"
TOKEN: Final = "CanaryGatewayToken5f0c8e2b7d94413aa6b1de3870c952f4"
NOWHERE: Final = "rtsp://127.0.0.1:9/stream1"
WEBHOOK_SECRET: Final = "whsec_" + base64.b64encode(b"CanaryWebhookSecretOf32Bytes....").decode()

ACCEPTED: Final[dict[str, dict[str, Any]]] = {
    "password": {"url": NOWHERE, "username": "viewer", "password": "CanaryPassword"},
    "key": {"url": NOWHERE, "nvision": {"streaming_key": "CanaryStreamingKey"}},
    "userinfo": {"url": "rtsp://viewer:CanaryUserinfo@127.0.0.1:9/stream1"},
    "latin": {"url": "rtsp://viewer:CanaryLatin%E9@127.0.0.1:9/stream1"},
    "query": {"url": "http://127.0.0.1:9/video.mjpg?user=viewer&password=CanaryQuery"},
    "snapshot": {"url": "snapshot+http://127.0.0.1:9/image.jpg?token=CanarySnapshot"},
    "path": {"url": "rtsp://127.0.0.1:9/user=viewer&password=CanaryPath&channel=1"},
}
REJECTED: Final[dict[str, dict[str, Any]]] = {
    "no-number": {"url": NOWHERE, "password": "CanaryNoNumber", "fps": "CanaryFps"},
    "list": {"url": NOWHERE, "password": ["CanaryList"]},
    "scheme": {"url": "rstp://viewer:CanaryScheme@127.0.0.1:9/stream1"},
    "ambiguous": {"url": "rtsp://viewer:Canary@Ambiguous/@host@other/stream1"},
    "control": {"url": f"{NOWHERE}\r\nCanaryControl", "password": "CanaryControl"},
    "key-with-space": {"url": NOWHERE, "nvision": {"streaming_key": "Canary Key"}},
    "misplaced": {"url": NOWHERE, "streaming_key": "CanaryMisplaced"},
    "mistyped": {"url": NOWHERE, "pasword": "CanaryMistyped"},
    "twice": {"url": "rtsp://viewer:CanaryTwice@127.0.0.1:9/", "password": "CanaryTwice"},
    "surrogate": {"url": NOWHERE, "password": "CanarySurrogate\ud800"},
    "file": {"url": "file:CanaryFile.mp4", "password": "CanaryFile"},
    "lobby": {"url": NOWHERE, "password": "CanaryDuplicate"},
}


def found_in(text: str | bytes) -> list[str]:
    """Return the places in `text` that show a canary, each with the text around it."""
    shown = text.decode(errors="replace") if isinstance(text, bytes) else text
    return re.findall(rf".{{0,60}}{CANARY}.{{0,60}}", shown)


def found_in_files(state_dir: Path) -> list[str]:
    """Return the canaries in the files of a state_dir, except in the private file that restores added cameras."""
    files = [file for file in state_dir.rglob("*") if file.is_file() and file.name != "run-time.json"]
    return [f"{file}: {place}" for file in files for place in found_in(file.read_bytes())]


def start(start_command: Callable[..., Running], folder: Path, *arguments: str) -> tuple[Running, httpx2.Client]:
    """Start a hub and return it with a client of its API once the gateway listens."""
    running = start_command("start", *arguments, cwd=folder, env={"CAMERA_PASSWORD": "CanaryVariable"})
    running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
    url = re.findall(r"gateway listening at (\S+)", running.err)[-1]
    return running, httpx2.Client(
        base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S, trust_env=False
    )


def stop(running: Running) -> None:
    running.process.terminate()
    assert running.wait() == 0


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline, "the condition is not met"
        time.sleep(0.05)


@pytest.mark.parametrize("level", ["info", "debug"])
def test_cameras_added_at_run_time_expose_no_secret(
    level: str, tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    in_file = {"id": "lobby", "url": "rtsp://viewer:${CAMERA_PASSWORD}@127.0.0.1:9/stream1"}
    hook = {"id": "alarms", "url": "https://example.com/CanaryHook?token=CanaryHookToken", "secret": WEBHOOK_SECRET}
    gateway = {"listen": "127.0.0.1:0", "token": TOKEN, "callback_token": "CanaryCallbackToken0123"}
    write(tmp_path, [in_file], None, gateway=gateway, webhooks=[hook])
    running, client = start(start_command, tmp_path, "--log-level", level)
    places: list[str] = []
    with client:

        def search(response: httpx2.Response) -> None:
            places.extend(f"{response.request.url.path}: {place}" for place in found_in(response.text))

        def post(camera: str, entry: dict[str, Any]) -> httpx2.Response:
            content = json.dumps({"id": camera, **entry}).encode()
            return client.post("/api/v1/cameras", content=content, headers={"content-type": "application/json"})

        for camera, entry in ACCEPTED.items():
            response = post(camera, entry)
            assert response.status_code == 201, response.text
            search(response)
        for camera, entry in REJECTED.items():
            response = post(camera, entry)
            assert response.status_code in {409, 422}, (camera, response.text)
            search(response)
        search(client.patch("/api/v1/cameras/password", json={"fps": 2}))
        search(client.patch("/api/v1/cameras/password", json={"fps": "CanaryPatch"}))
        search(client.post("/callback/CanaryCallbackToken0123", content=b"no JSON"))
        search(client.get("/api/v1/nothing", params={"token": TOKEN}))
        wait_for(lambda: all(client.get(f"/api/v1/cameras/{camera}").json()["error"] for camera in ACCEPTED))
        file = tmp_path / "cameras.yaml"
        file.write_text(json.dumps({**json.loads(file.read_text()), "cameras": [{**in_file, "fps": 2}]}))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(lambda: "cameras.yaml reloaded" in running.err)
        cameras = [f"cameras/{camera}{part}" for camera in ACCEPTED for part in ("", "/history")]
        for path in ("/metrics", *(f"/api/v1/{name}" for name in ("hub", "cameras", "webhooks", *cameras))):
            search(client.get(path))
        with redis.Redis.from_url(broker_url(tmp_path / "state")) as broker:
            dumps = {key: broker.dump(key) or b"" for key in broker.keys("*")}
        assert dumps
        places += [f"{key}: {place}" for key, dump in dumps.items() for place in found_in(dump)]
    stop(running)
    again, client = start(start_command, tmp_path, "--log-level", level)
    client.close()
    again.wait_for(lambda: "run-time overrides still in effect" in again.err)
    stop(again)
    places += found_in(running.err) + found_in(again.err) + found_in_files(tmp_path / "state")
    assert places == []
    measured(
        72,
        "secrets of cameras added through the API",
        injected=f"{len(ACCEPTED)} accepted and {len(REJECTED)} rejected cameras with canaries; reload, restart; log "
        f"level {level}",
        target="no canary in responses, log, Redis or files",
        measured="none found",
    )


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.sendall(self.request.recv(65536))


@pytest.fixture
def echo_port() -> Iterator[int]:
    """Port of a TCP server that sends each request back."""
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Echo) as server:
        server.daemon_threads = True
        threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


def test_an_endpoint_that_echoes_the_request_puts_no_secret_into_log_or_api(
    tmp_path: Path, start_command: Callable[..., Running], echo_port: int
) -> None:
    hook = {
        "id": "alarms",
        "url": f"http://127.0.0.1:{echo_port}/services/CanaryHook?token=CanaryHookToken",
        "secret": WEBHOOK_SECRET,
        "allow_private": True,
    }
    write(tmp_path, [{"id": "lobby", "url": NOWHERE}], None, gateway={"listen": "127.0.0.1:0", "token": TOKEN},
          webhooks=[hook])  # fmt: skip
    running, client = start(start_command, tmp_path)
    with client:

        def is_paused() -> bool:
            with contextlib.suppress(httpx2.HTTPStatusError):  # the dispatcher is still starting
                client.post("/api/v1/webhooks/alarms/test").raise_for_status()
            return "deliveries are paused" in running.err

        def row() -> dict[str, Any]:
            (webhook,) = client.get("/api/v1/webhooks").json()["webhooks"]
            return dict(webhook)

        wait_for(is_paused)
        wait_for(lambda: row()["last_error"])  # arrives with the next status report
        webhook = row()
        with redis.Redis.from_url(broker_url(tmp_path / "state")) as broker:
            stored = [found_in(broker.dump(key) or b"") for key in broker.keys("*")]
    stop(running)
    assert "POST" in webhook["last_error"], "the error no longer quotes the endpoint"
    assert found_in(json.dumps(webhook)) == []
    assert not any(stored), stored
    assert found_in(running.err) + found_in_files(tmp_path / "state") == []
    measured(
        73,
        "peers that quote secrets",
        injected="webhook endpoint that sends the request back, with the token of its path",
        target="no canary in log, API or Redis",
        measured="the error quotes the request without the token",
    )


def test_a_redis_that_quotes_the_password_puts_no_secret_into_log_or_api(
    tmp_path: Path, start_command: Callable[..., Running], debian_redis: Callable[..., DebianRedis]
) -> None:
    broker = debian_redis(password="CanaryRedisPassword")
    gateway = {"listen": "127.0.0.1:0", "token": TOKEN}
    write(tmp_path, [{"id": "lobby", "url": NOWHERE}], None, gateway=gateway, redis={"url": broker.url})
    running, client = start(start_command, tmp_path)
    broker.kill()
    # A Redis without AUTH answers: unknown command 'AUTH', with args beginning with: 'CanaryRedisPassword'.
    options = {"port": broker.port, "bind": "127.0.0.1", "dir": tmp_path, "save": ""}
    renamed = [str(word) for name, value in options.items() for word in (f"--{name}", value)]
    renamed += ["--rename-command", "AUTH", ""]
    with subprocess.Popen([program("redis-server", "redis-server"), *renamed], stdout=subprocess.DEVNULL) as other:
        try:
            answering(f"redis://127.0.0.1:{broker.port}")
            with client:
                wait_for(lambda: "unknown command" in str(client.get("/api/v1/cameras/lobby").json()["error"])
                         or "unknown command" in client.get("/api/v1/hub").text)  # fmt: skip
                shown = client.get("/api/v1/cameras/lobby").text + client.get("/api/v1/hub").text
            stop(running)
        finally:
            other.kill()
    assert found_in(shown) == []
    assert found_in(running.err) + found_in_files(tmp_path / "state") == []
    measured(
        73,
        "peers that quote secrets",
        injected="Redis that quotes the password in its error",
        target="no canary in log or API",
        measured="the error is shown without the password",
    )


def test_warnings_and_stray_errors_of_libraries_show_no_secret(tmp_path: Path) -> None:
    write(tmp_path, [{"id": "lobby", "url": NOWHERE, "password": 'Canary Password\u00e9"'}], None)
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.careless_program", tmp_path / "cameras.yaml"],
        env=command.environment(),
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=True,
    )
    for route in ("message", "argument", "representation", "JSON", "URL", "header", "warning", "traceback",
                  "thread", "finalizer", "crash"):  # fmt: skip
        for process in ("hub", "careless"):
            assert re.search(rf"{process}  .*{route}|{route} .*{process}", done.stderr), (route, done.stderr)
    assert found_in(done.stderr + done.stdout) == []
    assert "Password" not in done.stderr
