"""Validate the output of `render` and the files in deploy/ with the programs that read them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
import redis
from compose_spec import PyCompose
from ruamel.yaml import YAML

from nvision_hub.config.load import load
from tests.support import command, hub, needs
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.long


ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
UNIT: Final = DEPLOY / "nvision-hub.service"
MAX_EXPOSURE: Final = 3.0
PROGRAM: Final = "/opt/nvision-hub/bin/nvision-hub"
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
EXIT_UNAVAILABLE: Final = 69

CAMERAS: Final = """\
state_dir: ${STATE_DIRECTORY:-.nvision-hub}
redis: {url: "redis://redis:6379"}
gateway: {listen: "0.0.0.0:9000", token: "${HUB_TOKEN}", insecure: true}
cameras:
  - {id: lobby, url: "rtsp://10.0.0.5/1", password: "${file:/run/secrets/lobby}", username: viewer}
  - {id: east, url: "rtsp://10.1.0.5/1", placement: {site: east}}
"""


def write_config(folder: Path, text: str = CAMERAS) -> Path:
    file = folder / "cameras.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def run_program(*words: object) -> str:
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def documented_config() -> str:
    """Return the cameras.yaml in the manual's chapter on systemd."""
    chapter = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8").partition("## systemd")[2]
    found = re.search(r"```yaml\n(version: .*?)```", chapter, re.DOTALL)
    assert found is not None
    return found[1]


