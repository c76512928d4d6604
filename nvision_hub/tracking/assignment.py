"""Optimal assignment of detections to tracks for a sparse list of possible pairs.

The module splits the pairs into connected groups and solves each group with the Hungarian algorithm (Kuhn 1955, in the
form of Jonker and Volgenant 1987). Most groups have one pair, so the usual cost is linear. It solves very large groups
greedily, because the Hungarian algorithm needs cubic time and a camera may report any number of objects.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MAX_EXACT: Final = 30  # maximum rows or columns of a group; a group of 30 takes about 5 ms

Pair = tuple[int, int, float]  # row, column, cost


def assign(pairs: Sequence[Pair], max_cost: float) -> list[tuple[int, int]]:
    """Return disjoint (row, column) pairs that minimize the sum of `cost - max_cost`.

    Every pair must cost less than `max_cost`, which is the cost of leaving a row and a column unassigned.
    """
    chosen: list[tuple[int, int]] = []
    for group in _groups(pairs):
        if len(group) == 1:
            chosen.append(group[0][:2])
            continue
        rows = sorted({row for row, _, _ in group})
        columns = sorted({column for _, column, _ in group})
        if max(len(rows), len(columns)) > MAX_EXACT:
            chosen += _greedy(group)
            continue
        savings = {(row, column): cost - max_cost for row, column, cost in group}
        if len(rows) <= len(columns):
            matrix = [[savings.get((row, column), 0.0) for column in columns] for row in rows]
            found = [(rows[i], columns[j]) for i, j in _hungarian(matrix)]
        else:
            matrix = [[savings.get((row, column), 0.0) for row in rows] for column in columns]
            found = [(rows[j], columns[i]) for i, j in _hungarian(matrix)]
        chosen += (pair for pair in found if pair in savings)
    return chosen


def _groups(pairs: Iterable[Pair]) -> Iterable[list[Pair]]:
    """Split the pairs into groups. No two groups share a row or a column."""
    root: dict[int, int] = {}  # column c has the key -1 - c, so that rows and columns differ

    def find(node: int) -> int:
        while root[node] != node:
            root[node] = root[root[node]]
            node = root[node]
        return node

    pairs = list(pairs)
    for row, column, _ in pairs:
        root.setdefault(row, row)
        root.setdefault(-1 - column, -1 - column)
        root[find(row)] = find(-1 - column)
    groups: dict[int, list[Pair]] = {}
    for pair in pairs:
        groups.setdefault(find(pair[0]), []).append(pair)
    return groups.values()


def _greedy(pairs: Iterable[Pair]) -> Iterable[tuple[int, int]]:
    rows, columns = set[int](), set[int]()
    for row, column, _ in sorted(pairs, key=lambda pair: pair[2]):
        if row not in rows and column not in columns:
            rows.add(row)
            columns.add(column)
            yield row, column


def _hungarian(costs: Sequence[Sequence[float]]) -> Iterable[tuple[int, int]]:
    """Yield the column of each row so that the total cost is minimal.

    There must be at least as many columns as rows.
    """
    height, width = len(costs), len(costs[0])
    row_potential = [0.0] * (height + 1)
    column_potential = [0.0] * (width + 1)
    row_of = [0] * (width + 1)  # row of each column, counted from 1; 0 if there is none
    for row in range(1, height + 1):
        row_of[0], column = row, 0
        least = [math.inf] * (width + 1)
        before = [0] * (width + 1)
        visited = [False] * (width + 1)
        while row_of[column]:
            visited[column] = True
            current, delta, following = row_of[column], math.inf, 0
            for other in range(1, width + 1):
                if visited[other]:
                    continue
                reduced = costs[current - 1][other - 1] - row_potential[current] - column_potential[other]
                if reduced < least[other]:
                    least[other], before[other] = reduced, column
                if least[other] < delta:
                    delta, following = least[other], other
            for other in range(width + 1):
                if visited[other]:
                    row_potential[row_of[other]] += delta
                    column_potential[other] -= delta
                else:
                    least[other] -= delta
            column = following
        while column:
            row_of[column] = row_of[before[column]]
            column = before[column]
    return ((row_of[column] - 1, column - 1) for column in range(1, width + 1) if row_of[column])
