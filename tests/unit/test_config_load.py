"""The configuration that a valid cameras.yaml produces."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from pydantic import ValidationError

from nvision_hub.config.load import load
from nvision_hub.config.schema import template
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import ConfigError

if TYPE_CHECKING:
    from nvision_hub.config.models import Config

ROOT = Path(__file__).parents[2]
WEBHOOK_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

ONE_CAMERA = "cameras:\n  - id: a\n    url: demo://street\n"

EVERY_KEY = """\
version: 1
site: demo
nvision:
  url: wss://nvision.nipa.cloud/api
  service: object-detection
  streaming_key: ${NVISION_STREAMING_KEY:-}
  confidence_threshold: 0.1
  output_cropped_image: false
  output_visualized_image: true
redis: {url: "redis://10.0.0.2", embedded_port: 0, prefix: nv, stream_max_entries: 10}
gateway:
  listen: 0.0.0.0:8080
  token: ${file:token}
  tokens:
    prometheus: {role: metrics, token: "${file:metrics_token}"}
    ops: {role: control, token: "5f0c8e2b7d94413aa6b1de3870c952f4"}
  tls: {cert: /etc/hub/cert.pem, key: key.pem}
  proxy: {addresses: [127.0.0.1, 10.0.0.0/24], user_header: Remote-User, role_header: Remote-Groups}
  insecure: false
  callback_token: ${NVISION_CALLBACK_TOKEN:-}
state_dir: state
defaults:
  fps: 2
  jpeg_quality: 70
  max_width: 640
  transport: udp
  when: motion
  stall_timeout: 3.5
  hwaccel: cuda
  nvision: {confidence_threshold: 0.3}
  labels: {site: east}
  motion: {sensitivity: 0.9}
cameras:
  - id: lobby
    name: Lobby, north door
    url: rtsp://viewer:${LOBBY_PASSWORD}@10.0.0.5/stream1
    fps: 0.5
    max_width: null
    nvision: {service: face-detection}
    labels: {floor: 1}
    masks: [[[0, 0], [0.3, 0], [0.3, 0.2], [0, 0.2]]]
    motion: {cooldown: 4, idle_fps: 1, ignore: [[[0, 0], [1, 0], [1, 1]]]}
    placement: {site: east}
  - {id: other, url: "usb:0", nvision: {url: local}}
webhooks:
  - id: alarms
    url: https://example.com/hook
    secret: ${ALARM_SECRET}
    cameras: [lobby]
    classes: [person, no]
    min_confidence: 0.6
    allow_private: yes
"""


@pytest.fixture
def write(tmp_path: Path) -> Path:
    return tmp_path / "cameras.yaml"


def _load(path: Path, text: str, **environ: str) -> Config:
    path.write_text(text)
    return load(path, environ=environ)


def test_one_camera_is_enough(write: Path) -> None:
    config = _load(write, ONE_CAMERA)
    camera = config.camera("a")
    assert config.path == write
    assert config.state_dir == write.parent / ".nvision-hub"
    assert config.redis.url.embedded
    assert config.gateway.listen.shown == "127.0.0.1:8080"
    assert camera.nvision.url.local
    assert (camera.fps, camera.jpeg_quality, camera.max_width, camera.stall_timeout) == (5, 85, None, 10)
    assert (camera.transport, camera.when, camera.hwaccel) == ("auto", "always", "none")
    with pytest.raises(KeyError):
        config.camera("b")


def test_every_key_of_the_contract_is_accepted(write: Path) -> None:
    (write.parent / "token").write_text("9f86d081884c7d659a2feaa0c55ad015\n")
    (write.parent / "metrics_token").write_text("60303ae22b998861bce3b28f33eec1be\n")
    config = _load(
        write,
        EVERY_KEY,
        LOBBY_PASSWORD="p@ss:/?#%[] é",
        NVISION_STREAMING_KEY="key",
        ALARM_SECRET=WEBHOOK_SECRET,
    )
    lobby, other = config.cameras
    assert lobby.address.password == Secret("p@ss:/?#%[] é")
    assert (lobby.fps, lobby.jpeg_quality, lobby.max_width, other.max_width) == (0.5, 70, None, 640)
    assert lobby.nvision.service == "face-detection"
    assert (lobby.nvision.confidence_threshold, lobby.nvision.output_visualized_image) == (0.3, True)
    assert lobby.nvision.streaming_key == Secret("key")
    assert other.nvision.url.local
    assert dict(lobby.labels) == {"site": "east", "floor": "1"}
    assert (lobby.motion.sensitivity, lobby.motion.cooldown, other.motion.cooldown) == (0.9, 4, 10)
    assert lobby.masks == (((0.0, 0.0), (0.3, 0.0), (0.3, 0.2), (0.0, 0.2)),)
    assert config.gateway.token == Secret("9f86d081884c7d659a2feaa0c55ad015")
    assert [(name, each.role) for name, each in config.gateway.tokens.items()] == [
        ("prometheus", "metrics"),
        ("ops", "control"),
    ]
    assert config.gateway.tokens["prometheus"].token == Secret("60303ae22b998861bce3b28f33eec1be")
    assert config.gateway.tls is not None
    assert config.gateway.tls.cert == Path("/etc/hub/cert.pem")
    assert config.gateway.tls.key == write.parent / "key.pem"
    assert config.gateway.proxy is not None
    assert [address.shown for address in config.gateway.proxy.addresses] == ["127.0.0.1", "10.0.0.0/24"]
    assert config.gateway.proxy.roles["admin"] == "admin"
    assert not config.gateway.callback_token
    assert config.state_dir == write.parent / "state"
    assert config.webhooks[0].secret == (Secret(WEBHOOK_SECRET),)
    assert config.webhooks[0].classes == ("person", "no")
    assert config.webhooks[0].allow_private


def test_a_configuration_is_immutable(write: Path) -> None:
    config = _load(write, ONE_CAMERA)
    with pytest.raises(ValidationError):
        config.cameras[0].fps = 1


def test_texts_keep_their_spelling(write: Path) -> None:
    camera = _load(
        write,
        "cameras:\n  - {id: 007, url: rtsp://x, username: 0x10, password: 0123, name: yes, labels: {a: 1.10}}\n",
    ).cameras[0]
    assert (camera.id, camera.username, camera.password, camera.name) == ("007", "0x10", Secret("0123"), "yes")
    assert dict(camera.labels) == {"a": "1.10"}


def test_variables_may_appear_anywhere_in_a_text(write: Path) -> None:
    (write.parent / "secrets").mkdir()
    (write.parent / "secrets" / "password").write_text("from file\r\n")
    text = """\
