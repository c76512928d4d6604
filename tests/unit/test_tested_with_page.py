"""The generated page of programs that the tests run."""

from __future__ import annotations

import importlib.metadata

import pytest

from tests.support.tested_with import HEAD, PAGE, PeerTest, page, version


def checked(name: str, test: str, outcome: str = "passed") -> PeerTest:
    return PeerTest(kind="camera", name=name, version="1.0", test=test, outcome=outcome)


def test_a_row_sums_up_the_tests_of_a_program() -> None:
    text = page(
        [checked("b", "test_it_streams"), checked("b", "test_it_streams", "failed"), checked("b", "test_it_stops")]
    )
    assert text.endswith("| camera | b | 1.0 | it stops; it streams | 2 passed, 1 failed |\n")


def test_rows_are_sorted_by_kind_and_name() -> None:
    text = page([checked("b", "test_x"), checked("a", "test_y", "skipped")])
    assert text.index("| camera | a | 1.0 | y | 1 skipped |") < text.index("| camera | b |")


@pytest.mark.parametrize("source", ["debian:no-such-package", "npm:tests/sdk:no-such-package", "home-assistant"])
def test_a_program_that_is_not_installed_has_no_version(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NVISION_HUB_HOME_ASSISTANT", raising=False)
    assert version(source) == "-"


def test_versions_are_those_of_the_installed_packages() -> None:
    assert version("pypi:redis") == importlib.metadata.version("redis")


def test_the_page_of_this_project_has_no_failed_test() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text.startswith(HEAD.partition("{")[0])
    assert " failed" not in text.partition("|---|")[2]
