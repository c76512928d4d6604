"""A cable that can be pulled: a peer's own network namespace, where it has an address that this machine reaches."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest

from tests.support import needs

if TYPE_CHECKING:
    from collections.abc import Iterator


class Cable:
    """A network namespace with an address in it, at the other end of a pair of virtual interfaces."""

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
        """At the other end: nobody here is told."""
        self._run("ip", "-n", self.namespace, "link", "set", self._theirs, "down")

    def plug_in(self) -> None:
        self._run("ip", "-n", self.namespace, "link", "set", self._theirs, "up")

    def remove(self) -> None:
        # The pair first, since a namespace takes its end along only some time later. Half made, there may be none.
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
        needs.missing(f"no network namespace can be made here ({error.stderr.decode().strip()}); run as root")
    yield new
    new.remove()
