"""Reader of the hash-locked requirements, and their comparison with pyproject.toml."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

ROOT: Final = Path(__file__).parents[2]
FOLDER: Final = ROOT / "requirements"
RERUN: Final = "run `make lock` and commit the result"
_ENTRY: Final = re.compile(r"^[A-Za-z0-9].*(?:\n[ \t]+.*)*", re.MULTILINE)
_HASH: Final = re.compile(r"--hash=sha256:[0-9a-f]{64}")
_PIN: Final = re.compile(r"==([^,*]+)")


@dataclass(frozen=True, kw_only=True, slots=True)
class LockedPackage:
    """One release of a package. A package may have several releases, for different versions of Python."""

    name: str
    version: str
    hashes: int
    is_direct: bool  # whether pyproject.toml names the package


def read_lock(text: str) -> Iterator[LockedPackage]:
    """Yield the entries of a lock. Raises `ValueError` if an entry allows more than one version."""
    for entry in _ENTRY.findall(text):
        requirement = Requirement(entry.splitlines()[0].rstrip(" \\"))
        pin = _PIN.fullmatch(str(requirement.specifier))
        if pin is None:
            raise ValueError(f"{requirement} does not name one version")
        yield LockedPackage(
            name=canonicalize_name(requirement.name),
            version=pin[1],
            hashes=len(_HASH.findall(entry)),
            is_direct="(pyproject.toml" in entry,
        )


def declared(project: dict[str, Any], *, extras: Iterable[str] = (), groups: Iterable[str] = ()) -> list[Requirement]:
    """Return the requirements in pyproject.toml, except extras that refer to the project itself."""
    section = project["project"]
    found = list(section["dependencies"]) if extras else []
    for extra in extras:
        found += section["optional-dependencies"][extra]
    for group in groups:
        found += project["dependency-groups"][group]
    return [Requirement(text) for text in found]


def differences(requirements: Iterable[Requirement], lock: Iterable[LockedPackage]) -> list[str]:
    """Return a sentence for each difference between the declared requirements and a lock."""
    packages = list(lock)
    wanted = {canonicalize_name(requirement.name): requirement for requirement in requirements}
    found = [f"{package.name} has no hash" for package in packages if not package.hashes]
    for name, requirement in wanted.items():
        versions = [package.version for package in packages if package.name == name]
        if not versions:
            found.append(f"{name} is missing")
        found += [
            f"{name} {each} does not satisfy {requirement}" for each in versions if each not in requirement.specifier
        ]
    found += [
        f"{package.name} is no longer in pyproject.toml"
        for package in packages
        if package.is_direct and package.name not in wanted
    ]
    return found


def read_project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
