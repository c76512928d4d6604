"""npm packages for tests. The first test that needs a package installs the package next to its package.json."""

from __future__ import annotations

import fcntl
import json
import subprocess
from typing import TYPE_CHECKING, Final

from tests.support import needs

if TYPE_CHECKING:
    from pathlib import Path

_INSTALL_S: Final = 300


def install(folder: Path) -> None:
    """Install the dependencies of `folder`/package.json in `folder`/node_modules. Skip the test if that fails."""
    package = folder / "package.json"
    wanted: dict[str, str] = json.loads(package.read_text(encoding="utf-8"))["dependencies"]
    with package.open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run in parallel
        if all(
            _is_there(folder / "node_modules" / name / "package.json", required) for name, required in wanted.items()
        ):
            return
        npm = needs.program("npm", "nodejs npm")
        install = [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(install, cwd=folder, timeout=_INSTALL_S, check=False).returncode:
            needs.missing(f"npm could not install {', '.join(wanted)} into {folder}; it needs the network once")


def _is_there(installed: Path, required: str) -> bool:
    """Return whether the required version of a package is installed.

    ^ permits any version of the same major version.
    """
    if not installed.exists():
        return False
    version: str = json.loads(installed.read_text(encoding="utf-8"))["version"]
    if required.startswith("^"):
        return version.partition(".")[0] == required[1:].partition(".")[0]
    return version == required