site: ${SITE:-here}-$${SITE}
defaults: {fps: "${FPS}", jpeg_quality: "${Q:-7}0", max_width: "${WIDTH:-}", nvision: {output_cropped_image: "${CROP}"}}
cameras:
  - {id: "${ID}", url: "${SCHEME}://${HOST}/s", username: u, password: "a${file:secrets/password}b$"}
"""
    config = _load(write, text, FPS="0.5", CROP="true", ID="cam", SCHEME="rtsp", HOST="10.0.0.5", SITE="")
    camera = config.cameras[0]
    assert config.site == "here-${SITE}"
    assert (camera.id, camera.fps, camera.jpeg_quality, camera.max_width) == ("cam", 0.5, 70, None)
    assert camera.nvision.output_cropped_image
    assert camera.address.password == Secret("afrom fileb$")


def test_the_value_of_a_variable_is_literal(write: Path) -> None:
    text = ONE_CAMERA + "    password: ${P}\n"
    config = _load(write, text.replace("demo://street", "rtsp://10.0.0.5"), P='a: [${P}] #"x')
    assert config.cameras[0].password == Secret('a: [${P}] #"x')


def test_empty_sections_equal_missing_sections(write: Path) -> None:
    config = _load(
        write,
        "nvision: {confidence_threshold: 0.9}\ndefaults:\nredis:\nwebhooks:\n"
        + ONE_CAMERA
        + "    nvision:\n    labels:\n    masks:\n",
    )
    assert config.cameras[0].nvision.confidence_threshold == 0.9
    assert config.webhooks == ()


def test_anchors_and_merges_work(write: Path) -> None:
    config = _load(
        write,
        """\
