"""Another user of the same machine who tries to keep a hub from starting."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.broker.embedded_config import claim_port
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [
    pytest.mark.fault,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user"),
]

OTHER_USER: Final = 65_534
PORTS: Final = 100
# The names of earlier versions of the hub, and the addresses of this one. A port that is in use cannot be occupied.
OCCUPY: Final = f"""
import contextlib, os, signal, socket, sys
os.setgid({OTHER_USER})
os.setuid({OTHER_USER})
first, kept = int(sys.argv[2]), []
for port in range(first, first + {PORTS}):
    with contextlib.suppress(OSError):
        one = socket.socket(socket.AF_UNIX if sys.argv[1] == "names" else socket.AF_INET)
        kept.append(one)
        match sys.argv[1]:
            case "names":
                one.bind(f"\\0nvision-hub port {{port}}")
            case address:
                one.bind((address, port))
                one.listen()
print("occupied", flush=True)
signal.pause()
"""


@contextlib.contextmanager
def occupied(what: str, first: int) -> Iterator[None]:
    """Occupy the names or the addresses of `PORTS` ports as another user."""
    program = [sys.executable, "-c", OCCUPY, what, str(first)]
    with subprocess.Popen(program, stdout=subprocess.PIPE, text=True) as attacker:
        try:
            assert attacker.stdout is not None
            assert attacker.stdout.readline() == "occupied\n"
            yield
        finally:
            attacker.kill()


@pytest.mark.parametrize("what", ["names", "127.0.0.1", "127.255.255.254"])
def test_another_user_cannot_stop_a_start(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder], what: str
) -> None:
    # Ports that the kernel gives to outgoing connections begin at 32768, so none of these is taken by chance.
    first = claim_port(23_000 + os.getpid() % 5_000).port
    with occupied(what, first):
        hub = start_hub(
            [{"id": "street", "url": "demo://street", "fps": 1}],
            recorder(),
            redis={"url": "embedded", "embedded_port": first},
        )
        hub.wait_for_results("street", 1)
        with hub.redis() as client:
            assert client.ping()
        port = int(hub.addresses["redis"].rpartition(":")[2].partition("/")[0])
    if what == "names":
        assert port == first, "names have no effect"
        measured(
            56,
            "names of ports occupied",
            injected=f"another user binds {PORTS} abstract socket names, or {PORTS} loopback ports",
            target="the hub starts",
            measured="starts: on the configured port, or on another free port if that port itself is in use",
        )
    else:
        assert not first <= port < first + PORTS
