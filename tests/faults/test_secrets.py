"""Put a canary into every setting that holds a secret, and search every output of the hub for the canaries.

The search skips the environment of the hub's processes, because users put secrets there for `${VAR}`.
"""

from __future__ import annotations

import base64
import contextlib
import json
import resource
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx2
import psutil
import pytest
import redis
from websockets.sync.client import connect

from nvision_hub.config.load import load
from nvision_hub.hub import composition
from tests.support import clips, command
from tests.support import hub as hub_support
from tests.support.reliability import measured
from tests.support.secret_search import USER, SecretSearch, forms

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running
    from tests.support.http_camera import HttpCamera
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder
    from tests.support.redis_server import DebianRedis
    from tests.support.rtsp import GstCamera

pytestmark = [pytest.mark.fault, pytest.mark.long]

SMALL: Final = clips.ClipSpec(codec="h264", width=640, height=360, kbit_s=800, gop_s=1.0, seconds=2)
LARGE: Final = clips.ClipSpec(codec="h264", width=3840, height=2160, kbit_s=8000, gop_s=1.0, seconds=1)
# Each password has two parts around characters with a meaning in URLs, because a leak may contain only one part.
PASSWORDS: Final = {name: f"{name}Kx81vQ@/:#?{name}Zw47mT" for name in ("inUrl", "inKeys", "wrong", "away", "redis")}
TOKENS: Final = {
    name: f"{name}Rf52pL{name}Gh63nB5f0c8e2b7d94413a" for name in ("key", "refusedKey", "gateway", "callback")
}
WEBHOOK: Final = "whsec_" + base64.b64encode(b"webhookSecretOfThirtyTwoBytes!!!").decode()
SECRETS: Final = {**PASSWORDS, **TOKENS, "webhook": WEBHOOK.removeprefix("whsec_")}


@dataclass(kw_only=True)
class Site:
    """A configuration with a canary in every setting for a secret, and the servers that require these secrets."""

    folder: Path
    gst: GstCamera
    cameras: list[dict[str, Any]]
    more: dict[str, Any]
    env: dict[str, str]


@pytest.fixture
def site(
    tmp_path: Path,
    gst_camera: Callable[..., GstCamera],
    http_camera: Callable[..., HttpCamera],
    recorder: Callable[..., Recorder],
) -> Site:
    gst = gst_camera(SMALL, user=USER, password=PASSWORDS["inUrl"])
    http = http_camera(user=USER, password=PASSWORDS["inKeys"], auth="basic")
    service, refusing = recorder(), recorder(status=401)
    (tmp_path / "webhook-secret").write_text(WEBHOOK)
    bare = f"rtsp://127.0.0.1:{gst.port}/cam"
    cameras: list[dict[str, Any]] = [
        {"id": "in-url", "url": gst.url()},
        {
            "id": "in-keys",
            "url": http.url(credentials=False),
            "username": USER,
            "password": "${CAMERA_PASSWORD}",
        },
        {"id": "wrong", "url": bare, "username": USER, "password": PASSWORDS["wrong"]},
        {"id": "away", "url": f"rtsp://{USER}:{quote(PASSWORDS['away'], safe='')}@127.0.0.1:9/stream1"},
        {
            "id": "refused",
            "url": gst.url(),
            "nvision": {"url": refusing.url, "streaming_key": TOKENS["refusedKey"]},
        },
    ]
    more = {
        "nvision": {"url": service.url, "streaming_key": TOKENS["key"]},
        "gateway": {"listen": "127.0.0.1:0", "token": TOKENS["gateway"], "callback_token": TOKENS["callback"]},
        "webhooks": [{"id": "alarms", "url": "https://example.com/hook", "secret": "${file:webhook-secret}"}],
    }
    return Site(
        folder=tmp_path, gst=gst, cameras=cameras, more=more, env={"CAMERA_PASSWORD": PASSWORDS["inKeys"]}
    )  # fmt: skip


def starve(pid: int) -> None:
    """Limit the memory of a process to its current use."""
    used = psutil.Process(pid).memory_info()
    resource.prlimit(pid, resource.RLIMIT_AS, (used.vms, used.vms))
    resource.prlimit(pid, resource.RLIMIT_DATA, (used.data, used.data))


def worker(running: Running, camera: str) -> psutil.Process:
    """Return the worker of a camera. A worker's process title contains the camera's id."""
    title = f"nvision-hub camera:{camera}"
    for process in running.record_family():
        with contextlib.suppress(psutil.NoSuchProcess):  # the process ended before this call
            if title in " ".join(process.cmdline()):
                return process
    raise AssertionError(f"no process is titled {title}")


def test_the_search_finds_every_canary(site: Site) -> None:
    search = SecretSearch(secrets=SECRETS)
    hub_support.write(site.folder, site.cameras, None, **site.more)
    search.search_directory(site.folder)
    encoded = base64.b64encode(f"{USER}:{PASSWORDS['redis']}".encode()).decode()
    search.search("a header", f"Authorization: Basic {encoded}")
    given = {*PASSWORDS, *TOKENS, "webhook"} - {"inKeys"}  # the environment contains this secret
    assert {sentence.split()[0] for sentence in search.found} == given


