"""What `render` makes of a cameras.yaml: judged by Kubernetes' own schemas, and by the hub that will read it."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from nvision_hub import grouping
from nvision_hub.config import load
from nvision_hub.errors import ConfigError
from nvision_hub.render import kubernetes, manuscript, pods, systemd
from nvision_hub.render.yaml_text import yaml_text

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.render.kubernetes import Rendered

CANARY = "c4n4ry"
WHSEC = "whsec_" + base64.b64encode(CANARY.encode() * 5).decode()
OPTIONS = pods.Options(image="registry.example/nvision-hub:1", namespace="cctv")
CLEAN = """\
version: 1
site: head-office
state_dir: ${STATE_DIRECTORY:-.nvision-hub}
nvision: {url: "wss://nvision.nipa.cloud/api", streaming_key: "${NVISION_STREAMING_KEY}"}
redis: {url: "redis://redis:6379"}
gateway: {listen: "0.0.0.0:8080", token: "${file:/run/secrets/hub_token}"}
defaults: {fps: 5}
cameras:
  - {id: lobby, name: 'Lobby: "north"', url: "rtsp://10.0.0.5/1", username: viewer, password: "${LOBBY_PASSWORD}"}
  - {id: gate, url: "rtsp://viewer:${GATE_PASSWORD}@10.0.0.6:8554/1", labels: {floor: "01", open: "yes"}}
  - {id: east, url: "http://10.1.0.5/v.mjpg?channel=1", placement: {zone: east-1}}
  - id: dark
    url: "${DARK_URL:-rtsp://10.1.0.6/1}"
    fps: "${DARK_FPS:-2}"
    placement: {zone: east-1, rack: "Nr. 7"}
webhooks:
  - {id: alarms, url: "${ALARM_URL}", secret: ["${ALARM_SECRET}", "${file:old secret}"], cameras: [lobby, east]}
"""
LITERAL = f"""\
version: 1
nvision: {{url: "wss://nvision.nipa.cloud/api", streaming_key: {CANARY}-key}}
redis: {{url: "redis://:{CANARY}-redis@redis:6379"}}
gateway: {{token: {CANARY}-token, callback_token: "${{CALLBACK:-{CANARY}-default}}"}}
mqtt: {{url: "mqtt://user:{CANARY}-mqtt@10.0.0.3:1883"}}
defaults: {{password: {CANARY}-defaults, username: viewer}}
cameras:
  - {{id: a-b, url: "rtsp://10.0.0.5/1"}}
  - {{id: a_b, url: "rtsp://10.0.0.5/1", password: "{CANARY}-${{HALF}}"}}
  - {{id: same, url: "rtsp://10.0.0.5/1", password: {CANARY}-defaults}}
  - {{id: url, url: "rtsp://viewer:{CANARY}/@:@10.0.0.6/1"}}
  - {{id: query, url: "http://10.0.0.7/v.mjpg?user=x&pwd={CANARY}-pwd"}}
  - {{id: escaped, url: "rtsp://10.0.0.8/1", password: "{CANARY}-$${{x"}}
webhooks:
  - {{id: alarms, url: "https://example.com/{CANARY}-hook", secret: {WHSEC}}}
