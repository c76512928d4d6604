"""What a configuration needs to run: planned, checked against this machine, and held by one hub at a time."""

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

from nvision_hub import hub, opencv
from nvision_hub.broker import embedded
from nvision_hub.config import camera_address, load
from nvision_hub.errors import ConfigError, UnavailableError
from nvision_hub.hub import STAGE_BROKER, STAGE_CAMERAS, STAGE_PEERS, Places, Plan, check_surroundings, plan
from nvision_hub.hub.state_dir import sole_use
from workers.demo import demo

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from nvision_hub.child import ChildSpec
    from nvision_hub.config import Config
    from tests.support.redis_server import DebianRedis

CLOUD = {"url": "wss://nvision.example.com/api", "streaming_key": "canary-key"}
STREET = {"id": "street", "url": "demo://street"}
LOBBY = {"id": "lobby", "url": "rtsp://viewer:canary-word@10.0.0.5/stream1"}


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """A configuration of these cameras and settings, as read from a file."""

    def make(*cameras: dict[str, Any], **more: Any) -> Config:
        content = {"redis": {"url": "embedded", "embedded_port": 0}, **more, "cameras": list(cameras)}
        file = tmp_path / "cameras.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        return load(file)

    return make


@pytest.fixture(autouse=True)
def _umask() -> Iterator[None]:
    """A hub sets it for the life of its process, which this one is not."""
    before = os.umask(0o022)
    yield
    os.umask(before)


def child(chosen: Plan, name: str) -> ChildSpec:
    return next(child for child in chosen.children if child.name == name)


def stages(chosen: Plan) -> dict[str, int]:
    return {child.name: child.stage for child in chosen.children}


# What runs


def test_everything_local(config: Callable[..., Config]) -> None:
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
    addresses = chosen.addresses
    assert (addresses.pid, addresses.prefix) == (os.getpid(), "nvision")
    assert addresses.redis == child(chosen, "broker").settings.public_url
    assert addresses.service == f"ws://127.0.0.1:{child(chosen, 'service').settings.port}/api"
    assert addresses.demo == f"rtsp://127.0.0.1:{child(chosen, 'demo').settings.port}"


def test_everything_elsewhere(config: Callable[..., Config]) -> None:
    redis = {"url": "redis://:canary-redis@10.0.0.2:6380/3"}
    chosen = plan(config(LOBBY, nvision=CLOUD, redis=redis, gateway={"listen": "none"}))
    assert stages(chosen) == {"camera:lobby": STAGE_CAMERAS}
    assert chosen.addresses.gateway is None
    settings = child(chosen, "camera:lobby").settings
    assert settings.stream.url == "redis://:canary-redis@10.0.0.2:6380/3"
    assert settings.service.url == "wss://nvision.example.com/api/v1/object-detection"
    assert settings.service.key == "canary-key"
    assert not settings.service.direct
    assert (chosen.addresses.service, chosen.addresses.demo) == (None, None)


def test_a_demo_camera_is_an_rtsp_camera_to_its_worker(config: Callable[..., Config]) -> None:
    chosen = plan(config(STREET, LOBBY, nvision=CLOUD))
    served = child(chosen, "demo").settings
    address = child(chosen, "camera:street").settings.camera.address
    assert address.dial() == demo.url(served.port, "street")
    assert child(chosen, "camera:lobby").settings.camera.address.host == "10.0.0.5"
    assert served.scenes == ("street",)


def test_cameras_may_use_different_services(config: Callable[..., Config]) -> None:
    own = {**LOBBY, "nvision": {"url": "local", "streaming_key": "canary-own", "service": "face-detection"}}
    chosen = plan(config(own, {**STREET, "nvision": {"url": "local"}}, {**LOBBY, "id": "gate"}, nvision=CLOUD))
    local = child(chosen, "service").settings
    lobby, street, gate = (child(chosen, f"camera:{name}").settings.service for name in ("lobby", "street", "gate"))
    assert lobby.url == f"ws://127.0.0.1:{local.port}/api/v1/face-detection"
    assert {lobby.key, street.key} <= set(local.streaming_keys)
    assert (lobby.direct, street.direct, gate.direct) == (True, True, False)
    assert gate.url.startswith("wss://nvision.example.com/")


