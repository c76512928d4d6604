"""The command for subscribers that `start` and `status` print, run with the real redis-cli and Redis server."""

from __future__ import annotations

import os
import shlex
import subprocess
from typing import TYPE_CHECKING

import pytest

from nvision_hub.broker.embedded_config import claim_port
from nvision_hub.cli.options import subscribe_command
from nvision_hub.config.redis_address import RedisAddress
from tests.support import needs
from tests.support.redis_server import answering

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def addresses(tmp_path: Path) -> Iterator[dict[str, str]]:
    """Start a Redis server. Return its addresses, as printed: over IPv6, over a unix socket, and with a password."""
    program = needs.program("redis-server", "redis-server")
    port, path = claim_port(0).port, tmp_path / "my redis.sock"
    options = ["--port", str(port), "--bind", "127.0.0.1", "::1", "--unixsocket", str(path), "--save", ""]
    with subprocess.Popen([program, *options], cwd=tmp_path, stdout=subprocess.DEVNULL) as server:
        answering(f"redis://127.0.0.1:{port}")
        yield {
            "IPv4": f"redis://127.0.0.1:{port}",
            "IPv6": f"redis://[::1]:{port}/3",
            "socket": f"unix://{path}",
        }
        server.kill()


@pytest.mark.parametrize("kind", ["IPv4", "IPv6", "socket"])
def test_redis_cli_runs_the_printed_command(addresses: dict[str, str], kind: str) -> None:
    needs.program("redis-cli", "redis-tools")
    arguments = shlex.split(subscribe_command(RedisAddress.parse(addresses[kind]).shown, "nvision"))
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, env=os.environ) as program:
        assert program.stdout is not None
        shown = [program.stdout.readline().strip() for _ in range(3)]
        program.kill()
    assert shown == ["psubscribe", "nvision:results:*", "1"]


@pytest.mark.parametrize(
    ("address", "options"),
    [
        ("redis://10.0.0.2", "-h 10.0.0.2 -p 6379"),
        ("rediss://redis.example.com:6380/2", "-h redis.example.com -p 6380 --tls -n 2"),
        ("redis://:canary@10.0.0.2:7000", "-h 10.0.0.2 -p 7000 --askpass"),
        ("unix://:canary@/run/redis/redis.sock", "-s /run/redis/redis.sock --askpass"),
    ],
)
def test_a_hidden_password_is_asked_for(address: str, options: str) -> None:
    shown = subscribe_command(RedisAddress.parse(address).shown, "nvision")
    assert shown == f"redis-cli {options} psubscribe 'nvision:results:*'"
