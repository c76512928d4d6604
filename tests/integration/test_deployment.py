"""`render` and the files of deploy/, judged by the programs that will read them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from compose_spec import PyCompose
from ruamel.yaml import YAML

from nvision_hub.config import load
from tests.support import command, hub, needs

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.long


ROOT: Final = Path(__file__).parents[2]
DEPLOY: Final = ROOT / "deploy"
UNIT: Final = DEPLOY / "nvision-hub.service"
EXPOSURE_MOST: Final = 3.0
PROGRAM: Final = "/opt/nvision-hub/bin/nvision-hub"
SYSTEM_PYTHON: Final = Path("/usr/bin/python3")
EXIT_UNAVAILABLE: Final = 69

CAMERAS: Final = """\
state_dir: ${STATE_DIRECTORY:-.nvision-hub}
redis: {url: "redis://redis:6379"}
gateway: {listen: "0.0.0.0:9000", token: "${HUB_TOKEN}"}
cameras:
  - {id: lobby, url: "rtsp://10.0.0.5/1", password: "${file:/run/secrets/lobby}", username: viewer}
  - {id: east, url: "rtsp://10.1.0.5/1", placement: {site: east}}
"""


def written(folder: Path, text: str = CAMERAS) -> Path:
    file = folder / "cameras.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def done(*words: object) -> str:
    result = subprocess.run([*map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def documented() -> str:
    """The cameras.yaml of the manual's chapter on systemd."""
    chapter = (ROOT / "docs" / "deployment.md").read_text(encoding="utf-8").partition("## systemd")[2]
    found = re.search(r"```yaml\n(version: .*?)```", chapter, re.DOTALL)
    assert found is not None
    return found[1]


def test_a_folder_of_manifests_is_one_thing_to_kubectl(tmp_path: Path) -> None:
    kubectl = needs.program("kubectl", "kubernetes-client")
    written(tmp_path)
    render = ("render", "kubernetes", "--output", "manifests", "--namespace", "cctv")
    first = command.run(*render, cwd=tmp_path)
    assert first.returncode == 0, first.stderr
    built = list(YAML(typ="safe").load_all(done(kubectl, "kustomize", tmp_path / "manifests")))
    kinds = sorted(it["kind"] for it in built)
    assert kinds == [
        *("ConfigMap", "ConfigMap", "Deployment", "Deployment"),
        *("NetworkPolicy", "PodDisruptionBudget", "PodMonitor"),
    ]
    assert {it["metadata"]["namespace"] for it in built} == {"cctv"}
    piped = command.run("render", "kubernetes", "--namespace", "cctv", cwd=tmp_path)
    alike = {(it["kind"], it["metadata"]["name"]): it for it in YAML(typ="safe").load_all(piped.stdout)}
    assert alike == {(it["kind"], it["metadata"]["name"]): it for it in built}
    assert "kubectl create secret generic nvision-hub --namespace cctv --from-env-file=hub.env" in first.stderr
    assert "--from-file=lobby=/run/secrets/lobby" in first.stderr


def test_groups_are_kept_beside_the_file(tmp_path: Path) -> None:
    file = written(tmp_path)
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
    assert "cameras.groups.json: it does not hold groups" in refused.stderr
    assert refused.stdout == ""


def test_the_unit_that_ships_is_the_documented_one_rendered(tmp_path: Path) -> None:
    file = written(tmp_path, documented())
    rendered = command.run("render", "systemd", file, "--program", PROGRAM, cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    assert rendered.stdout.replace(str(tmp_path), "/etc/nvision-hub") == UNIT.read_text(encoding="utf-8")
    assert "streaming_key" in rendered.stderr
    assert "LOBBY_PASSWORD" in rendered.stderr


def test_systemd_takes_the_unit_and_finds_it_hardly_exposed(tmp_path: Path) -> None:
    analyze = needs.program("systemd-analyze", "systemd")
    unit = tmp_path / "nvision-hub.service"
    # What is verified is also whether the program is there.
    unit.write_text(UNIT.read_text(encoding="utf-8").replace(PROGRAM, sys.executable), encoding="utf-8")
    verified = subprocess.run([analyze, "verify", unit], capture_output=True, text=True, timeout=60, check=False)
    complaints = [line for line in verified.stderr.splitlines() if "nvision-hub" in line]
    assert (verified.returncode, complaints) == (0, [])
    most = int(EXPOSURE_MOST * 10)
    judged = done(analyze, "security", "--offline=true", f"--threshold={most}", "--no-pager", unit)
    (exposure,) = re.findall(r"Overall exposure level.*?: ([\d.]+)", judged)
    assert float(exposure) < EXPOSURE_MOST


def test_a_hub_lives_behind_the_units_filter(start_confined: Callable[..., hub.Hub]) -> None:
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
    ("change", "sentence"),
    [
        (("${STATE_DIRECTORY:-.nvision-hub}", "/srv/nvision"), "below /var/lib only"),
        (("state_dir: ${STATE_DIRECTORY:-.nvision-hub}\n", ""), "STATE_DIRECTORY"),
    ],
)
def test_what_the_unit_could_not_reach_is_refused(tmp_path: Path, change: tuple[str, str], sentence: str) -> None:
    file = written(tmp_path, CAMERAS.replace(*change))
    for verb in (("systemd", "--program", PROGRAM), ("compose",)):
        refused = command.run("render", *verb, file, cwd=tmp_path)
        assert refused.returncode == 78
        assert refused.stdout == ""
    refused = command.run("render", "systemd", "--program", PROGRAM, file, cwd=tmp_path)
    assert sentence in refused.stderr
    at_home = command.run("render", "systemd", "--program", "/home/me/bin/nvision-hub", written(tmp_path), cwd=tmp_path)
    assert "in somebody's home" in at_home.stderr


