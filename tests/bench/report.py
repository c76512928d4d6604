"""What a benchmark has to say: a table, goals met and missed, and the same as JSON."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A number that must not exceed another."""

    what: str
    value: float
    at_most: float

    @property
    def met(self) -> bool:
        return self.value <= self.at_most


@dataclass(kw_only=True)
class Report:
    """One benchmark's outcome. Every row has as many cells as there are columns."""

    name: str
    columns: Sequence[str]
    rows: list[Sequence[str]] = field(default_factory=list)
    goals: list[Goal] = field(default_factory=list)

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "goals": [{**asdict(goal), "met": goal.met} for goal in self.goals]}

    def as_text(self) -> str:
        """As Markdown, so that it can go into the documentation as it is."""
        lines = [f"### {self.name}", "", _line(self.columns), _line(["---"] * len(self.columns))]
        lines += [_line(row) for row in self.rows]
        lines += ["", _line(["goal", "measured", "at most", ""]), _line(["---"] * 4)]
        lines += [
            _line([goal.what, f"{goal.value:.3g}", f"{goal.at_most:g}", "met" if goal.met else "**missed**"])
            for goal in self.goals
        ]
        return "\n".join(lines) + "\n"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` (0..1) of the values lie: the nearest that was measured."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def median(values: Sequence[float]) -> float:
    return statistics.median(values)
