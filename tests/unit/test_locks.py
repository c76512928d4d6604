"""The hash-locked requirements fit pyproject.toml, and image and CI install from them."""

from __future__ import annotations

import re
from typing import Final

import pytest
from packaging.requirements import Requirement

from tests.support import locks

HASH: Final = "--hash=sha256:" + "0" * 64
LOCK: Final = f"""\
# comment
alpha==1.2 ; python_full_version < '3.12' \\
    {HASH} \\
    {HASH}
    # via nvision-hub (pyproject.toml)
alpha==1.3 ; python_full_version >= '3.12' \\
    {HASH}
    # via nvision-hub (pyproject.toml)
beta-gamma[extra]==2.0 \\
    {HASH}
    # via alpha
"""
SETS: Final[dict[str, tuple[tuple[str, ...], tuple[str, ...]]]] = {
    "build": ((), ("build",)),
    "image": (("demo", "mqtt"), ()),
    "dev": (tuple(locks.read_project()["project"]["optional-dependencies"]), ("build",)),
}


@pytest.mark.parametrize("name", SETS)
def test_a_lock_fits_pyproject(name: str) -> None:
    extras, groups = SETS[name]
    text = (locks.FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    requirements = locks.declared(locks.read_project(), extras=extras, groups=groups)
    assert locks.differences(requirements, locks.read_lock(text)) == [], locks.RERUN


@pytest.mark.parametrize("name", SETS)
def test_a_lock_names_no_server(name: str) -> None:
    text = (locks.FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    assert not re.search(r"://|@ |--(?:extra-)?index-url|--find-links|--trusted-host", text)


def test_the_smaller_locks_are_parts_of_the_largest() -> None:
    found = {name: set(locks.read_lock((locks.FOLDER / f"{name}.txt").read_text(encoding="utf-8"))) for name in SETS}
    every = {(package.name, package.version): package.hashes for package in found["dev"]}
    for name in ("build", "image"):
        for package in found[name]:
            assert every.get((package.name, package.version)) == package.hashes, (name, package, locks.RERUN)


@pytest.mark.parametrize(
    ("requirement", "difference"),
    [
        ("alpha>=1,<2", None),
        ("Alpha>=1.3", "alpha 1.2 does not satisfy Alpha>=1.3"),
        ("delta", "delta is missing"),
        ("beta_gamma<2", "beta-gamma 2.0 does not satisfy beta_gamma<2"),
    ],
)
def test_a_difference_is_found(requirement: str, difference: str | None) -> None:
    declared = [Requirement("alpha"), Requirement(requirement)]
    assert locks.differences(declared, locks.read_lock(LOCK)) == ([] if difference is None else [difference])


def test_a_removed_dependency_and_a_missing_hash_are_found() -> None:
    text = LOCK + "epsilon==1\n    # via alpha\n"
    assert locks.differences([], locks.read_lock(text)) == [
        "epsilon has no hash",
        "alpha is no longer in pyproject.toml",
        "alpha is no longer in pyproject.toml",
    ]


@pytest.mark.parametrize("entry", ["alpha>=1", "alpha==1,<2", "alpha", "alpha==1.*"])
def test_a_lock_with_several_versions_is_rejected(entry: str) -> None:
    with pytest.raises(ValueError, match="does not name one version"):
        list(locks.read_lock(entry))


@pytest.mark.parametrize(("file", "count"), [("Makefile", 2), ("deploy/Dockerfile", 4)])
def test_everything_is_installed_from_a_lock(file: str, count: int) -> None:
    """The project itself is built without isolation, because pip checks no hashes of an isolated build."""
    text = (locks.ROOT / file).read_text(encoding="utf-8").replace("\\\n", " ")
    installs = re.findall(r"(?:/pip|\$\(PIP\)) (?:install|wheel) [^\n&]*", text)
    assert len(installs) == count, installs
    for command in installs:
        is_local = "--no-deps" in command and ("--no-build-isolation" in command or "--no-index" in command)
        assert is_local or "--require-hashes" in command, command
