"""The start of a hub: planned processes, checks of the machine, and only one hub per state_dir."""

from __future__ import annotations

import fcntl
import importlib
import json
import os
import socket
import stat
import threading
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.broker import embedded_config
from nvision_hub.config import camera_address
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError, UnavailableError
from nvision_hub.hub.composition import STAGE_BROKER, STAGE_CAMERAS, STAGE_PEERS, HubPlan, plan
from nvision_hub.hub.preflight import check_preflight
from nvision_hub.hub.resources import HubResources
from nvision_hub.hub.state_dir import move_old_spools, read_endpoints, sole_use
from nvision_hub.media import cv2_loader
from tests.support.patience import PATIENCE_S
from workers.demo import worker as demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nvision_hub.config.models import Config
    from nvision_hub.runtime.process import ProcessSpec
    from tests.support.redis_server import DebianRedis

CLOUD = {"url": "wss://nvision.example.com/api", "streaming_key": "canary-key"}
STREET = {"id": "street", "url": "demo://street"}
LOBBY = {"id": "lobby", "url": "rtsp://viewer:canary-word@10.0.0.5/stream1"}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """Return a function that writes these cameras and settings to a file and loads the file."""

    def make(*cameras: dict[str, Any], **more: Any) -> Config:
        content = {"redis": {"url": "embedded", "embedded_port": 0}, **more, "cameras": list(cameras)}
        file = tmp_path / "cameras.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        return load(file)

    return make


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """Restore the umask, because a hub changes the umask of its process."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def child(chosen: HubPlan, name: str) -> ProcessSpec:
    return next(child for child in chosen.children if child.name == name)


def stages(chosen: HubPlan) -> dict[str, int]:
    return {child.name: child.stage for child in chosen.children}


# Planned processes


def test_a_local_configuration_starts_every_process(config: Callable[..., Config]) -> None:
    chosen = plan(config(STREET, LOBBY, nvision={"url": "local"}))
    assert stages(chosen) == {
        "broker": STAGE_BROKER,
        "service": STAGE_PEERS,
        "demo": STAGE_PEERS,
        "gateway": STAGE_PEERS,
        "camera:street": STAGE_CAMERAS,
        "camera:lobby": STAGE_CAMERAS,
    }
    assert STAGE_BROKER < STAGE_PEERS < STAGE_CAMERAS
    endpoints = chosen.endpoints
    assert (endpoints.pid, endpoints.prefix) == (os.getpid(), "nvision")
    assert endpoints.redis == child(chosen, "broker").settings.public_url
    assert endpoints.service == f"ws://127.0.0.1:{child(chosen, 'service').settings.port}/api"
    assert endpoints.demo == f"rtsp://127.0.0.1:{child(chosen, 'demo').settings.port}"


def test_external_services_need_no_local_process(config: Callable[..., Config]) -> None:
    redis = {"url": "redis://:canary-redis@10.0.0.2:6380/3"}
    chosen = plan(config(LOBBY, nvision=CLOUD, redis=redis, gateway={"listen": "none"}))
    assert stages(chosen) == {"gateway": STAGE_PEERS, "camera:lobby": STAGE_CAMERAS}
    assert chosen.endpoints.gateway is None
    settings = child(chosen, "camera:lobby").settings
    assert settings.stream.url == "redis://:canary-redis@10.0.0.2:6380/3"
    assert settings.service.url == "wss://nvision.example.com/api/v1/object-detection"
    assert settings.service.key == "canary-key"
    assert not settings.service.direct
    assert (chosen.endpoints.service, chosen.endpoints.demo) == (None, None)


def test_a_demo_camera_is_an_rtsp_camera_to_its_worker(config: Callable[..., Config]) -> None:
    chosen = plan(config(STREET, LOBBY, nvision=CLOUD))
    served = child(chosen, "demo").settings
    address = child(chosen, "camera:street").settings.camera.address
    assert address.dial() == demo.url(served.port, "street")
    assert child(chosen, "camera:lobby").settings.camera.address.host == "10.0.0.5"
    assert served.scenes == ("street",)


def test_only_an_onvif_camera_may_refer_to_other_hosts(config: Callable[..., Config]) -> None:
    onvif = {"id": "gate", "url": "onvif://10.0.0.6"}
    chosen = plan(config(LOBBY, onvif, nvision=CLOUD, gateway={"listen": "none", "camera_hosts": ["10.0.0.0/24"]}))
    assert child(chosen, "camera:lobby").settings.camera_hosts == ()
    assert [host.shown for host in child(chosen, "camera:gate").settings.camera_hosts] == ["10.0.0.0/24"]


def test_cameras_may_use_different_services(config: Callable[..., Config]) -> None:
    own = {**LOBBY, "nvision": {"url": "local", "streaming_key": "canary-own", "service": "face-detection"}}
    chosen = plan(config(own, {**STREET, "nvision": {"url": "local"}}, {**LOBBY, "id": "gate"}, nvision=CLOUD))
    local = child(chosen, "service").settings
    lobby, street, gate = (child(chosen, f"camera:{name}").settings.service for name in ("lobby", "street", "gate"))
    assert lobby.url == f"ws://127.0.0.1:{local.port}/api/v1/face-detection"
    assert {lobby.key, street.key} <= set(local.streaming_keys)
    assert (lobby.direct, street.direct, gate.direct) == (True, True, False)
    assert gate.url.startswith("wss://nvision.example.com/")


def test_selected_cameras_start_only_what_they_need(config: Callable[..., Config]) -> None:
    all_of_them = config(STREET, LOBBY, nvision=CLOUD, gateway={"listen": "none"})
    lobby = {"broker": STAGE_BROKER, "gateway": STAGE_PEERS, "camera:lobby": STAGE_CAMERAS}
    assert stages(plan(all_of_them, only=["lobby"])) == lobby
    assert set(stages(plan(all_of_them, only=["street", "street"]))) == {"broker", "gateway", "demo", "camera:street"}
    with pytest.raises(
        ConfigError, match=r"^cameras\.yaml: no camera is called attic, cellar; choose from lobby, street$"
    ):
        plan(all_of_them, only=["cellar", "street", "attic"])


def test_an_unknown_demo_camera_is_rejected(config: Callable[..., Config]) -> None:
    assert set(camera_address.DEMO_SCENES) == set(demo.SCENES), "valid names are those of existing scenes"
    with pytest.raises(ConfigError, match=r"must be demo://street, demo://crossing or demo://parking"):
        plan(config({"id": "a", "url": "demo://moon"}))


def test_ports_in_use_are_skipped_and_claims_kept_for_a_reload(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        ours = config(STREET, nvision={"url": "local"}, redis={"url": "embedded", "embedded_port": wanted})
        chosen = plan(ours)
        assert child(chosen, "broker").settings.port > wanted
    again = plan(ours, resources=chosen.resources)
    assert again.endpoints == chosen.endpoints
    assert child(again, "camera:street").settings == child(chosen, "camera:street").settings


def test_any_free_port_replaces_occupied_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_config, "_MAX_PORTS_TRIED", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert HubResources().port("broker", port) not in {0, port}


def test_no_free_port_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_config, "_MAX_PORTS_TRIED", 0)
    with pytest.raises(UnavailableError, match=r"^no port on 127\.0\.0\.1 is free; stop "):
        HubResources().port("broker", 6379)


def test_settings_reach_the_worker(config: Callable[..., Config]) -> None:
    lobby = {**LOBBY, "fps": 2, "nvision": {"confidence_threshold": 0.7, "output_cropped_image": True}}
    chosen = plan(
        config(
            lobby,
            nvision=CLOUD,
            site="north",
            redis={"url": "redis://10.0.0.2", "prefix": "x", "stream_max_entries": 7},
        )
    )
    settings = child(chosen, "camera:lobby").settings
    assert (settings.site, settings.camera.fps) == ("north", 2)
    assert (settings.stream.prefix, settings.stream.max_entries) == ("x", 7)
    assert settings.service.options.confidence_threshold == 0.7
    assert settings.service.options.output_cropped_image
    assert not settings.service.options.output_visualized_image


# Secrets


def test_files_and_output_of_the_hub_contain_no_secret(config: Callable[..., Config]) -> None:
    chosen = plan(
        config(
            LOBBY, STREET, nvision={"url": "local", "streaming_key": "canary-key"}, redis={"url": "redis://u:canary@h"}
        )
    )
    printed = json.dumps(asdict(chosen.endpoints)) + repr(chosen.endpoints) + repr(chosen)
    assert "canary" not in printed
    assert chosen.resources.service_key not in printed


# Requirements


def test_libraries_that_a_plan_does_not_need_are_not_required(
    config: Callable[..., Config], debian_redis: Callable[..., DebianRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise UnavailableError("OpenCV cannot be loaded")

    monkeypatch.setattr(cv2_loader, "load", missing)  # this plan does not require OpenCV
    monkeypatch.setattr(embedded_config, "program", lambda: pytest.fail("this plan runs no broker"))
    ours = config(LOBBY, nvision=CLOUD, redis={"url": debian_redis().url})
    check_preflight(ours, plan(ours))


def test_missing_libraries_are_reported_with_the_fix(
    config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = config(STREET, nvision=CLOUD)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setattr(cv2_loader, "load", lambda: None)
    with pytest.raises(UnavailableError, match=r"; run pip install 'nvision-hub\[demo\]'$"):
        check_preflight(ours, plan(ours))


def test_an_unreachable_redis_is_reported_with_its_address(config: Callable[..., Config]) -> None:
    port = embedded_config.claim_port(0).port
    ours = config(LOBBY, nvision=CLOUD, redis={"url": f"redis://:canary@127.0.0.1:{port}"})
    with pytest.raises(UnavailableError) as refused:
        check_preflight(ours, plan(ours))
    assert f"no Redis answers at redis://***@127.0.0.1:{port}" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_another_server_on_the_redis_port_is_rejected(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ours = config(LOBBY, nvision=CLOUD, redis={"url": f"redis://127.0.0.1:{port}"})
        other.listen()
        other.settimeout(PATIENCE_S)

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-something\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(UnavailableError, match="no Redis answers at "):
            check_preflight(ours, plan(ours))
        answering.join()


@pytest.mark.parametrize("userinfo", ["", ":canary-wrong@", "other:canary-wrong@"], ids=["none", "wrong", "user"])
def test_a_wrong_redis_password_is_reported_but_not_shown(
    config: Callable[..., Config], debian_redis: Callable[..., DebianRedis], userinfo: str
) -> None:
    server = debian_redis(password="canary-right")
    ours = config(LOBBY, nvision=CLOUD, redis={"url": f"redis://{userinfo}127.0.0.1:{server.port}"})
    with pytest.raises(UnavailableError, match=r"refused the password; correct redis\.url$") as refused:
        check_preflight(ours, plan(ours))
    assert "canary" not in str(refused.value)


def test_the_right_redis_password_is_accepted(
    config: Callable[..., Config], debian_redis: Callable[..., DebianRedis]
) -> None:
    ours = config(LOBBY, nvision=CLOUD, redis={"url": debian_redis(password="canary-right").url})
    check_preflight(ours, plan(ours))


# One hub per state_dir


def test_a_state_dir_is_private_and_used_by_one_hub(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "state"
    with sole_use(state_dir):
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in state_dir.iterdir()} == {0o600}
        with pytest.raises(UnavailableError, match=r"^another hub uses .*; stop that hub, or choose another state_dir"):
            refuse(state_dir)
    with sole_use(state_dir):
        pass


def test_the_hub_that_uses_the_state_dir_is_reported(tmp_path: Path, config: Callable[..., Config]) -> None:
    with sole_use(tmp_path):
        (tmp_path / "hub.json").write_text(json.dumps(asdict(plan(config(LOBBY, nvision=CLOUD)).endpoints)))
        with pytest.raises(UnavailableError, match=rf"^another hub \(pid {os.getpid()}\) uses "):
            refuse(tmp_path)


def test_files_of_a_killed_hub_do_not_prevent_a_start(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        lock = (tmp_path / "hub.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX)
        os._exit(0)
    os.waitpid(pid, 0)
    dead = {"pid": pid, "site": "x", "redis": "x", "prefix": "x", "service": None, "demo": None}
    (tmp_path / "hub.json").write_text(json.dumps(dead))
    assert read_endpoints(tmp_path) is None
    with sole_use(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', "null", '{"pid": "x"}'])
def test_an_incomplete_address_file_is_ignored(tmp_path: Path, content: str) -> None:
    (tmp_path / "hub.json").write_text(content)
    assert read_endpoints(tmp_path) is None


def test_an_impossible_state_dir_is_reported(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"cannot be written \(Not a directory\); choose another state_dir"):
        refuse(tmp_path / "file" / "state")


def refuse(state_dir: Path) -> None:
    with sole_use(state_dir):
        pytest.fail("the state_dir was not rejected")


# Spools


def test_spools_of_earlier_versions_are_found(tmp_path: Path) -> None:
    spools = tmp_path / "spool"
    spools.mkdir()
    names = ("lobby.sqlite3", "lobby.sqlite3-wal", "lobby.sqlite3.set-aside", "@callback.sqlite3", "other")
    for name in names:
        (spools / name).write_text(name)
    move_old_spools(tmp_path)
    assert {str(file.relative_to(spools)): file.read_text() for file in spools.rglob("*") if file.is_file()} == {
        "lobby/results.sqlite3": "lobby.sqlite3",
        "lobby/results.sqlite3-wal": "lobby.sqlite3-wal",
        "lobby/results.sqlite3.set-aside": "lobby.sqlite3.set-aside",
        "@callback/results.sqlite3": "@callback.sqlite3",
        "other": "other",
    }
    assert stat.S_IMODE((spools / "lobby").stat().st_mode) == 0o700
    move_old_spools(tmp_path)
    assert (spools / "lobby" / "results.sqlite3").exists()


def test_a_spool_that_cannot_be_moved_is_reported(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "spool").mkdir()
    (tmp_path / "spool" / "lobby.sqlite3").touch()
    (tmp_path / "spool" / "lobby").touch()
    move_old_spools(tmp_path)
    assert "lobby.sqlite3 cannot be moved: File exists" in caplog.text
