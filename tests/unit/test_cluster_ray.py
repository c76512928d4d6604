"""The Ray engine's decisions, tested without Ray: the configuration of each group, actions, and import rules."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.cluster.identity import CONTROL, VARIABLE, HubIdentity
from nvision_hub.cluster.placement import assignment
from nvision_hub.cluster.ray.reconcile import GroupAction, reconcile
from nvision_hub.cluster.ray.split_config import split_config
from nvision_hub.config.load import load
from nvision_hub.config.value_types import Secret

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
KEY: Final = "0123456789abcdef-unit"


def content(**changes: Any) -> dict[str, Any]:
    return {
        "site": "unit",
        "nvision": {"url": "wss://nvision.example.com/api", "streaming_key": "${UNIT_KEY}"},
        "redis": {"url": "redis://10.0.0.5:6379"},
        "gateway": {"listen": "127.0.0.1:0"},
        "defaults": {"fps": 2, "placement": {"zone": "east"}},
        "cameras": [
            {"id": "lobby", "url": "rtsp://10.0.0.1/", "password": "$${x", "username": "no"},
            {"id": "gate", "url": "rtsp://10.0.0.2/", "placement": {"zone": "west"}, "labels": {"floor": "1"}},
        ],
        **changes,
    }


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIT_KEY", KEY)
    file = tmp_path / "cameras.yaml"
    file.write_text(json.dumps(content()))
    return file


def test_each_group_gets_its_own_cameras_with_resolved_settings(path: Path, tmp_path: Path) -> None:
    split = split_config(path, {})
    assert set(split.specs) == {"zone-east-1", "zone-west-1", CONTROL}
    for name, camera in (("zone-east-1", "lobby"), ("zone-west-1", "gate")):
        file = tmp_path / f"{name}.yaml"
        file.write_text(split.specs[name].text)
        config = load(file, environ={})
        (only,) = config.cameras
        before = split.config.camera(camera)
        assert only == before.model_copy(update={"placement": only.placement})
        assert not only.placement
        assert only.address.dial() == before.address.dial()
        assert only.nvision.streaming_key is not None
        assert only.nvision.streaming_key.reveal() == KEY
        assert config.gateway.listen.off
        assert config.state_dir == tmp_path / "state"


def test_the_control_group_has_camera_ids_but_no_camera_secrets(path: Path, tmp_path: Path) -> None:
    secret = "whsec_" + "A" * 32
    hook = {"id": "alarm", "url": "https://example.com/hook", "secret": secret, "cameras": ["gate"]}
    path.write_text(json.dumps(content(webhooks=[hook])))
    spec = split_config(path, {}).specs[CONTROL]
    file = tmp_path / "control.yaml"
    file.write_text(spec.text)
    config = load(file, environ={})
    assert [camera.id for camera in config.cameras] == ["lobby", "gate"]
    assert [webhook.id for webhook in config.webhooks] == ["alarm"]
    assert KEY not in spec.text
    assert "10.0.0.1" not in spec.text


def test_every_group_gets_the_same_fleet_key(path: Path, tmp_path: Path) -> None:
    created = Secret("bQ7xV2mZ9tLw4RkY8sPf1HdC6nJ3gAe5")
    for section, key in (({}, created), ({"fleet_key": "5eAg3Jn6CdH1fPs8YkR4wLt9Zm2Vx7Qb"}, None)):
        path.write_text(json.dumps(content(redis={"url": "redis://10.0.0.5:6379", **section})))
        for name, spec in split_config(path, {}, lambda _config: created).specs.items():
            file = tmp_path / f"{name}.yaml"
            file.write_text(spec.text)
            found = load(file, environ={}).redis.fleet_key
            assert found == (key or Secret(str(section.get("fleet_key")))), name


def test_there_is_no_control_group_without_gateway_webhooks_and_mqtt(path: Path) -> None:
    path.write_text(json.dumps(content(gateway={"listen": "none"})))
    assert CONTROL not in split_config(path, {}).specs


def test_a_new_camera_changes_only_the_file_of_its_group(path: Path) -> None:
    before = split_config(path, {})
    cameras = [*content()["cameras"], {"id": "attic", "url": "rtsp://10.0.0.3/"}]
    path.write_text(json.dumps(content(cameras=cameras)))
    after = split_config(path, assignment(before.groups))
    assert after.specs["zone-west-1"].digest == before.specs["zone-west-1"].digest
    assert after.specs["zone-east-1"].digest != before.specs["zone-east-1"].digest


def test_repr_shows_no_secret() -> None:
    from nvision_hub.cluster.camera_lease import LeaseSettings  # noqa: PLC0415
    from nvision_hub.cluster.ray.config_store import GroupKey  # noqa: PLC0415

    url = "redis://:secret@10.0.0.5"
    key = GroupKey(site="s", group="g-1", redis_url=url, prefix="nvision")
    assert "secret" not in repr(key) + repr(LeaseSettings(url=url, prefix="nvision", holder="h"))


@pytest.mark.parametrize(
    ("wanted", "running", "actions"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({"a-1": "x"}, {"a-1": "x"}, [], id="up to date"),
        pytest.param({"a-1": "x"}, {}, [(GroupAction.CREATE, "a-1")], id="new"),
        pytest.param({"a-1": "x"}, {"a-1": "y"}, [(GroupAction.APPLY, "a-1")], id="changed"),
        pytest.param({"a-1": "x"}, {"a-1": ""}, [(GroupAction.APPLY, "a-1")], id="created but not configured"),
        pytest.param({"a-1": "x"}, {"a-1": None}, [(GroupAction.AWAIT, "a-1")], id="restarting"),
        pytest.param({}, {"a-1": None}, [(GroupAction.REMOVE, "a-1")], id="gone"),
        pytest.param(
            {"a-1": "x", "b-1": "y"},
            {"z-1": "x"},
            [(GroupAction.REMOVE, "z-1"), (GroupAction.CREATE, "a-1"), (GroupAction.CREATE, "b-1")],
            id="moved",
        ),
    ],
)
def test_reconcile_returns_the_due_actions(
    wanted: dict[str, str], running: dict[str, str | None], actions: list[object]
) -> None:
    assert reconcile(wanted, running) == actions


def test_a_hub_is_in_a_fleet_only_if_its_environment_says_so() -> None:
    assert HubIdentity.from_environ({}) is None
    one, other = HubIdentity.from_environ({VARIABLE: "any-1"}), HubIdentity.from_environ({VARIABLE: "any-1"})
    assert one is not None
    assert other is not None
    assert one.holder != other.holder
    assert not one.is_control
    control = HubIdentity.from_environ({VARIABLE: CONTROL})
    assert control is not None
    assert control.is_control


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module


def test_only_the_ray_package_imports_ray() -> None:
    for package in ("nvision_hub", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            if path.parent.name != "ray":
                assert not [name for name in imported(path) if name.split(".")[0] == "ray"], path


def test_a_hub_on_one_machine_loads_neither_ray_nor_the_engine(tmp_path: Path) -> None:
    program = """
import sys
from nvision_hub.cli import main
code = main(["start", "there-is-none.yaml"])
from nvision_hub.hub import run
loaded = [name for name in sys.modules if name.split(".")[0] == "ray" or name.startswith("nvision_hub.cluster.ray")]
sys.exit(str(loaded) if loaded or code != 78 else 0)
"""
    result = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert result.returncode == 0, result.stderr
