"""Rendered files are valid for the Kubernetes schemas and for the hub that reads them."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import kubernetes_validate
import pytest
from ruamel.yaml import YAML

from nvision_hub.cluster import placement
from nvision_hub.cluster.cost_model import camera_millicores
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError
from nvision_hub.export import kubernetes, source_config, systemd
from nvision_hub.export.yaml_writer import yaml_text

if TYPE_CHECKING:
    from collections.abc import Callable

CANARY = "c4n4ry"
WHSEC = "whsec_" + base64.b64encode(CANARY.encode() * 5).decode()
TOKEN = "5f0c8e2b7d94413aa6b1de3870c952f4"
OPTIONS = kubernetes.PodOptions(image="registry.example/nvision-hub:1", namespace="cctv")
CLEAN = """\
version: 1
site: head-office
state_dir: ${STATE_DIRECTORY:-.nvision-hub}
nvision: {url: "wss://nvision.nipa.cloud/api", streaming_key: "${NVISION_STREAMING_KEY}"}
redis: {url: "redis://redis:6379"}
gateway: {listen: "0.0.0.0:8080", token: "${file:/run/secrets/hub_token}", insecure: true}
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
redis: {{url: "redis://:{CANARY}-redis@redis:6379", fleet_key: {CANARY}-fleet-key-0123456789}}
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
def write(tmp_path: Path) -> Callable[[str], Path]:
    def write_text(text: str) -> Path:
        file = tmp_path / "cameras.yaml"
        file.write_text(text, encoding="utf-8")
        return file

    return write_text


Documents = dict[str, list[dict[str, Any]]]


def rendered(
    file: Path, environ: dict[str, str] | None = None
) -> tuple[source_config.SourceConfig, Documents, list[str]]:
    source = source_config.read(file, environ or {})
    return source, *kubernetes.render(source, placement.group_cameras(source.config.cameras), OPTIONS)


def objects(documents: Documents, kind: str) -> list[dict[str, Any]]:
    return [it for each in documents.values() for it in each if it["kind"] == kind]


def test_every_object_matches_the_kubernetes_schemas(write: Callable[[str], Path]) -> None:
    for text in (CLEAN, LITERAL):
        _, result, _ = rendered(write(text))
        documents = [it for objects in result.values() for it in objects]
        parsed = list(YAML(typ="safe").load_all(yaml_text(documents)))
        assert parsed == json.loads(json.dumps(documents))
        for document in parsed:
            if document["kind"] != "PodMonitor":  # a custom resource, which these schemas do not contain
                kubernetes_validate.validate(document, kubernetes_validate.latest_version(), strict=True)
        assert all(it["metadata"]["namespace"] == "cctv" for it in documents)


def test_each_config_map_is_a_valid_cameras_yaml(write: Callable[[str], Path], tmp_path: Path) -> None:
    _, result, _ = rendered(write(CLEAN))
    texts = {it["metadata"]["name"]: it["data"]["cameras.yaml"] for it in objects(result, "ConfigMap")}
    assert len(texts) == 3
    secrets = tmp_path / "secrets"
    secrets.mkdir()
    for name, content in {"hub_token": TOKEN, "old-secret": WHSEC}.items():
        (secrets / name).write_text(content)
    cameras = []
    for name, text in texts.items():
        file = tmp_path / f"{name}.yaml"
        file.write_text(text.replace(kubernetes.SECRETS_DIR, str(secrets)), encoding="utf-8")
        (deployment,) = (it for it in objects(result, "Deployment") if it["metadata"]["name"] == name)
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        given = {it["name"]: "https://example.com/x" if it["name"] == "ALARM_URL" else WHSEC for it in container["env"]}
        given = {key: value for key, value in given.items() if not key.startswith("DARK")}  # these are optional
        given |= {key: TOKEN for key in given if key.endswith("_TOKEN")}
        config = load(file, environ=given)
        assert config.gateway.listen.shown == "0.0.0.0:8080"
        assert config.gateway.health_listen.shown == "0.0.0.0:8081"
        assert config.gateway.token is not None
        assert "insecure: true  # TLS ends at the ingress" in text
        assert str(config.state_dir) == "/var/lib/nvision-hub/state"
        assert config.site == "head-office"
        assert not any(camera.placement for camera in config.cameras)
        cameras += [camera.id for camera in config.cameras]
        webhooks = [webhook.id for webhook in config.webhooks]
        assert webhooks == (["alarms"] if name == "nvision-hub-any-1" else [])
    assert sorted(cameras) == ["dark", "east", "gate", "lobby"]


