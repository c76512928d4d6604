"""The generated page: faults and attacks in tables of their own, and the last row of each case."""

from __future__ import annotations

from tests.support.reliability import FIRST_ATTACK, PAGE, SECURITY, Line, page


def line(case: int, fault: str, measured: str) -> Line:
    return Line(case=case, fault=fault, injected="i", target="t", measured=measured)


def test_attacks_have_a_table_of_their_own() -> None:
    text = page(
        [line(FIRST_ATTACK, "attack", "m1"), line(2, "fault", "replaced"), line(2, "fault", "m2"), line(1, "a", "m3")]
    )
    faults, title, attacks = text.partition(SECURITY)
    assert title
    assert "replaced" not in text
    assert faults.index("| 1 | a | i | t | m3 |\n") < faults.index("| 2 | fault | i | t | m2 |\n")
    assert attacks == f"| {FIRST_ATTACK} | attack | i | t | m1 |\n"


def test_the_page_of_this_project_has_the_section() -> None:
    faults, title, attacks = PAGE.read_text(encoding="utf-8").partition(SECURITY)
    assert title
    assert all(int(row.split("|")[1]) >= FIRST_ATTACK for row in attacks.splitlines())
    assert f"\n| {FIRST_ATTACK} |" not in faults
