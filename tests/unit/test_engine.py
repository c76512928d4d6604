"""The Ray engine's decisions, without Ray: what each group is given, what is to be done, and who may import what."""

from __future__ import annotations

import ast
import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from nvision_hub.config import load
from nvision_hub.engine.cut import cut
from nvision_hub.engine.reconcile import Apply, Create, Remove, Wait, reconcile
from nvision_hub.grouping import assignment
from nvision_hub.part import CONTROL, VARIABLE, Part

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
KEY: Final = "0123456789abcdef-unit"


def content(**more: Any) -> dict[str, Any]:
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
        **more,
    }


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("UNIT_KEY", KEY)
    file = tmp_path / "cameras.yaml"
    file.write_text(json.dumps(content()))
    return file


def test_each_group_gets_its_own_cameras_as_they_are_meant(path: Path, tmp_path: Path) -> None:
    found = cut(path, {})
    assert set(found.specs) == {"zone-east-1", "zone-west-1", CONTROL}
    for name, camera in (("zone-east-1", "lobby"), ("zone-west-1", "gate")):
        theirs = tmp_path / f"{name}.yaml"
        theirs.write_text(found.specs[name].text)
        config = load(theirs, environ={})
        (only,) = config.cameras
        before = found.config.camera(camera)
        assert only == before.model_copy(update={"placement": only.placement})
        assert not only.placement
        assert only.address.dial() == before.address.dial()
        assert only.nvision.streaming_key is not None
        assert only.nvision.streaming_key.reveal() == KEY
        assert config.gateway.listen.off
        assert config.state_dir == tmp_path / "state"


def test_the_control_group_knows_the_cameras_and_none_of_their_secrets(path: Path, tmp_path: Path) -> None:
    secret = "whsec_" + "A" * 32
    hook = {"id": "alarm", "url": "https://example.com/hook", "secret": secret, "cameras": ["gate"]}
    path.write_text(json.dumps(content(webhooks=[hook])))
    spec = cut(path, {}).specs[CONTROL]
    theirs = tmp_path / "control.yaml"
    theirs.write_text(spec.text)
    config = load(theirs, environ={})
    assert [camera.id for camera in config.cameras] == ["lobby", "gate"]
    assert [webhook.id for webhook in config.webhooks] == ["alarm"]
    assert KEY not in spec.text
    assert "10.0.0.1" not in spec.text


def test_there_is_no_control_group_where_it_would_have_nothing_to_do(path: Path) -> None:
    path.write_text(json.dumps(content(gateway={"listen": "none"})))
    assert CONTROL not in cut(path, {}).specs


def test_another_camera_changes_no_other_groups_file(path: Path) -> None:
    before = cut(path, {})
    cameras = [*content()["cameras"], {"id": "attic", "url": "rtsp://10.0.0.3/"}]
    path.write_text(json.dumps(content(cameras=cameras)))
    after = cut(path, assignment(before.groups))
    assert after.specs["zone-west-1"].digest == before.specs["zone-west-1"].digest
    assert after.specs["zone-east-1"].digest != before.specs["zone-east-1"].digest


def test_secrets_are_not_shown() -> None:
    from nvision_hub.broker.lease import LeaseSettings  # noqa: PLC0415
    from nvision_hub.engine.vault import Seat  # noqa: PLC0415

    url = "redis://:secret@10.0.0.5"
    seat = Seat(site="s", group="g-1", redis_url=url, prefix="nvision")
    assert "secret" not in repr(seat) + repr(LeaseSettings(url=url, prefix="nvision", holder="h"))


@pytest.mark.parametrize(
    ("wanted", "running", "actions"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({"a-1": "x"}, {"a-1": "x"}, [], id="as it should be"),
        pytest.param({"a-1": "x"}, {}, [Create("a-1")], id="new"),
        pytest.param({"a-1": "x"}, {"a-1": "y"}, [Apply("a-1")], id="changed"),
        pytest.param({"a-1": "x"}, {"a-1": ""}, [Apply("a-1")], id="created and given nothing yet"),
        pytest.param({"a-1": "x"}, {"a-1": None}, [Wait("a-1")], id="started anew"),
        pytest.param({}, {"a-1": None}, [Remove("a-1")], id="gone"),
        pytest.param({"a-1": "x", "b-1": "y"}, {"z-1": "x"}, [Remove("z-1"), Create("a-1"), Create("b-1")], id="moved"),
    ],
)
def test_what_is_to_be_done(wanted: dict[str, str], running: dict[str, str | None], actions: list[object]) -> None:
    assert reconcile(wanted, running) == actions


def test_a_hub_is_part_of_a_fleet_only_where_it_is_told() -> None:
    assert Part.taken_from({}) is None
    one, other = Part.taken_from({VARIABLE: "any-1"}), Part.taken_from({VARIABLE: "any-1"})
    assert one is not None
    assert other is not None
    assert one.holder != other.holder
    assert not one.controls
    control = Part.taken_from({VARIABLE: CONTROL})
    assert control is not None
    assert control.controls


def imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        match node:
            case ast.Import(names=names):
                yield from (alias.name for alias in names)
            case ast.ImportFrom(module=str(module)):
                yield module


def test_nothing_outside_of_the_engine_imports_ray() -> None:
    for package in ("nvision_hub", "workers"):
        for path in (ROOT / package).rglob("*.py"):
            if path.parent.name != "engine":
                assert not [name for name in imported(path) if name.split(".")[0] == "ray"], path


def test_a_hub_of_one_machine_loads_neither_ray_nor_the_engine(tmp_path: Path) -> None:
    program = """
import sys
from nvision_hub.cli import main
code = main(["start", "there-is-none.yaml"])
from nvision_hub import hub
loaded = [name for name in sys.modules if name.split(".")[0] == "ray" or name.startswith("nvision_hub.engine")]
sys.exit(str(loaded) if loaded or code != 78 else 0)
"""
    ended = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=60
    )
    assert ended.returncode == 0, ended.stderr
