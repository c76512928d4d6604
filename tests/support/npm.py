"""Packages from npm for tests, installed beside the package.json that asks for them when a test first needs them."""

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
    """Have what `folder`/package.json depends on in `folder`/node_modules; skips the test where npm cannot."""
    package = folder / "package.json"
    wanted: dict[str, str] = json.loads(package.read_text(encoding="utf-8"))["dependencies"]
    with package.open(encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # tests run beside each other
        if all(_is_there(folder / "node_modules" / name / "package.json", wish) for name, wish in wanted.items()):
            return
        npm = needs.program("npm", "nodejs npm")
        install = [npm, "install", "--no-package-lock", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        if subprocess.run(install, cwd=folder, timeout=_INSTALL_S, check=False).returncode:
            needs.missing(f"npm could not install {', '.join(wanted)} into {folder}; it needs the network once")


def _is_there(installed: Path, wish: str) -> bool:
    """Whether a package is there in the version wished for, or in one of the same major version where ^ allows that."""
    if not installed.exists():
        return False
    version: str = json.loads(installed.read_text(encoding="utf-8"))["version"]
    if wish.startswith("^"):
        return version.partition(".")[0] == wish[1:].partition(".")[0]
    return version == wish
