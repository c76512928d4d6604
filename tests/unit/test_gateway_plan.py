"""Where the gateway listens: as it is written, or wherever there is room, and never open to others without a token."""

from __future__ import annotations

import json
import re
import socket
from typing import TYPE_CHECKING, Any

import pytest

from nvision_hub.config import load
from nvision_hub.errors import EXIT_CONFIG, EXIT_UNAVAILABLE, ConfigError, UnavailableError
from nvision_hub.hub import Places, check_surroundings, plan

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from nvision_hub.config import Config
    from workers.gateway.gateway import GatewaySettings


@pytest.fixture
def config(tmp_path: Path) -> Callable[..., Config]:
    """A configuration with this gateway section; without one where it is None."""

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


def settings(config: Config, places: Places | None = None) -> GatewaySettings:
    chosen = plan(config, places=places)
    spec = next(child for child in chosen.children if child.name == "gateway")
    assert spec.overseer
    assert not spec.awaited
    given: GatewaySettings = spec.settings
    assert chosen.addresses.gateway is not None
    assert chosen.addresses.gateway.endswith(f":{given.port}")
    return given


def test_without_a_wish_it_takes_the_next_free_port(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        places = Places()
        assert places.port("another", port) > port
    places = Places()
    first = settings(config(None), places)
    assert first.host == "127.0.0.1"
    assert first.port >= 8080
    assert settings(config({"token": "abc"}), places).port == first.port  # for as long as the hub runs


def test_a_port_that_was_chosen_is_that_one_or_none(config: Callable[..., Config]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        chosen = config({"listen": f"127.0.0.1:{port}"})
        assert settings(chosen).port == port
        with pytest.raises(UnavailableError, match=rf"the gateway cannot listen on 127\.0\.0\.1:{port} ") as refused:
            check_surroundings(chosen, plan(chosen))
    assert refused.value.exit_code == EXIT_UNAVAILABLE
    check_surroundings(chosen, plan(chosen))


def test_any_free_port(config: Callable[..., Config]) -> None:
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
def test_its_address_is_one_that_this_machine_can_use(config: Callable[..., Config], listen: str, address: str) -> None:
    assert plan(config({"listen": listen, "token": "abc"})).addresses.gateway == address


def test_none_is_none(config: Callable[..., Config]) -> None:
    chosen = plan(config({"listen": "none"}))
    assert [child.name for child in chosen.children] == ["broker", "camera:lobby"]
    assert chosen.addresses.gateway is None


@pytest.mark.parametrize(
    ("gateway", "key"),
    [
        ({"listen": "0.0.0.0:8080"}, "gateway.listen"),
        ({"listen": "[::]:8080", "token": ""}, "gateway.listen"),
        ({"listen": "hub.example.com:8080"}, "gateway.listen"),
        ({"hosts": ["hub.example.com"]}, "gateway.hosts"),
    ],
)
def test_nobody_else_reaches_it_without_a_token(
    config: Callable[..., Config], gateway: dict[str, Any], key: str
) -> None:
    with pytest.raises(ConfigError, match=rf"{re.escape(key)}: others can reach .* `token:` must be set") as refused:
        config(gateway)
    assert refused.value.exit_code == EXIT_CONFIG
    config({**gateway, "token": "abc"})
