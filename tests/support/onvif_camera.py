"""Virtual ONVIF cameras on an isolated network.

The `ipycam` package provides the cameras. Each camera runs in its own process, because `ipycam` supports only one
camera per process. The cameras listen on every address, so their network has only a loopback interface.
"""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pytest

from tests.support import command, needs

if TYPE_CHECKING:
    from collections.abc import Iterator

_ROOT: Final = Path(__file__).parents[2]
_ALONE: Final = "ip link set lo up multicast on && ip route add 224.0.0.0/4 dev lo && echo up && exec sleep infinity"


@dataclass(kw_only=True)
class OnvifNetwork:
    """Network with only a loopback interface, and its cameras."""

    folder: Path
    _network: subprocess.Popen[str] = field(init=False)
    _cameras: list[subprocess.Popen[str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        needs.program("ip", "iproute2")
        words = [needs.program("unshare", "util-linux"), "--net", "sh", "-c", _ALONE]
        self._network = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert self._network.stdout is not None
        if self._network.stdout.readline() != "up\n":
            self.close()
            needs.missing("this user may make no network of its own; test as root")

    def _inside(self) -> list[str]:
        return [needs.program("nsenter", "util-linux"), f"--net=/proc/{self._network.pid}/ns/net"]

    def add(self, **config: Any) -> None:
        """Start a camera with these settings of `onvif_camera_program`, and return when the camera answers."""
        words = [*self._inside(), sys.executable, "-m", "tests.support.onvif_camera_program", json.dumps(config)]
        log = (self.folder / f"camera{len(self._cameras)}.log").open("w")
        with log:
            camera = subprocess.Popen(
                words, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True
            )
        self._cameras.append(camera)
        assert camera.stdout is not None
        assert camera.stdout.readline() == "up\n", Path(log.name).read_text(encoding="utf-8")

    def run(self, *arguments: str, stdin: str = "", env: dict[str, str] | None = None) -> Any:
        """Run a command of `nvision-hub` on this network."""
        words = [*self._inside(), sys.executable, "-m", "nvision_hub", *arguments]
        return subprocess.run(
            words,
            cwd=self.folder,
            env=command.environment(env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=90,
            check=False,
        )

    def close(self) -> None:
        """End the cameras. The network disappears together with its last process."""
        for process in (*self._cameras, self._network):
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                if pipe is not None:
                    pipe.close()


@pytest.fixture
def onvif_network(tmp_path: Path) -> Iterator[OnvifNetwork]:
    """Create a network without cameras: `onvif_network.add(name="Gate", onvif_port=8081)`."""
    network = OnvifNetwork(folder=tmp_path)
    yield network
    network.close()
