"""The files that the lint reads, from git's list of files."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT: Final = Path(__file__).parents[2]
PRODUCT: Final = ("nvision_hub/", "workers/")
PROSE_SUFFIXES: Final = frozenset(
    {
        ".py",
        ".ts",
        ".tsx",
        ".css",
        ".html",
        ".md",
        ".yaml",
        ".yml",
        ".toml",
        ".service",
        ".mjs",
        ".cjs",
        ".proto",
        ".cff",
        "",
    }
)
# The lint itself contains the avoided words. Generated files and licenses are not the project's own prose.
UNREAD: Final = ("tests/lint/", "LICENSE", "NOTICE", "web/package-lock.json", "nvision_hub/nvision/nvision_pb2")


@dataclass(frozen=True, kw_only=True)
class Module:
    """A Python file of the product."""

    path: str  # relative to the root of the project, with slashes
    tree: ast.Module

    @property
    def name(self) -> str:
        """The module's dotted name, for example `workers.camera.worker`."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def tracked_files() -> list[str]:
    """Return every file that git tracks or does not ignore, relative to the root of the project."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return sorted(path for path in set(listed.splitlines()) if (ROOT / path).is_file())


def product_modules() -> Iterator[Module]:
    """Yield the product's Python files, without generated code."""
    for path in tracked_files():
        if path.startswith(PRODUCT) and path.endswith(".py") and not path.startswith(UNREAD):
            yield Module(path=path, tree=ast.parse((ROOT / path).read_text(encoding="utf-8"), path))


def prose_files() -> list[str]:
    """Return every file that contains prose."""
    return [path for path in tracked_files() if Path(path).suffix in PROSE_SUFFIXES and not path.startswith(UNREAD)]