def test_the_command_line_exposes_no_secret(
    site: Site, start_command: Callable[..., Running], debian_redis: Callable[..., DebianRedis]
) -> None:
    search = SecretSearch(secrets=SECRETS)
    folder, broker = site.folder, debian_redis(password=PASSWORDS["redis"].replace("@/:#?", "-"))
    hub_support.write(folder, site.cameras, None, **site.more, redis={"url": broker.url})
    seen: list[str] = []
    with redis.Redis.from_url(broker.url, socket_timeout=None) as client, client.monitor() as monitor:

        def listen() -> None:
            with contextlib.suppress(Exception):  # the server has ended
                while True:
                    seen.append(str(monitor.connection.read_response()))

        threading.Thread(target=listen, daemon=True).start()
        temporary = folder / "tmp"
        temporary.mkdir()
        env = {**site.env, "TMPDIR": str(temporary)}
        running = start_command("start", "--log-level", "debug", cwd=folder, env=env)
        running.wait_for(
            lambda: (
                all(f"camera:{name}  " in running.err for name in ("wrong", "away"))
                and all(f"camera:{name}  streaming" in running.err for name in ("in-url", "in-keys", "refused"))
            )
        )
        running.wait_for(lambda: bool(seen))
        starve(worker(running, "in-url").pid)
        site.gst.switch_clip(LARGE)
        running.wait_for(lambda: "Traceback" in running.err)
        worker(running, "in-keys").kill()
        running.wait_for(lambda: "signal 9" in running.err)
        search.search_processes(running.record_family())
        for arguments in (
            ("check",),
            ("check", "--json"),
            ("probe", "in-keys", "--seconds", "1"),
            ("probe", "wrong", "--json", "--seconds", "1"),
            ("probe", f"rtsp://{USER}@127.0.0.1:{site.gst.port}/cam", "--password-env", "CAMERA_PASSWORD"),
            ("probe", site.cameras[3]["url"]),
            ("start",),  # a second hub on the same state_dir
        ):
            done = command.run(*arguments, cwd=folder, env=env)
            output = done.stdout + done.stderr
            assert done.returncode not in {2, 130}, output
            search.search(f"`{arguments[0]}`", output)
        tail = start_command("tail", "in-keys", cwd=folder, env=env)
        tail.wait_for(lambda: tail.out.count("\n") >= 2)
        search.search_processes(tail.record_family())
        tail.interrupt()
        tail.wait()
        search.search("`tail`", tail.out + tail.err)
        search.search_directory(folder / "state")
        running.process.terminate()
        running.wait()
    search.search("stdout of `start`", running.out)
    search.search("stderr of `start`", running.err)
    search.search("MONITOR", "\n".join(list(seen)))
    assert seen
    for below in (folder / "state", temporary, *folder.glob("appendonlydir")):
        search.search_directory(below)
    assert search.found == []
    measured(
        51,
        "secrets in the output, arguments and files of the commands",
        injected=f"{len(forms(SECRETS))} spellings of {len(SECRETS)} canaries; cameras that stream, are rejected and "
        "are unreachable; one worker out of memory, one killed; debug level; Redis with a password",
        target="none found",
        measured=f"none in {search.places} places, {search.size / 1e6:.1f} MB: output, logs with tracebacks, argv, "
        "MONITOR, append-only file, state_dir, temporary files",
    )


def test_statuses_and_the_embedded_broker_contain_no_secret(site: Site, start_hub: Callable[..., Hub]) -> None:
    search = SecretSearch(secrets=SECRETS)
    (site.folder / "hub0").mkdir()
    (site.folder / "hub0" / "webhook-secret").write_text(WEBHOOK)
    hub = start_hub(site.cameras, None, env=site.env, **site.more)
    hub.wait_for_results("in-keys", 5)
    hub.wait_for_results("in-url", 5)
    hub.wait_for_state("wrong", "auth_failed")
    hub.wait_until(lambda: hub.camera("away").error is not None and hub.camera("refused").error is not None)
    psutil.Process(hub.camera("in-keys").pid).kill()
    hub.wait_until(lambda: hub.restarts()["camera:in-keys"] == 1)
    search.search_processes(
        [psutil.Process(hub.process.pid), *psutil.Process(hub.process.pid).children(recursive=True)]
    )
    search.search("statuses", json.dumps(hub._members, ensure_ascii=False))
    search.search("events", json.dumps(hub.events(), ensure_ascii=False))
    search.search_directory(site.folder / "hub0" / "state")
    assert hub.stop() == 0
    search.search_directory(site.folder / "hub0" / "state")
    search.search("the log", hub.log())
    assert search.found == []
    measured(
        51,
        "secrets in statuses and the embedded broker",
        injected="the same canaries and cameras",
        target="none found",
        measured=f"none in {search.places} places, {search.size / 1e6:.1f} MB: statuses, events, hub.json, "
        "append-only file, titles, log",
    )


