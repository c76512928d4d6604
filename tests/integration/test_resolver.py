"""Resolver of the configuration: limits of the supervisor."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from nvision_hub.errors import UnavailableError
from nvision_hub.hub.resolver import Resolver
from nvision_hub.runtime.process_resources import open_descriptors
from tests.support import hub

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def _descriptors_limited() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (len(open_descriptors()) + 30, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.mark.usefixtures("_descriptors_limited")
def test_a_low_limit_of_open_files_is_reported_with_the_fix(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir(mode=0o700)
    hub.write(tmp_path, [{"id": f"camera{number}", "url": f"rtsp://10.0.0.{number}/"} for number in range(100)], None)
    with pytest.raises(UnavailableError, match=r"Too many open files; raise the limit of open files \(`ulimit -n`"):
        Resolver(tmp_path / "cameras.yaml").start()
