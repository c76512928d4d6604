"""Check of the locked packages for known vulnerabilities, with pip-audit and a list of accepted vulnerabilities.

`python -m tests.support.vulnerabilities` exits with 1 if a package has a vulnerability that is not accepted, or if an
entry of the list is incomplete or has expired. If the vulnerability database is unreachable, the program prints the
reason and checks only the list.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

from tests.support.locks import FOLDER

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

ALLOWED: Final = FOLDER / "allowed-vulnerabilities.toml"
# The first lock is small and shows whether the database is reachable. The last one contains all packages.
LOCKS: Final = ("build.txt", "dev.txt")
TIMEOUT_S: Final = 300

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=20)]


class Allowance(BaseModel):
    """An accepted vulnerability of one package."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    id: Text
    package: Text
    reason: Reason
    expires: date


class Vulnerability(BaseModel):
    id: str
    aliases: list[str] = []
    fix_versions: list[str] = []


class AuditedPackage(BaseModel):
    name: str
    version: str = ""
    vulns: list[Vulnerability] = []
    skip_reason: str | None = None


class _Report(BaseModel):
    dependencies: list[AuditedPackage]


@dataclass(kw_only=True)
class Verdict:
    """Messages about the packages. Any failure fails the audit."""

    failures: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_allowances(text: str, today: date) -> tuple[list[Allowance], list[str]]:
    """Return the accepted vulnerabilities, and a message for each entry that is incomplete or has expired."""
    accepted, failures = [], []
    for number, entry in enumerate(tomllib.loads(text).get("allowed", []), start=1):
        try:
            allowance = Allowance.model_validate(entry)
        except ValidationError as error:
            problems = ", ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
            failures.append(f"entry {number} of {ALLOWED.name} is incomplete: {problems}")
            continue
        if allowance.expires < today:
            failures.append(
                f"the entry for {allowance.id} in {ALLOWED.name} expired on {allowance.expires}; check it again"
            )
        else:
            accepted.append(allowance)
    return accepted, failures


def judge(packages: Iterable[AuditedPackage], accepted: Sequence[Allowance]) -> Verdict:
    """Compare the vulnerabilities of the packages with the accepted ones."""
    verdict = Verdict()
    used: set[Allowance] = set()
    for package in packages:
        if package.skip_reason is not None:
            verdict.notes.append(f"{package.name} was not checked: {package.skip_reason}")
        for found in package.vulns:
            ids = {found.id, *found.aliases}
            allowance = next((each for each in accepted if each.id in ids and each.package == package.name), None)
            if allowance is None:
                fix = (
                    f"upgrade to {' or '.join(found.fix_versions)}" if found.fix_versions else "no release fixes it yet"
                )
                verdict.failures.append(f"{package.name} {package.version} is vulnerable ({found.id}): {fix}")
            else:
                used.add(allowance)
                verdict.notes.append(
                    f"{found.id} in {package.name} is accepted until {allowance.expires}: {allowance.reason}"
                )
    verdict.notes += [f"the entry for {each.id} matches nothing; remove it" for each in accepted if each not in used]
    return verdict


def unreachable(packages: Sequence[AuditedPackage]) -> str | None:
    """Return why no package was checked; None if at least one was. pip-audit reports neither case as an error."""
    if all(package.skip_reason is not None for package in packages):
        return next((package.skip_reason for package in packages), "the lock is empty")
    return None


def audit(lock: Path) -> list[AuditedPackage] | str:
    """Return the packages of a lock with their known vulnerabilities, or the reason why pip-audit found none."""
    command = [sys.executable, "-m", "pip_audit", "--require-hashes", "--disable-pip", "--requirement", str(lock)]
    command += ["--format", "json", "--progress-spinner", "off", "--timeout", "10"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
        return _Report.model_validate(json.loads(done.stdout)).dependencies
    except subprocess.TimeoutExpired:
        return f"pip-audit did not finish within {TIMEOUT_S} s"
    except ValueError:
        return (done.stderr.strip().splitlines() or ["pip-audit printed nothing"])[-1]


def main() -> int:
    accepted, failures = read_allowances(ALLOWED.read_text(encoding="utf-8"), datetime.now(UTC).date())
    verdict = Verdict(failures=failures)
    for name in LOCKS:
        packages = audit(FOLDER / name)
        reason = packages if isinstance(packages, str) else unreachable(packages)
        if isinstance(packages, str) or reason is not None:
            verdict.notes.append(f"skipped the search for vulnerabilities, the database cannot be reached: {reason}")
            break
        if name == LOCKS[-1]:
            found = judge(packages, accepted)
            verdict = Verdict(failures=failures + found.failures, notes=found.notes)
    for note in verdict.notes:
        print(note)
    for failure in verdict.failures:
        print(f"FAILED: {failure}")
    return 1 if verdict.failures else 0


if __name__ == "__main__":
    sys.exit(main())
