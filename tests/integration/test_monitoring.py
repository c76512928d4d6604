"""The dashboard and the alert rules are valid, and correct for a hub that a real Prometheus scrapes."""

from __future__ import annotations

import json
import re
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest
from ruamel.yaml import YAML

from nvision_hub.metrics.catalogue import METRICS
from nvision_hub.runtime.status import CameraState
from tests.support import files, needs
from tests.support.prometheus import DEPLOY, RULES
from tests.support.receiver import SECRET
from workers.gateway.state.fleet_metrics import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hub import Hub
    from tests.support.mosquitto import Mosquitto
    from tests.support.prometheus import Prometheus
    from tests.support.receiver import Receiver
    from tests.support.recorder import Recorder

DASHBOARD: Final = DEPLOY / "grafana" / "nvision-hub.json"
OPERATIONS: Final = DEPLOY.parent / "docs" / "operations.md"
RULE_TESTS: Final = Path(__file__).parents[1] / "prometheus" / "nvision-hub.test.yml"
SELECTOR: Final = re.compile(rf"{PREFIX}[a-z_]+(?:\{{[^}}]*\}})?")


def dashboard() -> dict[str, Any]:
    content: dict[str, Any] = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return content


def panel_queries() -> list[tuple[str, str]]:
    """Return every query of the dashboard with its panel's title. Variables select all sites and cameras."""
    queries = [
        (panel["title"], target["expr"]) for panel in dashboard()["panels"] for target in panel.get("targets", ())
    ]
    filled = {"$site": ".*", "$camera": ".*", "$__rate_interval": "30s"}
    for name, value in filled.items():
        queries = [(title, query.replace(name, value)) for title, query in queries]
    return queries


def alerts() -> dict[str, dict[str, Any]]:
    groups = YAML(typ="safe", pure=True).load(RULES)["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def selectors() -> set[str]:
    """Return every selector (a metric with label matchers) in the dashboard and the rules."""
    queries = [query for _, query in panel_queries()] + [rule["expr"] for rule in alerts().values()]
    return {found for query in queries for found in SELECTOR.findall(query)}


def promtool(*arguments: object) -> str:
    program = needs.program("promtool", "prometheus")
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_rules_pass_their_unit_tests() -> None:
    promtool("check", "rules", RULES)
    promtool("test", "rules", RULE_TESTS)
    tested = {case["alertname"] for test in _tests() for case in test["alert_rule_test"] if case.get("exp_alerts")}
    assert tested == alerts().keys(), "every alert must fire in a test"


def _tests() -> list[dict[str, Any]]:
    tests: list[dict[str, Any]] = YAML(typ="safe", pure=True).load(RULE_TESTS)["tests"]
    return tests


def test_the_example_scrape_configuration_is_valid() -> None:
    promtool("check", "config", "--syntax-only", DEPLOY / "prometheus" / "scrape.yml")
    scraped = YAML(typ="safe", pure=True).load(DEPLOY / "prometheus" / "scrape.yml")["scrape_configs"][0]["job_name"]
    assert f'up{{job="{scraped}"}}' in alerts()["NvisionHubGone"]["expr"]


def test_every_alert_is_explained() -> None:
    explained = set(re.findall(r"^### (Nvision\w+)$", OPERATIONS.read_text(encoding="utf-8"), re.MULTILINE))
    assert explained == alerts().keys()


def test_every_metric_is_in_the_catalogue() -> None:
    known = {f"{PREFIX}{metric.name}" for metric in METRICS.values() if metric.exposed}
    used = {selector.partition("{")[0] for selector in selectors()}
    assert {re.sub("_(bucket|sum|count)$", "", name) for name in used} <= known


def test_the_dashboard_is_complete() -> None:
    board = dashboard()
    panels = board["panels"]
    assert [variable["name"] for variable in board["templating"]["list"]] == ["datasource", "site", "camera"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    for panel in panels:
        if panel["type"] != "row":
            assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
            assert panel["targets"], panel["title"]
    (states,) = [panel for panel in panels if panel["title"] == "States"]
    mapped = states["fieldConfig"]["defaults"]["mappings"][0]["options"]
    assert [mapped[str(number)]["text"] for number in range(1, len(mapped) + 1)] == [
        str(state) for state in CameraState
    ]
    for number, state in enumerate(CameraState, start=1):
        assert re.search(rf'\b{number} \* max [^+]*state="{state}"', states["targets"][0]["expr"])


@pytest.fixture
def monitored_hub(
    start_hub: Callable[..., Hub],
    recorder: Callable[..., Recorder],
    receiver: Callable[..., Receiver],
    mosquitto: Callable[..., Mosquitto],
    tmp_path: Path,
) -> Hub:
    """Start a hub with every component that has metrics, and wait for its first deliveries."""
    (tmp_path / "hub0").mkdir()
    files.write(tmp_path / "hub0" / "clip.mp4", full_range=False)
    endpoint = receiver()
    hub = start_hub(
        [{"id": "street", "url": "file:clip.mp4", "fps": 5}],
        recorder(),
        gateway=True,
        webhooks=[{"id": "alarms", "url": endpoint.url("/alarms"), "secret": SECRET, "allow_private": True}],
        mqtt={"url": mosquitto().url},
        budget={"images_per_day": 1_000_000},
    )
    endpoint.wait_for(3)
    return hub


@pytest.mark.long
@pytest.mark.peer("Monitoring", "Prometheus", "debian:prometheus")
def test_a_real_prometheus_finds_every_series(monitored_hub: Hub, prometheus: Callable[[str], Prometheus]) -> None:
    base = monitored_hub.gateway()
    server = prometheus(base.removeprefix("http://"))
    for selector in selectors():
        server.wait_for(partial(server.query, selector), selector)
    for title, query in panel_queries():
        if query.endswith("> 0"):  # matches only after a restart; no child restarts here
            server.query(query)
        else:
            server.wait_for(partial(server.query, query), f"{title}: {query}")
    server.wait_for(lambda: all(rule["health"] == "ok" for rule in server.rules()), "every rule evaluated")
    assert server.query("ALERTS") == [], "a healthy hub must not cause an alert"
