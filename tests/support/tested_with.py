"""Generator of docs/tested-with.md: third-party programs that the tests run, with their versions and results.

The marker `peer(kind, name, source)` names a program on the tests that run it. If the environment variable
`NVISION_HUB_TESTED_WITH` names a file, this plugin appends a line of JSON for each of these tests that ran. `python -m
tests.support.tested_with FILE` generates the page from this file. `make tested-with` performs both steps.

`source` names the origin of the version: `debian:PACKAGE`, `pypi:PACKAGE`, `npm:FOLDER:PACKAGE` with a folder of this
project, or `home-assistant`.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable

_PROJECT: Final = Path(__file__).parents[2]
PAGE: Final = _PROJECT / "docs" / "tested-with.md"
VARIABLE: Final = "NVISION_HUB_TESTED_WITH"
HEAD: Final = """\
# Tested with

The tests run the hub together with these third-party programs. `make tested-with` runs these tests and writes this
page. The versions are those of the last run, on {system} with Python {python}. In the last column,
`skipped` means that the program was not installed.

| kind | program | version | what the tests check | result |
|---|---|---|---|---|
"""


@dataclass(frozen=True, kw_only=True)
class PeerTest:
    """One test with one third-party program."""

    kind: str
    name: str
    version: str
    test: str  # name of the test function without parameters
    outcome: str  # passed, failed or skipped


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "peer(kind, name, source): runs a program of others; docs/tested-with.md lists it"
    )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    file_name = os.environ.get(VARIABLE)
    if file_name and (report.when == "call" or (report.when == "setup" and not report.passed)):
        for marker in item.iter_markers("peer"):
            kind, name, source = marker.args
            test = item.originalname if isinstance(item, pytest.Function) else item.name
            line = PeerTest(kind=kind, name=name, version=version(source), test=test, outcome=report.outcome)
            with Path(file_name).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(line)) + "\n")
    return report


def version(source: str) -> str:
    """Return the installed version of a program, or a dash if the program is not installed."""
    kind, _, rest = source.partition(":")
    match kind:
        case "debian":
            query = ["dpkg-query", "--show", "--showformat", "${Version}", rest]
            return subprocess.run(query, capture_output=True, text=True, check=False).stdout or "-"
        case "pypi":
            return importlib.metadata.version(rest)
        case "npm":
            folder, _, package = rest.partition(":")
            return _npm_version(_PROJECT / folder / "node_modules" / package / "package.json")
        case _:
            from tests.support.home_assistant import ROOT_VARIABLE  # noqa: PLC0415 - imports much that others need not

            folders = Path(os.environ.get(ROOT_VARIABLE, "-")).glob(
                "srv/ha/lib/*/site-packages/homeassistant-*.dist-info"
            )
            return next((each.name.removeprefix("homeassistant-").removesuffix(".dist-info") for each in folders), "-")


def _npm_version(package: Path) -> str:
    found: str = json.loads(package.read_text(encoding="utf-8"))["version"] if package.exists() else "-"
    return found


def page(tests: Iterable[PeerTest]) -> str:
    """Return the content of the page, with one row per program."""
    rows: defaultdict[tuple[str, str, str], list[PeerTest]] = defaultdict(list)
    for each in tests:
        rows[each.kind, each.name, each.version].append(each)
    lines = [f"| {' | '.join(key)} | {_checked(rows[key])} | {_result(rows[key])} |\n" for key in sorted(rows)]
    return HEAD.format(system=_system(), python=platform.python_version()) + "".join(lines)


def _checked(tests: list[PeerTest]) -> str:
    return "; ".join(sorted({each.test.removeprefix("test_").replace("_", " ") for each in tests}))


def _result(tests: list[PeerTest]) -> str:
    counts = Counter(each.outcome for each in tests)
    return ", ".join(f"{counts[outcome]} {outcome}" for outcome in ("passed", "failed", "skipped") if counts[outcome])


def _system() -> str:
    return platform.freedesktop_os_release()["PRETTY_NAME"]


def main() -> None:
    lines = Path(sys.argv[1]).read_text(encoding="utf-8").splitlines()
    PAGE.write_text(page(PeerTest(**json.loads(line)) for line in lines), encoding="utf-8")
    print(f"{PAGE}: {len(lines)} tests")


if __name__ == "__main__":
    main()
