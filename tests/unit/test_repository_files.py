"""The files for contributors name commands, files and versions that exist."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from tests.support.locks import read_project

ROOT: Final = Path(__file__).parents[2]
GITHUB: Final = ROOT / ".github"
CONTRIBUTING: Final = ROOT / "CONTRIBUTING.md"
CI_TARGETS: Final = ["check", "audit", "test", "test-long"]
NOT_INCLUDED: Final = (".", "pyproject.toml")  # hatchling itself adds pyproject.toml and .gitignore to an sdist
BUILT: Final = ("dist/", ".venv/", "mutants/")

in_git = pytest.mark.skipif(not (ROOT / ".git").exists(), reason="an sdist does not contain these files")


def read_yaml(path: Path) -> Any:
    return YAML(typ="safe", pure=True).load(path)


def makefile() -> str:
    return (ROOT / "Makefile").read_text(encoding="utf-8")


def targets() -> set[str]:
    declared = re.search(r"^\.PHONY: (.*)$", makefile(), re.MULTILINE)
    assert declared is not None
    return set(declared[1].split())


def recipe(target: str) -> list[str]:
    """Return the commands of a target, as a user types them at the root of the project."""
    found = re.search(rf"^{target}:.*\n((?:\t.*\n)+)", makefile(), re.MULTILINE)
    assert found is not None
    return [line.strip().replace("$(BIN)", ".venv/bin") for line in found[1].splitlines()]


@in_git
def test_the_workflow_runs_the_targets_of_ci() -> None:
    workflow = read_yaml(GITHUB / "workflows" / "ci.yml")
    (job,) = workflow["jobs"].values()
    assert job["strategy"]["matrix"]["target"] == CI_TARGETS
    assert set(CI_TARGETS) <= targets()
    commands = [step["run"] for step in job["steps"] if "run" in step]
    assert commands[-2:] == ["deploy/debian-packages test", "make ${{ matrix.target }}"]


@in_git
def test_the_workflow_has_few_rights_and_no_cache() -> None:
    workflow = read_yaml(GITHUB / "workflows" / "ci.yml")
    assert workflow["permissions"] == {"contents": "read"}
    assert "pull_request_target" not in workflow["on"]
    for job in workflow["jobs"].values():
        assert "permissions" not in job
        assert "timeout-minutes" in job
        actions = [step for step in job["steps"] if "uses" in step]
        assert all(re.fullmatch(r"actions/checkout@(v\d+|[0-9a-f]{40})", step["uses"]) for step in actions)
        assert [step["with"]["persist-credentials"] for step in actions] == [False]


@in_git
def test_the_hooks_run_commands_of_make_check() -> None:
    """The hooks for Python files receive the changed files, so a check of the format becomes a change of it."""
    repositories = read_yaml(ROOT / ".pre-commit-config.yaml")["repos"]
    assert [each["repo"] for each in repositories] == ["local"], "hooks of other repositories would be downloaded"
    hooks = repositories[0]["hooks"]
    assert {hook["language"] for hook in hooks} == {"system"}
    entries = {hook["entry"].removesuffix(" --force-exclude") for hook in hooks}
    checked = {command.removesuffix(" --check") for command in recipe("check") if command.startswith(".venv/bin/")}
    assert entries == checked


@in_git
@pytest.mark.parametrize("name", ["bug", "camera", "feature"])
def test_a_form_asks_for_something_and_each_question_has_a_name(name: str) -> None:
    form = read_yaml(GITHUB / "ISSUE_TEMPLATE" / f"{name}.yml")
    questions = [part for part in form["body"] if part["type"] != "markdown"]
    assert len({part["id"] for part in questions}) == len(questions)
    assert len({part["attributes"]["label"] for part in questions}) == len(questions)
    assert any(part.get("validations", {}).get("required") for part in questions)


@in_git
def test_the_rules_for_updates_name_existing_packages() -> None:
    rules = json.loads((GITHUB / "renovate.json").read_text(encoding="utf-8"))["packageRules"]
    locks = [path.read_text(encoding="utf-8") for path in (ROOT / "requirements").glob("*.txt")]
    page = json.loads((ROOT / "web" / "package.json").read_text(encoding="utf-8"))["dependencies"]
    workflow = (GITHUB / "workflows" / "ci.yml").read_text(encoding="utf-8")
    for name in (name for rule in rules for name in rule.get("matchPackageNames", ())):
        assert name in page or f"image: {name}:" in workflow or any(f"\n{name}==" in lock for lock in locks), name
    commands = [command for rule in rules for command in rule.get("postUpgradeTasks", {}).get("commands", ())]
    assert {command.removeprefix("make ") for command in commands} <= targets()


def test_the_citation_agrees_with_pyproject() -> None:
    citation, project = read_yaml(ROOT / "CITATION.cff"), read_project()["project"]
    assert (citation["title"], citation["version"]) == (project["name"], project["version"])
    assert (citation["abstract"], citation["license"]) == (project["description"], project["license"])
    assert citation["keywords"] == project["keywords"]


@in_git
def test_an_sdist_contains_every_file_of_git_that_is_not_hidden() -> None:
    builder = pytest.importorskip("hatchling.builders.sdist").SdistBuilder(str(ROOT))
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    expected = {path for path in tracked.splitlines() if not path.startswith(NOT_INCLUDED)}
    packed = {path for path in tracked.splitlines() if builder.config.include_path(path)}
    assert packed == expected, "see [tool.hatch.build.targets.sdist] in pyproject.toml"


def test_contributing_names_existing_targets_and_files() -> None:
    text = CONTRIBUTING.read_text(encoding="utf-8")
    assert set(re.findall(r"\bmake ([a-z]+(?:-[a-z]+)*)", text)) >= set(CI_TARGETS)
    unknown = set(re.findall(r"`make ([a-z-]+)", text)) - targets()
    assert not unknown
    named = re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", text)
    assert named
    assert not [path for path in named if not path.startswith(BUILT) and not (ROOT / path).exists()]