def test_only_some_cameras_and_what_they_need(config: Callable[..., Config]) -> None:
    all_of_them = config(STREET, LOBBY, nvision=CLOUD, gateway={"listen": "none"})
    assert stages(plan(all_of_them, only=["lobby"])) == {"broker": STAGE_BROKER, "camera:lobby": STAGE_CAMERAS}
    assert set(stages(plan(all_of_them, only=["street", "street"]))) == {"broker", "demo", "camera:street"}
    with pytest.raises(
        ConfigError, match=r"^cameras\.yaml: no camera is called attic, cellar; there are lobby, street$"
    ):
        plan(all_of_them, only=["cellar", "street", "attic"])


def test_a_demo_camera_that_is_not_drawn_is_refused(config: Callable[..., Config]) -> None:
    assert set(camera_address.DEMO_SCENES) == set(demo.SCENES), "what may be written is what is drawn"
    with pytest.raises(ConfigError, match=r"must be demo://street, demo://crossing or demo://parking"):
        plan(config({"id": "a", "url": "demo://moon"}))


def test_ports_that_are_taken_are_passed_over_and_kept_for_a_renewal(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        wanted = taken.getsockname()[1]
        ours = config(STREET, nvision={"url": "local"}, redis={"url": "embedded", "embedded_port": wanted})
        chosen = plan(ours)
        assert child(chosen, "broker").settings.port > wanted
    again = plan(ours, places=chosen.places)
    assert again.addresses == chosen.addresses
    assert child(again, "camera:street").settings == child(chosen, "camera:street").settings


def test_no_port_at_all_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_PORTS_TRIED", 1)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(
            UnavailableError, match=rf"^every port from {port} to {port} of 127\.0\.0\.1 is taken; end "
        ):
            Places().port("broker", port)


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


# What must not be told


def test_what_is_left_for_other_verbs_and_what_is_printed_hold_no_secret(config: Callable[..., Config]) -> None:
    chosen = plan(
        config(
            LOBBY, STREET, nvision={"url": "local", "streaming_key": "canary-key"}, redis={"url": "redis://u:canary@h"}
        )
    )
    told = json.dumps(asdict(chosen.addresses)) + repr(chosen.addresses) + repr(chosen)
    assert "canary" not in told
    assert chosen.places.service_key not in told


# What must be there