def test_the_gateway_exposes_no_secret(site: Site, start_hub: Callable[..., Hub]) -> None:
    search = SecretSearch(secrets=SECRETS)
    (site.folder / "hub0").mkdir()
    (site.folder / "hub0" / "webhook-secret").write_text(WEBHOOK)
    hub = start_hub(site.cameras, None, env=site.env, **site.more)
    hub.wait_for_results("in-keys", 5)
    hub.wait_for_state("wrong", "auth_failed")
    hub.wait_until(lambda: hub.camera("away").error is not None and hub.camera("refused").error is not None)
    url, token = hub.gateway(), TOKENS["gateway"]
    with httpx2.Client(
        base_url=url, headers={"authorization": f"Bearer {token}"}, timeout=30.0, trust_env=False
    ) as client:
        for path in ("/", "/metrics", "/healthz", "/readyz", "/api/openapi.json", "/api/v1/hub", "/api/v1/cameras",
                     "/api/v1/webhooks", "/api/v1/webhooks/dead-letters", "/nothing"):  # fmt: skip
            answer = client.get(path)
            search.search(path, f"{answer.headers}{answer.text}")
        for camera in site.cameras:
            for part in ("", "/history", "/tuning", "/snapshot.jpg"):
                answer = client.get(f"/api/v1/cameras/{camera['id']}{part}")
                search.search(f"{camera['id']}{part}", f"{answer.headers}".encode() + answer.content)
        entry = {"id": "new", "url": site.cameras[3]["url"], "password": PASSWORDS["wrong"], "fps": "many"}
        for answer in (
            client.post("/api/v1/cameras", json=entry),
            client.post("/api/v1/cameras", json={**entry, "password": [PASSWORDS["wrong"]], "fps": 1}),
            client.post("/api/v1/cameras", json={**entry, "url": f"rstp://{USER}:{PASSWORDS['away']}@10.0.0.5/"}),
            client.patch("/api/v1/cameras/wrong", json={"fps": PASSWORDS["wrong"]}),
            client.post(f"/callback/{TOKENS['callback']}", content=b"no JSON"),
            client.post(f"/callback/{TOKENS['callback']}x", content=b"{}"),
            httpx2.get(f"{url}/api/v1/hub", headers={"authorization": f"Bearer {token}x"}, trust_env=False),
        ):
            assert answer.status_code in {400, 401, 422}, answer.text
            search.search("an error", answer.text)
    with connect(url.replace("http://", "ws://") + "/api/v1/live", proxy=None, max_size=None) as viewer:
        viewer.send(json.dumps({"token": token, "watch": [camera["id"] for camera in site.cameras]}))
        for _ in range(10):
            search.search("the live view", viewer.recv(30))
    assert hub.stop() == 0
    search.search("the log", hub.log())
    search.search_directory(site.folder / "hub0" / "state")
    assert search.found == []
    measured(
        51,
        "secrets in responses of the gateway",
        injected="the same canaries and cameras; every route of the API, invalid requests with canaries in them",
        target="none found",
        measured=f"none in {search.places} places, {search.size / 1e6:.1f} MB: metrics, API, page, OpenAPI, live view, "
        "problem documents, log",
    )


def test_settings_and_their_diagnostics_show_no_secret(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in site.env.items():
        monkeypatch.setenv(name, value)
    search = SecretSearch(secrets=SECRETS)
    url = f"redis://:{quote(PASSWORDS['redis'], safe='')}@127.0.0.1:6379"
    hub_support.write(site.folder, site.cameras, None, **site.more, redis={"url": url})
    config = load(site.folder / "cameras.yaml")
    plan = composition.plan(config)
    for value in (config, plan, *config.cameras, *plan.children, *(child.settings for child in plan.children)):
        search.search(f"{type(value).__name__}", f"{value!r} {value!s}")
    search.search("JSON", config.model_dump_json())
    text = (site.folder / "cameras.yaml").read_text()
    mistakes = {
        "an unknown key": text.replace('"password"', '"pasword"'),
        "a wrong port": text.replace("127.0.0.1:9/", "127.0.0.1:99999/"),
        "a wrong scheme": text.replace("rtsp://", "rstp://"),
        "a list for a key": text.replace(f'"{TOKENS["key"]}"', f'["{TOKENS["key"]}"]'),
        "a secret for a number": text.replace('"version": 1', f'"version": "{TOKENS["key"]}"'),
        "given twice": text.replace('"username"', f'"password": "{PASSWORDS["wrong"]}", "username"'),
        "broken": text.replace("}", "", 1),
        "a wrong Redis": text.replace("redis://", "redsi://"),
        "a wrong webhook secret": text.replace("${file:webhook-secret}", WEBHOOK.removeprefix("whsec_")[:-1] + "!"),
    }
    for name, wrong in mistakes.items():
        assert wrong != text, name
        (site.folder / "wrong.yaml").write_text(wrong)
        done = command.run("check", "wrong.yaml", cwd=site.folder, env=site.env)
        assert done.returncode == 78, (name, done.stdout, done.stderr)
        search.search(name, done.stdout + done.stderr)
    assert search.found == []