def test_kubectl_builds_the_rendered_folder(tmp_path: Path) -> None:
    kubectl = needs.program("kubectl", "kubernetes-client")
    write_config(tmp_path)
    render = ("render", "kubernetes", "--output", "manifests", "--namespace", "cctv")
    first = command.run(*render, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    built = list(YAML(typ="safe").load_all(run_program(kubectl, "kustomize", tmp_path / "manifests")))
    kinds = sorted(it["kind"] for it in built)
    assert kinds == [
        *("ConfigMap", "ConfigMap", "Deployment", "Deployment"),
        *("NetworkPolicy", "PodDisruptionBudget", "PodMonitor"),
    ]
    assert {it["metadata"]["namespace"] for it in built} == {"cctv"}
    piped = command.run("render", "kubernetes", "--namespace", "cctv", cwd=tmp_path)
    objects = {(it["kind"], it["metadata"]["name"]): it for it in YAML(typ="safe").load_all(piped.stdout)}
    assert objects == {(it["kind"], it["metadata"]["name"]): it for it in built}
    assert "kubectl create secret generic nvision-hub --namespace cctv --from-env-file=hub.env" in first.stderr
    assert "--from-file=lobby=/run/secrets/lobby" in first.stderr


def test_groups_are_stored_beside_the_file(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    kept = tmp_path / "cameras.groups.json"
    assert command.run("render", "kubernetes", cwd=tmp_path).returncode == 0
    assert json.loads(kept.read_text()) == {"any-1": ["lobby"], "site-east-1": ["east"]}
    kept.write_text('{"any-7": ["lobby"], "site-east-1": ["east"]}')
    more = CAMERAS + '  - {id: attic, url: "rtsp://10.0.0.6/1"}\n'
    file.write_text(more.replace('  - {id: east, url: "rtsp://10.1.0.5/1", placement: {site: east}}\n', ""))
    again = command.run("render", "kubernetes", cwd=tmp_path)
    assert json.loads(kept.read_text()) == {"any-7": ["attic", "lobby"]}
    assert "kubectl delete deployment,configmap nvision-hub-site-east-1" in again.stderr
    kept.write_text("{")
    refused = command.run("render", "kubernetes", cwd=tmp_path)
    assert refused.returncode == 1
    assert "cameras.groups.json: not an assignment of cameras to groups" in refused.stderr
    assert refused.stdout == ""


def test_the_shipped_unit_is_rendered_from_the_documented_config(tmp_path: Path) -> None:
    file = write_config(tmp_path, documented_config())
    rendered = command.run("render", "systemd", file, "--program", PROGRAM, cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stdout.replace(str(tmp_path), "/etc/nvision-hub") == UNIT.read_text(encoding="utf-8")
    assert "streaming_key" in rendered.stderr
    assert "LOBBY_PASSWORD" in rendered.stderr


def test_systemd_accepts_the_unit_and_rates_its_exposure_low(tmp_path: Path) -> None:
    analyze = needs.program("systemd-analyze", "systemd")
    unit = tmp_path / "nvision-hub.service"
    # `verify` requires that the program exists.
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, sys.executable), encoding="utf-8")
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    findings = [line for line in verified.stderr.splitlines() if "nvision-hub" in line]
    assert (verified.returncode, findings) == (0, [])
    threshold = int(MAX_EXPOSURE * 10)
    report = run_program(analyze, "security", "--offline=true", f"--threshold={threshold}", "--no-pager", unit)
    (exposure,) = re.findall(r"Overall exposure level.*?: ([\d.]+)", report)
    assert float(exposure) < MAX_EXPOSURE


def test_a_hub_runs_under_the_units_system_call_filter(start_confined: Callable[..., hub.Hub]) -> None:
    running = start_confined([{"id": "street", "url": "demo://street"}, {"id": "small", "url": "demo://parking"}])
    running.wait_for_results("street", 2)
    running.wait_for_results("small", 2)
    assert running.stop() == 0
    assert "Traceback" not in running.log()


@pytest.fixture
def start_confined(start_hub: Callable[..., hub.Hub]) -> Callable[..., hub.Hub]:
    needs.program("systemd-analyze", "systemd")
    program = ROOT / "tests" / "support" / "confined_program.py"
    tried = subprocess.run([SYSTEM_PYTHON, program, UNIT, "/bin/true"], capture_output=True, text=True, check=False)
    if tried.returncode == EXIT_UNAVAILABLE:
        needs.missing(tried.stderr.strip())
    assert tried.returncode == 0, tried.stderr

    def start(cameras: list[dict[str, Any]]) -> hub.Hub:
        return start_hub(cameras, None, prefix=(str(SYSTEM_PYTHON), str(program), str(UNIT)))

    return start


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (("${STATE_DIRECTORY:-.nvision-hub}", "/srv/nvision"), "may write only below /var/lib"),
        (("state_dir: ${STATE_DIRECTORY:-.nvision-hub}\n", ""), "STATE_DIRECTORY"),
    ],
)
def test_paths_that_the_unit_cannot_access_are_rejected(tmp_path: Path, change: tuple[str, str], error: str) -> None:
    file = write_config(tmp_path, CAMERAS.replace(*change))
    for verb in (("systemd", "--program", PROGRAM), ("compose",)):
        refused = command.run("render", *verb, file, cwd=tmp_path)
        assert refused.returncode == 78
        assert refused.stdout == ""
    refused = command.run("render", "systemd", "--program", PROGRAM, file, cwd=tmp_path)
    assert error in refused.stderr
    at_home = command.run(
        "render", "systemd", "--program", "/home/me/bin/nvision-hub", write_config(tmp_path), cwd=tmp_path
    )
    assert "in a home directory" in at_home.stderr


def test_usb_cameras_and_decoders_get_their_devices(tmp_path: Path) -> None:
    file = write_config(tmp_path, CAMERAS + '  - {id: desk, url: "usb:0", hwaccel: qsv}\n')
    unit = command.run("render", "systemd", "--program", PROGRAM, file, cwd=tmp_path).stdout
    assert "PrivateDevices" not in unit
    assert "DeviceAllow=char-video4linux rw\nDeviceAllow=char-drm rw" in unit
    compose = YAML(typ="safe").load(command.run("render", "compose", file, cwd=tmp_path).stdout)
    assert compose["services"]["hub"]["devices"] == ["/dev/video0:/dev/video0"]


