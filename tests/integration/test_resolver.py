"""Resolver of the configuration, with the limits of the supervisor, and reloads that need the resolver."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from nvision_hub.backoff import Backoff
from nvision_hub.errors import UnavailableError
from nvision_hub.hub import resolver as resolver_module
from nvision_hub.hub.reload import ConfigReloader
from nvision_hub.hub.resolver import Resolver
from nvision_hub.runtime.process_resources import open_descriptors
from tests.support import hub
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


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


@pytest.fixture
def limit_descriptors() -> Iterator[Callable[[int], None]]:
    """Return a function that sets this process's limit of open files, until the test ends."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield lambda limit: resource.setrlimit(resource.RLIMIT_NOFILE, (limit, before[1]))
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


@pytest.fixture
def reloader(tmp_path: Path) -> ConfigReloader:
    """Read a cameras.yaml with two cameras, and remove one of them from the file."""
    (tmp_path / "state").mkdir(mode=0o700)
    cameras = [{"id": f"camera{number}", "url": f"rtsp://10.0.0.{number}/"} for number in range(2)]
    hub.write(tmp_path, cameras, None)
    resolver = Resolver(tmp_path / "cameras.yaml")
    made = ConfigReloader(resolver, resolver.start())
    hub.write(tmp_path, cameras[:1], None)
    return made


def camera_names(reloader: ConfigReloader) -> list[str]:
    return [spec.name for spec in reloader.plan.children if spec.name.startswith("camera:")]


def test_cameras_can_be_removed_while_no_descriptor_is_free(
    limit_descriptors: Callable[[int], None], reloader: ConfigReloader
) -> None:
    limit_descriptors(max(open_descriptors()) + 1)
    with contextlib.ExitStack() as occupied:
        with contextlib.suppress(OSError):
            while True:
                occupied.enter_context(Path(os.devnull).open("rb"))
        assert reloader.reload(requested=True) is not None, reloader.rejected
    assert camera_names(reloader) == ["camera:camera0"]


def test_changes_of_included_files_are_detected(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resolver_module, "PATTERNS_TIMEOUT_S", PATIENCE_S)
    (tmp_path / "state").mkdir(mode=0o700)
    folder = tmp_path / "cameras.d"
    folder.mkdir()
    hub.write(tmp_path, [], None, include="cameras.d/*.yaml")
    resolver = Resolver(tmp_path / "cameras.yaml")
    including = ConfigReloader(resolver, resolver.start())

    def changed() -> bool:
        """Call the reloader as the supervisor does: a change must be the same in two calls."""
        first, second = including.reload(requested=False), including.reload(requested=False)
        assert first is None, "the change has not settled"
        return second is not None

    assert camera_names(including) == []
    assert not changed()
    (folder / "a.yaml").write_text("cameras: [{id: a, url: 'rtsp://10.0.0.1/'}]")
    assert changed(), including.rejected
    (folder / "b.yaml").write_text("cameras: [{id: b, url: 'rtsp://10.0.0.2/'}]")
    assert changed(), including.rejected
    assert camera_names(including) == ["camera:a", "camera:b"]
    (folder / "a.yaml").write_text("cameras: [{id: b, url: 'rtsp://10.0.0.2/'}]  # twice")
    assert not changed()
    assert f"{folder / 'b.yaml'}:1:16: cameras[0].id: duplicates the id on line 1" in (including.rejected or "")
    (folder / "a.yaml").unlink()
    assert changed(), including.rejected
    assert camera_names(including) == ["camera:b"]
    # The reloader also watches the files of a changed pattern, even if it rejected the change.
    (tmp_path / "more.yaml").write_text("cameras: 0")
    hub.write(tmp_path, [], None, include=["more.yaml"])
    assert not changed()
    assert f"{tmp_path / 'more.yaml'}:1:10: cameras: must be a list" in (including.rejected or "")
    (tmp_path / "more.yaml").write_text("cameras: [{id: c, url: 'rtsp://10.0.0.3/'}]")
    assert changed(), including.rejected
    assert camera_names(including) == ["camera:c"]
    assert including.reload(requested=True) is not None, including.rejected


def test_a_reload_that_fails_for_lack_of_descriptors_is_tried_again(
    limit_descriptors: Callable[[int], None], reloader: ConfigReloader, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reloader, "_backoff", Backoff(first_s=0.01))
    limit_descriptors(3)
    assert reloader.reload(requested=True) is None
    assert "Too many open files" in (reloader.rejected or "")
    limit_descriptors(1024)
    deadline = time.monotonic() + PATIENCE_S
    while reloader.reload(requested=False) is None:
        assert time.monotonic() < deadline, reloader.rejected
        time.sleep(0.02)
    assert reloader.rejected is None
    assert camera_names(reloader) == ["camera:camera0"]