"""


@pytest.fixture
def written(tmp_path: Path) -> Callable[[str], Path]:
    def write(text: str) -> Path:
        file = tmp_path / "cameras.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write


def rendered(file: Path, environ: dict[str, str] | None = None) -> tuple[manuscript.Manuscript, Rendered]:
    source = manuscript.read(file, environ or {})
    return source, kubernetes.render(source, grouping.group(source.config.cameras), OPTIONS)


def objects(result: Rendered, kind: str) -> list[dict[str, Any]]:
    return [it for documents in result.documents.values() for it in documents if it["kind"] == kind]


def test_kubernetes_own_schemas_take_every_object(written: Callable[[str], Path]) -> None:
    for text in (CLEAN, LITERAL):
        _, result = rendered(written(text))
        documents = [it for those in result.documents.values() for it in those]
        parsed = list(YAML(typ="safe").load_all(yaml_text(documents)))
        assert parsed == json.loads(json.dumps(documents))
        for document in parsed:
            if document["kind"] != "PodMonitor":  # its operator's, which these schemas do not know
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        assert all(it["metadata"]["namespace"] == "cctv" for it in documents)


def test_each_group_is_a_hub_that_reads_its_own_file(written: Callable[[str], Path], tmp_path: Path) -> None:
    _, result = rendered(written(CLEAN))
    texts = {it["metadata"]["name"]: it["data"]["cameras.yaml"] for it in objects(result, "ConfigMap")}
    assert len(texts) == 3
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, content in {"hub_token": "t", "old-secret": WHSEC}.items():
        (secrets / name).write_text(content)
    seen = []
    for name, text in texts.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(text.replace(pods.SECRETS_DIR, str(secrets)), encoding="utf-8")
        (deployment,) = (it for it in objects(result, "Deployment") if it["metadata"]["name"] == name)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given = {it["name"]: "https://example.com/x" if it["name"] == "ALARM_URL" else WHSEC for it in container["env"]}
        given = {key: value for key, value in given.items() if not key.startswith("DARK")}  # optional ones
        config = load(file, environ=given)
        assert config.gateway.listen.shown == "0.0.0.0:8080"
        assert config.gateway.token is not None
        assert str(config.state_dir) == "/var/lib/nvision-hub/state"
        assert config.site == "head-office"
        assert not any(camera.placement for camera in config.cameras)
        seen += [camera.id for camera in config.cameras]
        carried = [webhook.id for webhook in config.webhooks]
        assert carried == (["alarms"] if name == "nvision-hub-any-1" else [])
    assert sorted(seen) == ["dark", "east", "gate", "lobby"]


def test_pods_are_confined_and_stop_in_time(written: Callable[[str], Path]) -> None:
    _, result = rendered(written(CLEAN))
    for deployment in objects(result, "Deployment"):
        spec = deployment["spec"]
        pod = spec["template"]["spec"]
        (container,) = pod["containers"]
        assert (spec["replicas"], spec["strategy"]) == (1, {"type": "Recreate"})
        assert spec["selector"]["matchLabels"] == spec["template"]["metadata"]["labels"]
        assert pod["terminationGracePeriodSeconds"] > 10
        assert pod["securityContext"]["runAsNonRoot"]
        assert not pod["automountServiceAccountToken"]
        assert container["securityContext"]["readOnlyRootFilesystem"]
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["livenessProbe"]["httpGet"]["path"] == "/healthz"
        assert container["readinessProbe"]["httpGet"]["path"] == "/readyz"
        mounts = {it["mountPath"]: it for it in container["volumeMounts"]}
        writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
        assert writable == {"/tmp", "/var/lib/nvision-hub"}
        names = {it["name"] for it in pod["volumes"]}
        assert names == {mount["name"] for mount in mounts.values()}
        assert "cpu" not in container["resources"]["limits"]
    assert len({json.dumps(it["spec"]["selector"]) for it in objects(result, "Deployment")}) == 3


def test_weights_and_placement_reach_the_scheduler(written: Callable[[str], Path]) -> None:
    source, result = rendered(written(CLEAN))
    by_name = {it["metadata"]["name"]: it["spec"]["template"]["spec"] for it in objects(result, "Deployment")}
    (near,) = (pod for name, pod in by_name.items() if name.startswith("nvision-hub-p-zone-east"))
    (rather,) = near["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    matches = {it["key"]: it["values"] for it in rather["preference"]["matchExpressions"]}
    assert matches == {"topology.kubernetes.io/zone": ["east-1"]}
    weight = sum(grouping.millicores(source.config.camera(name)) for name in ("lobby", "gate"))
    (container,) = by_name["nvision-hub-any-1"]["containers"]
    assert container["resources"]["requests"]["cpu"] == f"{weight + 200}m"
    assert any("Nr. 7" in note for note in result.notes)


def test_what_the_groups_share(written: Callable[[str], Path]) -> None:
    text = CLEAN.replace("${DARK_URL:-rtsp://10.1.0.6/1}", "rtsp://10.1.0.6/1")
    _, result = rendered(written(text.replace("${ALARM_URL}", "https://example.com:8443/")))
    (monitor,), (policy,) = objects(result, "PodMonitor"), objects(result, "NetworkPolicy")
    (endpoint,) = monitor["spec"]["podMetricsEndpoints"]
    assert endpoint["path"] == "/metrics"
    assert endpoint["authorization"]["credentials"] == {"name": "nvision-hub-files", "key": "hub_token"}
    pod_labels = objects(result, "Deployment")[0]["spec"]["template"]["metadata"]["labels"]
    for selector in (
        monitor["spec"]["selector"],
        policy["spec"]["podSelector"],
        objects(result, "PodDisruptionBudget")[0]["spec"]["selector"],
    ):
        assert selector["matchLabels"].items() <= pod_labels.items()
    (rule,) = policy["spec"]["egress"]
    assert [it["port"] for it in rule["ports"] if it["protocol"] == "TCP"] == [53, 80, 443, 554, 6379, 8443, 8554]
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]


def test_where_a_port_is_a_variable_everything_may_be_reached_and_that_is_told(
    written: Callable[[str], Path],
) -> None:
    _, result = rendered(written(CLEAN))
    assert objects(result, "NetworkPolicy")[0]["spec"]["egress"] == [{}]
    assert any("cameras[3].url" in note and "any address" in note for note in result.notes)


def test_no_secret_comes_out_whoever_wrote_it_where(written: Callable[[str], Path]) -> None:
    environ = {"HALF": CANARY, "CALLBACK": CANARY, "CAMERA_A_B_PASSWORD": CANARY}
    source, result = rendered(written(LITERAL), environ)
    text = yaml_text([it for documents in result.documents.values() for it in documents])
    told = [text, *result.notes, repr(source), *(repr(scalar) for _, scalar in source.tree.scalars())]
    elsewhere = replace(
        source,
        config=source.config.model_copy(update={"state_dir": Path("/var/lib/nvision-hub")}),
        path=Path("/etc/nvision-hub/cameras.yaml"),
    )
    unit = systemd.render(elsewhere, Path("/opt/nvision-hub/bin/nvision-hub"))
    told += [unit.text, *unit.notes]
    assert CANARY not in "".join(told)
    assert base64.b64encode(CANARY.encode() * 5).decode() not in "".join(told)
    assert {literal.name for literal in source.literals} == {
        "NVISION_STREAMING_KEY",
        "REDIS_URL",
        "GATEWAY_TOKEN",
        "GATEWAY_CALLBACK_TOKEN",
        "MQTT_URL",
        "DEFAULTS_PASSWORD",  # of two places
        "CAMERA_A_B_PASSWORD",
        "CAMERA_URL_URL",
        "CAMERA_QUERY_URL",
        "CAMERA_ESCAPED_PASSWORD",
        "WEBHOOK_ALARMS_URL",
        "WEBHOOK_ALARMS_SECRET",
    }
    (create, *_) = result.notes
    assert "kubectl create secret generic nvision-hub --namespace cctv --from-env-file=hub.env" in create
    assert "GATEWAY_TOKEN (gateway.token, cameras.yaml:4:18)" in create


def test_a_secret_in_the_environment_is_not_even_looked_at(written: Callable[[str], Path]) -> None:
    secrets = ("NVISION_STREAMING_KEY", "LOBBY_PASSWORD", "GATE_PASSWORD", "ALARM_SECRET", "ALARM_URL", "DARK_URL")
    _, bare = rendered(written(CLEAN))
    _, given = rendered(written(CLEAN), dict.fromkeys(secrets, CANARY))
    assert given == bare
    _, faster = rendered(written(CLEAN), {"DARK_FPS": "25"})  # what groups are weighed by is
    assert faster != bare


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (('"redis://redis:6379"', "embedded"), "give the address of a Redis"),
        (('"redis://redis:6379"', '"redis://localhost"'), "this is the pod itself"),
        (('"redis://redis:6379"', '"redis://user:${X}@[::1]:6379/0"'), "this is the pod itself"),
        (('"redis://redis:6379"', '"unix:///run/redis.sock"'), "this is the pod itself"),
        (('"rtsp://10.0.0.5/1", username: viewer, password: "${LOBBY_PASSWORD}"', '"usb:0"'), "belongs to one machine"),
        (("fps: 5", "fps: 500"), "at most 60"),
        (("fps: 5", 'fps: "${UNSET}"'), "the environment variable UNSET is not set"),
    ],
)
def test_what_cannot_run_there_is_refused_with_a_sentence(
    written: Callable[[str], Path], change: tuple[str, str], sentence: str
) -> None:
    text = CLEAN.replace(*change)
    assert text != CLEAN
    with pytest.raises(ConfigError, match=sentence):
        rendered(written(text))


def test_a_token_is_made_where_none_is_given(written: Callable[[str], Path]) -> None:
    text = CLEAN.replace('gateway: {listen: "0.0.0.0:8080", token: "${file:/run/secrets/hub_token}"}', "")
    for changed in (text, text + 'gateway: {token: "${NVISION_HUB_TOKEN:-}"}\n'):
        _, result = rendered(written(changed))
        for config_map in objects(result, "ConfigMap"):
            assert "token: ${NVISION_HUB_TOKEN}" in config_map["data"]["cameras.yaml"]
        env = objects(result, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
        (token,) = (it["valueFrom"]["secretKeyRef"] for it in env if it["name"] == "NVISION_HUB_TOKEN")
        assert token == {"name": "nvision-hub", "key": "NVISION_HUB_TOKEN"}