def test_the_rendered_compose_file_is_valid(tmp_path: Path) -> None:
    file = write_config(tmp_path)
    rendered = command.run("render", "compose", file, cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    parsed = PyCompose.from_yaml(rendered.stdout)
    parsed.validate()
    assert sorted(parsed.service_names()) == ["hub", "redis"]
    services = YAML(typ="safe").load(rendered.stdout)["services"]
    assert services["hub"]["ports"] == ["127.0.0.1:9000:9000"]
    assert services["hub"]["environment"] == ["HUB_TOKEN"]
    assert services["hub"]["secrets"] == [{"source": "lobby", "target": "/run/secrets/lobby"}]
    file.write_text(CAMERAS.replace("listen: ", "health_listen: 0.0.0.0:9001, listen: "))
    rendered = command.run("render", "compose", file, cwd=tmp_path)
    environment = YAML(typ="safe").load(rendered.stdout)["services"]["hub"]["environment"]
    assert environment == ["HUB_TOKEN", "NVISION_HUB_HEALTH=http://127.0.0.1:9001/healthz"]
    file.write_text(CAMERAS.replace("redis://redis", "redis://10.0.0.2").replace("0.0.0.0:9000", "127.0.0.1:9000"))
    refused = command.run("render", "compose", file, cwd=tmp_path)
    assert "127.0.0.1 is not reachable from outside the container" in refused.stderr


def create_secrets(compose_file: str, folder: Path) -> Path:
    """Run the commands at the beginning of the shipped Compose file that create the secrets. Return their folder."""
    commands = re.findall(r"^#   (\(umask.*|openssl.*|echo.*)$", compose_file, re.MULTILINE)
    run_program("sh", "-e", "-c", f"cd {folder}\n" + "\n".join(commands))
    return folder / "compose" / "secrets"


def networks_of(service: dict[str, Any]) -> set[str]:
    return set(service.get("networks", ["default"]))


def test_the_shipped_compose_file_is_consistent(tmp_path: Path) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    PyCompose.from_yaml(text).validate()
    services = YAML(typ="safe").load(text)["services"]
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service["volumes"]:
            source = volume.partition(":")[0]
            assert not source.startswith(".") or (DEPLOY / source).exists(), source
    folder = create_secrets(text, tmp_path)
    others = [networks_of(service) for name, service in services.items() if name not in {"hub", "redis"}]
    assert networks_of(services["redis"]) <= networks_of(services["hub"])
    assert not any(networks_of(services["redis"]) & networks for networks in others), "only the hub reaches Redis"
    cameras = (DEPLOY / "compose" / "hub" / "cameras.yaml").read_text(encoding="utf-8")
    config = load(write_config(tmp_path, cameras.replace("/run/secrets/", f"{folder}/")), environ={})
    assert config.gateway.tokens["prometheus"].role == "metrics"
    assert config.redis.url.shown == "redis://***@redis:6379"
    assert not config.gateway.listen.loopback
    health = f"http://{config.gateway.health_listen.shown}/healthz"
    assert services["hub"]["environment"]["NVISION_HUB_HEALTH"] == health
    scrape = YAML(typ="safe").load(DEPLOY / "compose" / "prometheus.yml")["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": [f"hub:{config.gateway.listen.port}"]}]


def test_the_redis_of_the_shipped_compose_file_requires_the_password(tmp_path: Path) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    folder = create_secrets(text, tmp_path)
    words = YAML(typ="safe").load(text)["services"]["redis"]["command"]
    program = needs.program("redis-server", "redis-server")
    local = [word.replace("/run/secrets", str(folder)).replace("/data", str(tmp_path)) for word in words[1:]]
    socket = tmp_path / "redis.sock"
    with subprocess.Popen([program, *local, "--port", "0", "--unixsocket", str(socket)]) as server:
        try:
            deadline = time.monotonic() + PATIENCE_S
            while not socket.exists():
                assert time.monotonic() < deadline
                time.sleep(0.05)
            with redis.Redis(unix_socket_path=str(socket)) as stranger, pytest.raises(redis.AuthenticationError):
                stranger.ping()
            password = (folder / "redis_password").read_text().strip()
            with redis.Redis(unix_socket_path=str(socket), password=password) as client:
                assert client.ping()
        finally:
            server.terminate()


def test_prometheus_accepts_the_shipped_configuration() -> None:
    promtool = needs.program("promtool", "prometheus")
    run_program(promtool, "check", "config", "--syntax-only", DEPLOY / "compose" / "prometheus.yml")


def test_hadolint_accepts_the_dockerfile() -> None:
    run_program(Path(sys.executable).parent / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_build_context_holds_exactly_what_the_image_copies() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    included = {line[1:] for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert included == {name for names in copies for name in names.split()}
    assert all((ROOT / name).exists() for name in included)