def test_devices_are_let_in_for_cameras_that_are_devices(tmp_path: Path) -> None:
    file = written(tmp_path, CAMERAS + '  - {id: desk, url: "usb:0", hwaccel: qsv}\n')
    unit = command.run("render", "systemd", "--program", PROGRAM, file, cwd=tmp_path).stdout
    assert "PrivateDevices" not in unit
    assert "DeviceAllow=char-video4linux rw\nDeviceAllow=char-drm rw" in unit
    compose = YAML(typ="safe").load(command.run("render", "compose", file, cwd=tmp_path).stdout)
    assert compose["services"]["hub"]["devices"] == ["/dev/video0:/dev/video0"]


def test_compose_takes_what_is_rendered(tmp_path: Path) -> None:
    file = written(tmp_path)
    rendered = command.run("render", "compose", file, cwd=tmp_path)
    assert rendered.returncode == 0, rendered.stderr
    parsed = PyCompose.from_yaml(rendered.stdout)
    parsed.validate()
    assert sorted(parsed.service_names()) == ["hub", "redis"]
    services = YAML(typ="safe").load(rendered.stdout)["services"]
    assert services["hub"]["ports"] == ["127.0.0.1:9000:9000"]
    assert services["hub"]["environment"] == ["HUB_TOKEN"]
    assert services["hub"]["secrets"] == [{"source": "lobby", "target": "/run/secrets/lobby"}]
    file.write_text(CAMERAS.replace("redis://redis", "redis://10.0.0.2").replace("0.0.0.0:9000", "127.0.0.1:9000"))
    refused = command.run("render", "compose", file, cwd=tmp_path)
    assert "127.0.0.1 is the container itself" in refused.stderr


def test_the_compose_file_that_ships_fits_together(tmp_path: Path) -> None:
    text = (DEPLOY / "compose.yaml").read_text(encoding="utf-8")
    PyCompose.from_yaml(text).validate()
    services = YAML(typ="safe").load(text)["services"]
    for service in services.values():
        assert service["read_only"]
        assert service["cap_drop"] == ["ALL"]
        assert all(port.startswith("127.0.0.1:") for port in service.get("ports", ()))
        for volume in service["volumes"]:
            place = volume.partition(":")[0]
            assert not place.startswith(".") or (DEPLOY / place).exists(), place
    token = tmp_path / "hub_token"
    token.write_text("t\n")
    cameras = (DEPLOY / "compose" / "hub" / "cameras.yaml").read_text(encoding="utf-8")
    config = load(written(tmp_path, cameras.replace("/run/secrets/hub_token", str(token))), environ={})
    assert config.redis.url.shown == "redis://redis:6379"
    assert not config.gateway.listen.loopback
    scrape = YAML(typ="safe").load(DEPLOY / "compose" / "prometheus.yml")["scrape_configs"][0]
    assert scrape["static_configs"] == [{"targets": [f"hub:{config.gateway.listen.port}"]}]


def test_prometheus_takes_what_compose_gives_it() -> None:
    promtool = needs.program("promtool", "prometheus")
    done(promtool, "check", "config", "--syntax-only", DEPLOY / "compose" / "prometheus.yml")


def test_the_dockerfile_has_nothing_that_its_linter_minds() -> None:
    done(Path(sys.executable).parent / "hadolint", "--failure-threshold", "style", DEPLOY / "Dockerfile")


def test_the_image_is_given_what_it_copies_and_no_more() -> None:
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text(encoding="utf-8").splitlines()
    let_in = {line[1:] for line in ignored if line.startswith("!")}
    copies = re.findall(r"^COPY (?!--from)(.*) \S+$", (DEPLOY / "Dockerfile").read_text(encoding="utf-8"), re.MULTILINE)
    assert let_in == {name for names in copies for name in names.split()}
    assert all((ROOT / name).exists() for name in let_in)
