"""Network link that tests can take down: a peer in a separate network namespace, reachable over a veth pair."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import needs

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cable:
    """A network namespace with one address, connected to this machine by a veth pair."""

    def __init__(self) -> None:
        number = os.getpid() % 250 + 1
        self.namespace, self._ours, self._theirs = f"nvh{os.getpid()}", f"nvha{os.getpid()}", f"nvhb{os.getpid()}"
        self.address = f"10.213.{number}.2"
        self._run("ip", "netns", "add", self.namespace)
        try:
            self._run("ip", "link", "add", self._ours, "type", "veth", "peer", "name", self._theirs)
            self._run("ip", "link", "set", self._theirs, "netns", self.namespace)
            self._run("ip", "addr", "add", f"10.213.{number}.1/24", "dev", self._ours)
            self._run("ip", "link", "set", self._ours, "up")
            inside = ("ip", "-n", self.namespace)
            self._run(*inside, "addr", "add", f"{self.address}/24", "dev", self._theirs)
            self._run(*inside, "link", "set", self._theirs, "up")
            self._run(*inside, "link", "set", "lo", "up")
        except subprocess.CalledProcessError:
            self.remove()
            raise

    def pull(self) -> None:
        """Take the link down inside the namespace, so that this machine gets no event."""
        self._run("ip", "-n", self.namespace, "link", "set", self._theirs, "down")

    def plug_in(self) -> None:
        self._run("ip", "-n", self.namespace, "link", "set", self._theirs, "up")

    def remove(self) -> None:
        # Delete the pair first, because deleting the namespace removes the interface only after a delay. If the start
        # failed, the pair may not exist.
        subprocess.run(["ip", "link", "del", self._ours], check=False, capture_output=True)
        self._run("ip", "netns", "del", self.namespace)

    @staticmethod
    def _run(*command: str) -> None:
        subprocess.run(command, check=True, capture_output=True)


@pytest.fixture
def cable() -> Iterator[Cable]:
    needs.program("ip", "iproute2")
    try:
        new = Cable()
    except subprocess.CalledProcessError as error:
        needs.missing(f"cannot create a network namespace ({error.stderr.decode().strip()}); run as root")
    yield new
    new.remove()
