"""Report of a benchmark: a table and goals, as Markdown or JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A measured value and its upper limit."""

    what: str
    value: float
    at_most: float
    spread: tuple[float, float] | None = None  # minimum and maximum of the runs; `value` is their median

    @property
    def met(self) -> bool:
        return self.value <= self.at_most

    @classmethod
    def of(cls, what: str, runs: Sequence[float], *, at_most: float) -> Goal:
        """Return a goal for the median of several runs."""
        return cls(what=what, value=median(runs), at_most=at_most, spread=(min(runs), max(runs)))


@dataclass(kw_only=True)
class Report:
    """Outcome of one benchmark. Every row has one cell per column."""

    name: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "goals": [{**asdict(goal), "met": goal.met} for goal in self.goals]}

    def as_text(self) -> str:
        """Return Markdown, ready for the documentation."""
        lines = [f"### {self.name}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        return "\n".join([*lines, "", *_goals(self.goals)] if self.goals else lines) + "\n"


def summary(reports: Sequence[Report]) -> str:
    """Return all goals of several benchmarks as one Markdown table."""
    goals = [replace(goal, what=f"{report.name}: {goal.what}") for report in reports for goal in report.goals]
    return "\n".join(["### all goals", "", *_goals(goals)]) + "\n"


def _goals(goals: Sequence[Goal]) -> list[str]:
    runs = ["runs"] if any(goal.spread is not None for goal in goals) else []
    heads = ["goal", "measured", *runs, "limit", ""]
    lines = [_line(heads), _line(["---"] * len(heads))]
    for goal in goals:
        cells = [goal.what, f"{goal.value:.3g}", *("" if goal.spread is None else spread(goal.spread) for _ in runs)]
        lines.append(_line([*cells, f"{goal.at_most:g}", "met" if goal.met else "**missed**"]))
    return lines


def spread(values: Sequence[float]) -> str:
    """Return the minimum and the maximum as a string."""
    return f"{min(values):.3g} to {max(values):.3g}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def percentile(values: Sequence[float], share: float) -> float:
    """Return the measured value at a percentile. `share` is the percentile as a number from 0 to 1."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
