"""The gateway's address: the configured port or a free port. Without a token, other machines have no access."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config.load import load
from nvision_hub.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, ConfigError, UnavailableError
from nvision_hub.hub.composition import plan
from nvision_hub.hub.preflight import check_preflight
from nvision_hub.hub.resources import HubResources

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvision_hub.config.models import Config
    from workers.gateway.settings import GatewaySettings

TOKEN = "5f0c8e2b7d94413aa6b1de3870c952f4"


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """Return a function that builds a configuration with the given gateway section. None omits the section."""

    def make(gateway: dict[str, Any] | None) -> Config:
        content: dict[str, Any] = {
            "redis": {"url": "embedded", "embedded_port": 0},
            "nvision": {"url": "wss://nvision.example.com/api", "streaming_key": "canary"},
            "cameras": [{"id": "lobby", "url": "rtsp://10.0.0.5/stream1"}],
        }
        if gateway is not None:
            content["gateway"] = gateway
        file = tmp_path / "cameras.yaml"
        file.write_text(json.dumps(content), encoding="utf-8")
        return load(file)

    return make


def settings(config: Config, resources: HubResources | None = None) -> GatewaySettings:
    chosen = plan(config, resources=resources)
    spec = next(child for child in chosen.children if child.name == "gateway")
    assert spec.subscriber
    assert not spec.awaited
    given: GatewaySettings = spec.settings
    assert chosen.endpoints.gateway is not None
    assert chosen.endpoints.gateway.endswith(f":{given.port}")
    return given


def test_the_default_is_the_next_free_port(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        resources = HubResources()
        assert resources.port("another", port) > port
    resources = HubResources()
    first = settings(config(None), resources)
    assert first.host == "127.0.0.1"
    assert first.port >= 8080
    assert settings(config({"token": TOKEN}), resources).port == first.port  # keeps its port while the hub runs


def test_a_configured_port_must_be_free(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = config({"listen": f"127.0.0.1:{port}"})
        assert settings(chosen).port == port
        with pytest.raises(UnavailableError, match=rf"the gateway cannot listen on 127\.0\.0\.1:{port} ") as refused:
            check_preflight(chosen, plan(chosen))
    assert refused.value.exit_code == EXIT_UNAVAILABLE
    check_preflight(chosen, plan(chosen))


def test_port_0_means_any_free_port(config: Callable[..., Config]) -> None:
    assert settings(config({"listen": "127.0.0.1:0"})).port > 0


@pytest.mark.parametrize(
    ("listen", "address"),
    [
        ("0.0.0.0:18080", "http://127.0.0.1:18080"),
        ("[::]:18080", "http://[::1]:18080"),
        ("[::1]:18080", "http://[::1]:18080"),
        ("10.0.0.1:18080", "http://10.0.0.1:18080"),
    ],
)
def test_the_url_is_reachable_from_this_machine(config: Callable[..., Config], listen: str, address: str) -> None:
    assert plan(config({"listen": listen, "token": TOKEN, "insecure": True})).endpoints.gateway == address


def test_a_gateway_without_an_address_serves_only_the_control_socket(config: Callable[..., Config]) -> None:
    chosen = plan(config({"listen": "none"}))
    assert [child.name for child in chosen.children] == ["broker", "gateway", "camera:lobby"]
    assert chosen.endpoints.gateway is None
    settings = chosen.children[1].settings
    assert (settings.host, settings.health_host, str(settings.control)) == ("", "", chosen.endpoints.control)


@pytest.mark.parametrize(
    ("gateway", "key"),
    [
        ({"listen": "0.0.0.0:8080", "insecure": True}, "gateway.listen"),
        ({"listen": "[::]:8080", "token": ""}, "gateway.listen"),
        ({"listen": "hub.example.com:8080"}, "gateway.listen"),
        ({"hosts": ["hub.example.com"]}, "gateway.hosts"),
    ],
)
def test_other_machines_need_a_token(config: Callable[..., Config], gateway: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}: other machines .* set `gateway.token`") as refused:
        config(gateway)
    assert refused.value.exit_code == EXIT_CONFIG
    config({**gateway, "token": TOKEN, "insecure": True})