def test_what_a_plan_does_not_need_is_not_asked_for(
    config: Callable[..., Config], debian_redis: Callable[..., DebianRedis], monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing() -> None:
        raise UnavailableError("OpenCV cannot be loaded")

    monkeypatch.setattr(opencv, "load", missing)  # it is wanted, but not needed
    monkeypatch.setattr(embedded, "program", lambda: pytest.fail("this plan has no broker of its own"))
    ours = config(LOBBY, nvision=CLOUD, redis={"url": debian_redis().url})
    check_surroundings(ours, plan(ours))


def test_missing_libraries_are_named_with_their_mend(
    config: Callable[..., Config], monkeypatch: pytest.MonkeyPatch
) -> None:
    ours = config(STREET, nvision=CLOUD)

    def missing(name: str) -> None:
        raise ImportError(name)

    monkeypatch.setattr(importlib, "import_module", missing)
    monkeypatch.setattr(opencv, "load", lambda: None)
    with pytest.raises(UnavailableError, match=r"`pip install 'nvision-hub\[demo\]'` brings it$"):
        check_surroundings(ours, plan(ours))


def test_no_redis_is_said_with_its_address(config: Callable[..., Config]) -> None:
    port = embedded.claim_port(0).port
    ours = config(LOBBY, nvision=CLOUD, redis={"url": f"redis://:canary@127.0.0.1:{port}"})
    with pytest.raises(UnavailableError) as refused:
        check_surroundings(ours, plan(ours))
    assert f"no Redis answers at redis://***@127.0.0.1:{port}" in str(refused.value)
    assert "canary" not in str(refused.value)


def test_something_else_on_its_port_is_no_redis(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ours = config(LOBBY, nvision=CLOUD, redis={"url": f"redis://127.0.0.1:{port}"})
        other.listen()
        other.settimeout(5)

        def answer() -> None:
            connection, _ = other.accept()
            with connection:
                connection.sendall(b"SSH-2.0-something\r\n")

        answering = threading.Thread(target=answer)
        answering.start()
        with pytest.raises(UnavailableError, match="no Redis answers at "):
            check_surroundings(ours, plan(ours))
        answering.join()


@pytest.mark.parametrize("userinfo", ["", ":canary-wrong@", "nobody:canary-wrong@"], ids=["none", "wrong", "user"])
def test_a_wrong_password_is_said_without_it(
    config: Callable[..., Config], debian_redis: Callable[..., DebianRedis], userinfo: str
) -> None:
    server = debian_redis(password="canary-right")
    ours = config(LOBBY, nvision=CLOUD, redis={"url": f"redis://{userinfo}127.0.0.1:{server.port}"})
    with pytest.raises(UnavailableError, match=r"refused the password; correct redis\.url$") as refused:
        check_surroundings(ours, plan(ours))
    assert "canary" not in str(refused.value)


def test_the_right_password_is_enough(config: Callable[..., Config], debian_redis: Callable[..., DebianRedis]) -> None:
    ours = config(LOBBY, nvision=CLOUD, redis={"url": debian_redis(password="canary-right").url})
    check_surroundings(ours, plan(ours))


# One hub per state_dir


def test_a_state_dir_is_private_and_one_hubs_alone(tmp_path: Path) -> None:
    state_dir = tmp_path / "a" / "state"
    with sole_use(state_dir):
        assert stat.S_IMODE(state_dir.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in state_dir.iterdir()} == {0o600}
        with pytest.raises(UnavailableError, match=r"^another hub uses .*; end it, or give this one a state_dir of"):
            refuse(state_dir)
    with sole_use(state_dir):
        pass


def test_the_hub_that_is_in_the_way_is_named(tmp_path: Path, config: Callable[..., Config]) -> None:
    with sole_use(tmp_path):
        (tmp_path / "hub.json").write_text(json.dumps(asdict(plan(config(LOBBY, nvision=CLOUD)).addresses)))
        with pytest.raises(UnavailableError, match=rf"^another hub \(pid {os.getpid()}\) uses "):
            refuse(tmp_path)


def test_what_a_killed_hub_left_is_no_obstacle(tmp_path: Path) -> None:
    pid = os.fork()
    if pid == 0:
        lock = (tmp_path / "hub.lock").open("a")
        fcntl.flock(lock, fcntl.LOCK_EX)
        os._exit(0)
    os.waitpid(pid, 0)
    dead = {"pid": pid, "site": "x", "redis": "x", "prefix": "x", "service": None, "demo": None}
    (tmp_path / "hub.json").write_text(json.dumps(dead))
    assert hub.addresses_of(tmp_path) is None
    with sole_use(tmp_path):
        pass


@pytest.mark.parametrize("content", ["", "{", "[]", "{}", '{"pid": 1}', "null", '{"pid": "x"}'])
def test_a_half_written_address_file_is_none(tmp_path: Path, content: str) -> None:
    (tmp_path / "hub.json").write_text(content)
    assert hub.addresses_of(tmp_path) is None


def test_a_state_dir_that_cannot_be_is_said(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnavailableError, match=r"cannot be written \(Not a directory\); choose another one"):
        refuse(tmp_path / "file" / "state")


def refuse(state_dir: Path) -> None:
    with sole_use(state_dir):
        pytest.fail("it was not refused")
