"""A real Prometheus server for tests. It scrapes one gateway every second and uses the rules in deploy/prometheus."""

from __future__ import annotations

import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest

from nvision_hub.broker.embedded_config import claim_port
from tests.support import needs
from tests.support.patience import PATIENCE_S
from tests.support.rtsp import Server

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
RULES: Final = DEPLOY / "prometheus" / "rules" / "nvision-hub.yml"


@dataclass(kw_only=True)
class Prometheus(Server):
    """A server with one target."""

    folder: Path
    target: str  # host:port
    process: subprocess.Popen[str] = field(init=False)
    client: httpx2.Client = field(init=False)

    def start(self) -> None:
        program = needs.program("prometheus", "prometheus")
        configuration = self.folder / "prometheus.yml"
        configuration.write_text(
            "global: {scrape_interval: 1s, evaluation_interval: 1s}\n"
            f"rule_files: ['{RULES}']\n"
            f"scrape_configs: [{{job_name: nvision-hub, static_configs: [{{targets: ['{self.target}']}}]}}]\n",
            encoding="utf-8",
        )
        listen = f"127.0.0.1:{claim_port(0).port}"
        arguments = [
            f"--config.file={configuration}",
            f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address={listen}",
        ]
        with (self.folder / "prometheus.log").open("ab") as log:
            self.process = subprocess.Popen([program, *arguments], stdout=log, stderr=log, text=True)
        self.client = httpx2.Client(base_url=f"http://{listen}", timeout=10)
        deadline = time.monotonic() + PATIENCE_S
        while not self._ready():
            assert time.monotonic() < deadline, (self.folder / "prometheus.log").read_text(encoding="utf-8")
            time.sleep(0.05)

    def _ready(self) -> bool:
        try:
            return self.client.get("/-/ready").status_code == 200
        except httpx2.TransportError:
            return False

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the current vector of an expression. Raises an error for an invalid expression."""
        answer = self.client.get("/api/v1/query", params={"query": expression}).json()
        assert answer["status"] == "success", f"{expression}: {answer}"
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result

    def rules(self) -> list[dict[str, Any]]:
        """Return every rule with the outcome of its last evaluation."""
        groups = self.client.get("/api/v1/rules").json()["data"]["groups"]
        return [rule for group in groups for rule in group["rules"]]

    def wait_for(self, condition: Callable[[], object], description: str) -> None:
        """Poll until the condition is true."""
        deadline = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline, f"not within {PATIENCE_S} s: {description}"
            time.sleep(0.2)


@pytest.fixture
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Prometheus]]:
    """Return a function that starts a server for the target `host:port`."""
    started: list[Prometheus] = []

    def start(target: str) -> Prometheus:
        server = Prometheus(folder=tmp_path_factory.mktemp("prometheus"), target=target)
        started.append(server)
        server.start()
        return server

    yield start
    for server in started:
        server.client.close()
        server.kill()