cameras:
  - &first {id: a, url: demo://street, fps: 1, labels: &l {x: y}}
  - {<<: *first, id: b, fps: 2}
  - {id: c, labels: *l, url: demo://street, <<: [*first]}
""",
    )
    assert [(camera.id, camera.fps, dict(camera.labels)) for camera in config.cameras] == [
        ("a", 1, {"x": "y"}),
        ("b", 2, {"x": "y"}),
        ("c", 1, {"x": "y"}),
    ]


def test_a_camera_with_its_own_key_needs_no_general_key(write: Path) -> None:
    config = _load(
        write,
        "nvision: {url: wss://n.example/api}\ncameras:\n  - {id: a, url: demo://street, nvision: {streaming_key: k}}\n",
    )
    assert config.cameras[0].nvision.streaming_key == Secret("k")


def test_default_credentials_apply_to_cameras_without_their_own(write: Path) -> None:
    config = _load(
        write,
        """\
defaults: {username: all, password: same}
cameras:
  - {id: a, url: rtsp://10.0.0.5/}
  - {id: b, url: "rtsp://own:word@10.0.0.6/"}
  - {id: c, url: "usb:0"}
""",
    )
    assert [camera.address.dial() for camera in config.cameras] == [
        "rtsp://all:same@10.0.0.5/",
        "rtsp://own:word@10.0.0.6/",
        "0",
    ]


def test_paths_are_relative_to_the_file_not_to_the_working_directory(
    write: Path, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write.write_text(ONE_CAMERA.replace("demo://street", "file:clips/a.mp4"))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    monkeypatch.chdir(elsewhere)
    config = load(Path(os.path.relpath(write)), environ={})
    assert config.path == write
    assert config.cameras[0].address.dial() == str(write.parent / "clips/a.mp4")
    monkeypatch.setenv("HOME", str(elsewhere))
    assert _load(write, ONE_CAMERA + "state_dir: ~/hub\n").state_dir == elsewhere / "hub"


def test_models_of_the_local_service_are_files_beside_the_configuration(write: Path) -> None:
    nvision = (
        _load(write, ONE_CAMERA + "nvision: {model: yolo.onnx, face_model: models/yunet.onnx}\n").cameras[0].nvision
    )
    assert (nvision.model, nvision.face_model) == (write.parent / "yolo.onnx", write.parent / "models/yunet.onnx")
    assert _load(write, ONE_CAMERA + "nvision: {model: moving}\n").cameras[0].nvision.model == "moving"


def test_labels_need_a_model_of_the_user(write: Path) -> None:
    with_model = _load(write, ONE_CAMERA + "nvision: {model: yolo.onnx, labels: names.txt}\n")
    assert with_model.cameras[0].nvision.labels == write.parent / "names.txt"
    for section in ("{labels: names.txt}", "{labels: names.txt, model: moving}", "{labels: names.txt, model: }"):
        with pytest.raises(ConfigError) as refused:
            _load(write, ONE_CAMERA + f"nvision: {section}\n")
        (diagnostic,) = refused.value.diagnostics
        assert (diagnostic.code, diagnostic.path) == ("unused_key", ("nvision", "labels"))
    assert _load(write, ONE_CAMERA + "nvision: {labels: }\n").cameras[0].nvision.labels is None


@pytest.mark.parametrize("key", ["model", "labels"])
def test_one_camera_cannot_choose_the_model_that_all_cameras_share(write: Path, key: str) -> None:
    with pytest.raises(ConfigError) as refused:
        _load(write, ONE_CAMERA + f"    nvision: {{{key}: moving}}\n")
    (diagnostic,) = refused.value.diagnostics
    assert (diagnostic.code, diagnostic.path) == ("not_per_camera", ("cameras", 0, "nvision", key))


def test_a_byte_order_mark_is_skipped(write: Path) -> None:
    write.write_bytes(b"\xef\xbb\xbf" + ONE_CAMERA.encode())
    assert load(write, environ={}).cameras[0].id == "a"


def test_the_file_of_the_repository_runs_unchanged() -> None:
    config = load(ROOT / "cameras.yaml", environ={})
    assert [(camera.id, camera.address.kind, camera.fps) for camera in config.cameras] == [
        ("street", "demo", 5),
        ("crossing", "demo", 2),
        ("parking", "demo", 0.5),
    ]
    assert config.redis.url.embedded
    assert config.nvision.url.local


def test_the_file_that_init_writes_runs_unchanged(write: Path) -> None:
    assert _load(write, template()).cameras[0].address.kind == "demo"


@pytest.mark.parametrize("text", [template(), (ROOT / "cameras.yaml").read_text()], ids=["init", "repository"])
def test_the_commented_examples_are_valid(write: Path, text: str) -> None:
    lines = []
    for line in text.splitlines():
        before, mark, after = line.partition("# ")
        setting = (
            mark
            and not before.strip()
            and (after.startswith((" ", "-")) or after.split(":")[0].islower())
            and ":" in after
        )
        lines.append(before + after if setting and not after[0].isupper() and _is_yaml(after) else line)
    uncommented = "\n".join(lines).replace("  url: local ", "  # url: local ")
    (write.parent / "hub_token").write_text("5f0c8e2b7d94413aa6b1de3870c952f4")
    secrets = {
        "ALARM_SECRET": WEBHOOK_SECRET,
        "NVISION_STREAMING_KEY": "k",
        "NVISION_CALLBACK_TOKEN": "c",
        "LOBBY_PASSWORD": "p",
        "MQTT_PASSWORD": "m",
    }
    config = _load(write, uncommented, **secrets)
    assert config.webhooks
    assert config.mqtt.url is not None
    assert config.nvision.streaming_key == Secret("k")
    assert "lobby" in [camera.id for camera in config.cameras]


def _is_yaml(line: str) -> bool:
    key = line.strip().removeprefix("- ").removeprefix("{").partition(":")[0]
    return key.replace("_", "").isalpha() and " " not in key
