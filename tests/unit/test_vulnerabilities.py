"""The audit fails for a vulnerability unless a complete entry, which has not expired, accepts it."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any, Final

import pytest

from tests.support import vulnerabilities
from tests.support.vulnerabilities import AuditedPackage, Vulnerability, judge, read_allowances, unreachable

TODAY: Final = date(2026, 12, 1)
ENTRY: Final = {
    "id": '"CVE-2026-1"',
    "package": '"alpha"',
    "reason": '"The hub does not call the function that is affected."',
    "expires": "2026-12-01",
}


def written(**changes: str | None) -> str:
    fields = {name: value for name, value in {**ENTRY, **changes}.items() if value is not None}
    return "\n".join(["[[allowed]]", *(f"{name} = {value}" for name, value in fields.items())])


def package(name: str, *vulns: str, **more: Any) -> AuditedPackage:
    found = [Vulnerability(id=each, aliases=["CVE-2026-1"], fix_versions=["1.1"]) for each in vulns]
    return AuditedPackage(name=name, version="1.0", vulns=found, **more)


def test_a_vulnerability_fails() -> None:
    verdict = judge([package("alpha", "PYSEC-1"), package("beta")], [])
    assert verdict.failures == ["alpha 1.0 is vulnerable (PYSEC-1): upgrade to 1.1"]


def test_an_entry_accepts_one_vulnerability_of_one_package() -> None:
    accepted, failures = read_allowances(written(), TODAY)
    assert failures == []
    verdict = judge([package("alpha", "PYSEC-1"), package("beta", "PYSEC-1")], accepted)
    assert verdict.failures == ["beta 1.0 is vulnerable (PYSEC-1): upgrade to 1.1"]
    assert "accepted until 2026-12-01: The hub does not call" in verdict.notes[0]


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"reason": None}, "reason: Field required"),
        ({"reason": '"  "'}, "reason: String should have at least 20 characters"),
        ({"reason": '"todo"'}, "reason: String should have at least 20 characters"),
        ({"expires": None}, "expires: Field required"),
        ({"expires": '"2027-01-01"'}, "expires: Input should be a valid date"),
        ({"expires": "2026-11-30"}, "expired on 2026-11-30"),
        ({"package": None}, "package: Field required"),
        ({"until": "2027-01-01"}, "until: Extra inputs are not permitted"),
    ],
)
def test_an_incomplete_or_expired_entry_fails_and_accepts_nothing(changes: dict[str, str | None], words: str) -> None:
    accepted, failures = read_allowances(written(**changes), TODAY)
    assert accepted == []
    assert len(failures) == 1
    assert words in failures[0]


def test_an_entry_that_matches_nothing_is_named() -> None:
    accepted, _ = read_allowances(written(), TODAY)
    verdict = judge([package("alpha")], accepted)
    assert (verdict.failures, verdict.notes) == ([], ["the entry for CVE-2026-1 matches nothing; remove it"])


def test_packages_that_were_not_checked_are_no_success() -> None:
    """pip-audit exits with 0 if its database knows none of the packages."""
    unknown = package("alpha", skip_reason="not found")
    assert unreachable([unknown, unknown]) == "not found"
    assert unreachable([unknown, package("beta")]) is None
    assert judge([unknown, package("beta")], []).notes == ["alpha was not checked: not found"]


def test_the_list_of_this_project_is_complete() -> None:
    text = vulnerabilities.ALLOWED.read_text(encoding="utf-8")
    assert read_allowances(text, datetime.now(UTC).date())[1] == []


@pytest.mark.parametrize(
    ("answer", "code"), [("the network is down", 0), ([package("alpha", "PYSEC-1")], 1), ([package("alpha")], 0)]
)
def test_only_a_vulnerability_fails_the_program(
    answer: Any, code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(vulnerabilities, "audit", lambda _: answer)
    assert vulnerabilities.main() == code
    shown = capsys.readouterr().out
    assert ("cannot be reached: the network is down" in shown) == isinstance(answer, str)
    assert ("FAILED: alpha 1.0 is vulnerable" in shown) == bool(code)