def test_pods_are_confined_and_have_time_to_stop(write: Callable[[str], Path]) -> None:
    _, result, _ = rendered(write(CLEAN))
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
        assert {"name": "health", "containerPort": 8081} in container["ports"]
        assert container["startupProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
        assert container["livenessProbe"]["httpGet"] == {"path": "/healthz", "port": "health"}
        assert container["readinessProbe"]["httpGet"] == {"path": "/readyz", "port": "health"}
        mounts = {it["mountPath"]: it for it in container["volumeMounts"]}
        writable = {path for path, mount in mounts.items() if not mount.get("readOnly")}
        assert writable == {"/tmp", "/var/lib/nvision-hub"}
        names = {it["name"] for it in pod["volumes"]}
        assert names == {mount["name"] for mount in mounts.values()}
        assert "cpu" not in container["resources"]["limits"]
    assert len({json.dumps(it["spec"]["selector"]) for it in objects(result, "Deployment")}) == 3


def test_requests_and_placement_reach_the_scheduler(write: Callable[[str], Path]) -> None:
    source, result, notes = rendered(write(CLEAN))
    by_name = {it["metadata"]["name"]: it["spec"]["template"]["spec"] for it in objects(result, "Deployment")}
    (near,) = (pod for name, pod in by_name.items() if name.startswith("nvision-hub-p-zone-east"))
    (preferred,) = near["affinity"]["nodeAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"]
    matches = {it["key"]: it["values"] for it in preferred["preference"]["matchExpressions"]}
    assert matches == {"topology.kubernetes.io/zone": ["east-1"]}
    millicores = sum(camera_millicores(source.config.camera(name)) for name in ("lobby", "gate"))
    (container,) = by_name["nvision-hub-any-1"]["containers"]
    assert container["resources"]["requests"]["cpu"] == f"{millicores + 200}m"
    assert any("Nr. 7" in note for note in notes)


def test_shared_objects_select_the_pods_of_all_groups(write: Callable[[str], Path]) -> None:
    text = CLEAN.replace("${DARK_URL:-rtsp://10.1.0.6/1}", "rtsp://10.1.0.6/1")
    _, result, _ = rendered(write(text.replace("${ALARM_URL}", "https://example.com:8443/")))
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
    assert policy["spec"]["policyTypes"] == ["Ingress", "Egress"]
    (rule,) = policy["spec"]["egress"]
    assert [it["port"] for it in rule["ports"] if it["protocol"] == "TCP"] == [53, 80, 443, 554, 6379, 8443, 8554]
    assert policy["spec"]["ingress"][0]["ports"] == [{"protocol": "TCP", "port": 8080}]


def test_sentinels_and_tls_files_are_rendered_with_notes(write: Callable[[str], Path]) -> None:
    text = CLEAN.replace("${DARK_URL:-rtsp://10.1.0.6/1}", "rtsp://10.1.0.6/1").replace(
        "${ALARM_URL}", "https://a.example/"
    )
    secrets = 'sentinel_username: watch, sentinel_password: "${SENTINELS}", tls: {ca_file: /etc/redis/ca.pem}'
    for url in ("rediss+sentinel://:${WORD}@s1:26379,s2:26379/mymaster", "rediss+sentinel://s1/mymaster"):
        file = write(text.replace('redis: {url: "redis://redis:6379"}', f'redis: {{url: "{url}", {secrets}}}'))
        source, result, notes = rendered(file)
        assert source.redis_host == "s1"
        assert "SENTINELS" in source.variables
        # The Sentinels name servers with any port.
        assert objects(result, "NetworkPolicy")[0]["spec"]["egress"] == [{}]
        assert any("redis.url" in note and "all egress" in note for note in notes)
        assert "mount the files of redis.tls into every pod, at these absolute paths: /etc/redis/ca.pem" in notes


def test_a_port_in_a_variable_allows_all_egress_and_adds_a_note(
    write: Callable[[str], Path],
) -> None:
    _, result, notes = rendered(write(CLEAN))
    assert objects(result, "NetworkPolicy")[0]["spec"]["egress"] == [{}]
    assert any("cameras[3].url" in note and "all egress" in note for note in notes)


def test_an_onvif_camera_allows_all_egress_because_it_names_its_stream(write: Callable[[str], Path]) -> None:
    text = CLEAN.replace("${DARK_URL:-rtsp://10.1.0.6/1}", "onvif://10.1.0.6")
    _, result, notes = rendered(write(text.replace("${ALARM_URL}", "https://a.example/")))
    assert objects(result, "NetworkPolicy")[0]["spec"]["egress"] == [{}]
    assert any("cameras[3].url" in note and "all egress" in note for note in notes)


def test_no_output_contains_a_secret(write: Callable[[str], Path]) -> None:
    environ = {"HALF": CANARY, "CALLBACK": CANARY, "CAMERA_A_B_PASSWORD": CANARY}
    source, result, notes = rendered(write(LITERAL), environ)
    text = yaml_text([it for documents in result.values() for it in documents])
    output = [text, *notes, repr(source), *(repr(scalar) for _, scalar in source.tree.scalars())]
    installed = replace(
        source,
        config=source.config.model_copy(update={"state_dir": Path("/var/lib/nvision-hub")}),
        path=Path("/etc/nvision-hub/cameras.yaml"),
    )
    unit, unit_notes = systemd.render(installed, Path("/opt/nvision-hub/bin/nvision-hub"))
    output += [unit, *unit_notes]
    assert CANARY not in "".join(output)
    assert base64.b64encode(CANARY.encode() * 5).decode() not in "".join(output)
    assert {literal.name for literal in source.literals} == {
        "NVISION_STREAMING_KEY",
        "REDIS_URL",
        "REDIS_FLEET_KEY",
        "GATEWAY_TOKEN",
        "GATEWAY_CALLBACK_TOKEN",
        "MQTT_URL",
        "DEFAULTS_PASSWORD",  # two cameras use this default
        "CAMERA_A_B_PASSWORD",
        "CAMERA_URL_URL",
        "CAMERA_QUERY_URL",
        "CAMERA_ESCAPED_PASSWORD",
        "WEBHOOK_ALARMS_URL",
        "WEBHOOK_ALARMS_SECRET",
    }
    (create, *_) = notes
    assert "kubectl create secret generic nvision-hub --namespace cctv --from-env-file=hub.env" in create
    assert "GATEWAY_TOKEN (gateway.token, cameras.yaml:4:18)" in create


def test_secrets_in_the_environment_are_never_read(write: Callable[[str], Path]) -> None:
    secrets = ("NVISION_STREAMING_KEY", "LOBBY_PASSWORD", "GATE_PASSWORD", "ALARM_SECRET", "ALARM_URL", "DARK_URL")
    _, *bare = rendered(write(CLEAN))
    _, *given = rendered(write(CLEAN), dict.fromkeys(secrets, CANARY))
    assert given == bare
    _, *faster = rendered(write(CLEAN), {"DARK_FPS": "25"})  # a rate is not secret and changes a group's cost
    assert faster != bare


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (('"redis://redis:6379"', "embedded"), "give the address of a Redis"),
        (('"redis://redis:6379"', '"redis://localhost"'), "refers to the pod itself"),
        (('"redis://redis:6379"', '"redis://user:${X}@[::1]:6379/0"'), "refers to the pod itself"),
        (('"redis://redis:6379"', '"unix:///run/redis.sock"'), "refers to the pod itself"),
        (('"rtsp://10.0.0.5/1", username: viewer, password: "${LOBBY_PASSWORD}"', '"usb:0"'), "belongs to one machine"),
        (("fps: 5", "fps: 500"), "at most 60"),
        (("fps: 5", 'fps: "${UNSET}"'), "the environment variable UNSET is not set"),
    ],
)
def test_settings_that_cannot_work_in_a_pod_are_rejected(
    write: Callable[[str], Path], change: tuple[str, str], error: str
) -> None:
    text = CLEAN.replace(*change)
    assert text != CLEAN
    with pytest.raises(ConfigError, match=error):
        rendered(write(text))


def test_a_missing_token_becomes_a_reference(write: Callable[[str], Path]) -> None:
    text = CLEAN.replace(
        'gateway: {listen: "0.0.0.0:8080", token: "${file:/run/secrets/hub_token}", insecure: true}', ""
    )
    for changed in (text, text + 'gateway: {token: "${NVISION_HUB_TOKEN:-}"}\n'):
        _, result, _ = rendered(write(changed))
        for config_map in objects(result, "ConfigMap"):
            assert "token: ${NVISION_HUB_TOKEN}" in config_map["data"]["cameras.yaml"]
        env = objects(result, "Deployment")[0]["spec"]["template"]["spec"]["containers"][0]["env"]
        (token,) = (it["valueFrom"]["secretKeyRef"] for it in env if it["name"] == "NVISION_HUB_TOKEN")
        assert token == {"name": "nvision-hub", "key": "NVISION_HUB_TOKEN"}
