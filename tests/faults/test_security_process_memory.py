"""Secrets in the memory and the environment of the processes of a hub: each worker knows only its own."""

from __future__ import annotations

import json
import re
import signal
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx2
import psutil
import pytest

from tests.support.hub import write
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.command import Running
    from tests.support.http_camera import HttpCamera

pytestmark = [pytest.mark.fault, pytest.mark.long]

TOKEN: Final = "9f27c1d8e5b64a03c7714be2f05d8a96"
CALLBACK_TOKEN: Final = "71ab52cc90de3f48b6e4a70d1c92f853"
WEBHOOK_SECRET: Final = "whsec_kq8ZP1vRcT2mXw7LbN5dYs0hJf3gAe9u"
MQTT_PASSWORD: Final = "CanaryMqttPassword"
PASSWORDS: Final = {"lobby": "CanaryLobbyPassword", "gate": "CanaryGatePassword", "yard": "CanaryYardPassword"}
KEYS: Final = {"lobby": "CanaryLobbyKey", "gate": "CanaryGateKey"}
# The worker of a camera receives the camera's password and key. All other canaries must be absent from its memory.
OWN: Final = {f"camera:{camera}": {password} for camera, password in PASSWORDS.items()}
ALL: Final = {TOKEN, CALLBACK_TOKEN, WEBHOOK_SECRET, MQTT_PASSWORD, *PASSWORDS.values(), *KEYS.values()}


def memory(pid: int) -> list[bytes]:
    """Return all readable memory of a process, one item for each mapping, and its environment."""
    parts = [Path(f"/proc/{pid}/environ").read_bytes()]
    with Path(f"/proc/{pid}/mem").open("rb", buffering=0) as memory:
        for line in Path(f"/proc/{pid}/maps").read_text().splitlines():
            start, end, readable = re.match(r"(\w+)-(\w+) (r?)", line).groups()  # type: ignore[union-attr]
            if readable and not line.endswith(("[vvar]", "[vsyscall]", "[vvar_vclock]")):
                memory.seek(int(start, 16))
                with suppress(OSError):  # a mapping beyond the end of its file
                    parts.append(memory.read(int(end, 16) - int(start, 16)))
    return parts


def known(pid: int, secrets: set[str]) -> set[str]:
    """Return those of `secrets` that are in the memory of a process."""
    parts = memory(pid)
    return {secret for secret in secrets if any(secret.encode() in part for part in parts)}


def processes(running: Running) -> dict[str, int]:
    """Return the pids of the supervisor (`hub`) and of its children by name."""
    names = {"hub": running.process.pid}
    for child in psutil.Process(running.process.pid).children():
        if child.status() == psutil.STATUS_ZOMBIE:  # a process that read the reloaded configuration
            continue
        title = " ".join(child.cmdline()).strip()
        if title.startswith("nvision-hub "):
            names[title.removeprefix("nvision-hub ")] = child.pid
    return names


def test_a_worker_knows_only_its_own_secrets(
    start_command: Callable[..., Running], http_camera: Callable[..., HttpCamera], tmp_path: Path
) -> None:
    urls = {
        camera: http_camera(user="viewer", password=password, auth="basic").url(credentials=False)
        for camera, password in PASSWORDS.items()
    }
    # Frames go to a service that does not exist, so the keys need not be valid.
    lobby, gate, yard = (
        {"id": camera, "url": url, "username": "viewer", "password": PASSWORDS[camera], "fps": 2}
        for camera, url in urls.items()
    )
    lobby["nvision"] = {"streaming_key": KEYS["lobby"]}
    gate |= {"password": "${GATE_PASSWORD}", "nvision": {"streaming_key": "${GATE_KEY}"}}
    write(
        tmp_path,
        [lobby, gate],
        None,
        gateway={"listen": "127.0.0.1:0", "token": TOKEN, "callback_token": CALLBACK_TOKEN},
        webhooks=[{"id": "alarms", "url": "http://127.0.0.1:9/", "secret": WEBHOOK_SECRET, "allow_private": True}],
        mqtt={"url": "mqtt://127.0.0.1:9", "username": "hub", "password": MQTT_PASSWORD},
    )
    variables = {"GATE_PASSWORD": PASSWORDS["gate"], "GATE_KEY": KEYS["gate"]}
    running = start_command("start", "--log-level", "debug", cwd=tmp_path, env=variables)
    running.wait_for(lambda: re.search(r"gateway listening at \S+\n", running.err))
    url = re.findall(r"gateway listening at (\S+)", running.err)[-1]
    with httpx2.Client(
        base_url=url, headers={"authorization": f"Bearer {TOKEN}"}, timeout=PATIENCE_S, trust_env=False
    ) as client:
        assert client.post("/api/v1/cameras", json=yard).status_code == 201
        assert client.patch("/api/v1/cameras/lobby", json={"jpeg_quality": 50}).status_code == 200
        assert client.post("/api/v1/cameras/gate/restart").status_code in {200, 202, 204}
        file = tmp_path / "cameras.yaml"
        file.write_text(json.dumps(json.loads(file.read_text()) | {"cameras": [lobby | {"fps": 3}, gate]}))
        running.process.send_signal(signal.SIGHUP)
        running.wait_for(lambda: "cameras.yaml reloaded" in running.err)
        running.wait_for(
            lambda: all(client.get(f"/api/v1/cameras/{camera}").json()["rate_in"] > 0 for camera in PASSWORDS)
        )
    broker_users = json.loads((tmp_path / "state" / "broker" / "passwords.json").read_text())
    secrets = ALL | {broker_users["reader"], broker_users["consumer"]}
    found = {name: known(pid, secrets) for name, pid in processes(running).items()}
    assert found.keys() >= {"hub", "broker", "gateway", "webhooks", "mqtt", *OWN}
    assert found["hub"] == set()
    for camera, password in PASSWORDS.items():
        own = {password, *filter(None, [KEYS.get(camera)])}
        assert found[f"camera:{camera}"] == own, "a worker lacks its own secret or knows another one"
    assert found["mqtt"] == {MQTT_PASSWORD}
    assert found["webhooks"] == {WEBHOOK_SECRET}
    assert MQTT_PASSWORD not in found["gateway"]
    assert not found["gateway"] & {*KEYS.values(), PASSWORDS["lobby"], PASSWORDS["gate"]}
    running.process.terminate()
    assert running.wait() == 0
    measured(
        77,
        "secrets in the memory of processes",
        injected=f"{len(secrets)} canaries in cameras.yaml, in the environment, through the API and among the broker's "
        "passwords; reload, restart and changed settings",
        target="a worker's memory holds no secret but its own; the supervisor's holds none",
        measured=f"searched {len(found)} processes: as required",
    )
