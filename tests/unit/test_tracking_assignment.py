"""The assignment of detections to tracks is optimal, and bounded for any input."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.tracking.assignment import MAX_EXACT, assign

MAX_COST = 10.0
COSTS = st.dictionaries(st.tuples(st.integers(0, 4), st.integers(0, 4)), st.floats(0, 9.9), max_size=12)


@given(COSTS)
def test_no_other_assignment_costs_less(costs: dict[tuple[int, int], float]) -> None:
    chosen = assign([(row, column, cost) for (row, column), cost in costs.items()], MAX_COST)
    assert len({row for row, _ in chosen}) == len({column for _, column in chosen}) == len(chosen)
    saved = sum(MAX_COST - costs[pair] for pair in chosen)
    best = max(
        sum(MAX_COST - costs.get((row, column), MAX_COST) for row, column in enumerate(columns))
        for columns in itertools.permutations(range(5))
    )
    assert abs(saved - best) < 1e-6


def test_a_crowd_where_everything_fits_everything_is_assigned_greedily() -> None:
    size = 4 * MAX_EXACT
    pairs = [(row, column, abs(row - column) / size) for row in range(size) for column in range(size)]
    assert sorted(assign(pairs, MAX_COST)) == [(number, number) for number in range(size)]
