"""A waiting command ends on SIGTERM even if it starts with SIGINT ignored, as background jobs and CI jobs often do."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING

import pytest

from tests.support import hub

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.support.command import Running

STREET = [{"id": "street", "url": "demo://street", "fps": 5}]


@pytest.mark.parametrize(
    ("arguments", "sign_of_life"),
    [
        (("tail", "--json"), '"source_id"'),
        (("logs", "street", "-f"), "streaming"),
        (("status", "--watch"), "street"),
    ],
)
def test_a_waiting_command_and_the_hub_end_on_sigterm_with_sigint_ignored(
    tmp_path: Path, start_command: Callable[..., Running], arguments: tuple[str, ...], sign_of_life: str
) -> None:
    hub.write(tmp_path, STREET, None, gateway=True)
    running = start_command("start", cwd=tmp_path, ignores_sigint=True)
    running.wait_for(lambda: "camera:street  streaming" in running.err)
    waiting = start_command(*arguments, cwd=tmp_path, ignores_sigint=True)
    waiting.wait_for(lambda: sign_of_life in waiting.out)
    waiting.process.terminate()
    assert waiting.wait() in {-signal.SIGTERM, 128 + signal.SIGTERM}
    assert "Traceback" not in waiting.err
    running.process.terminate()
    assert running.wait() == 0


def test_the_local_service_ends_on_sigterm_with_sigint_ignored(
    tmp_path: Path, start_command: Callable[..., Running]
) -> None:
    service = start_command("service", "--listen", "127.0.0.1:0", cwd=tmp_path, ignores_sigint=True)
    service.wait_for(lambda: "listens on" in service.out + service.err)
    service.process.terminate()
    assert service.wait() == 0
