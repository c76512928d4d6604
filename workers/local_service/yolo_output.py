"""Output layouts of YOLO models: which values of a table belong to one candidate, and what they mean."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np

if TYPE_CHECKING:
    import numpy.typing as npt

    Floats = npt.NDArray[np.float32]

MAX_CANDIDATES: Final = 3_000
BOX_VALUES: Final = 4  # center x, center y, width, height
_END_TO_END_VALUES: Final = 6  # left, top, right, bottom, confidence, class number
# Minimum ratio of candidates to values per candidate; below it, the shape does not show which side is which.
_MIN_RATIO: Final = 2


@dataclass(frozen=True, kw_only=True, slots=True)
class Layout:
    """Meaning of a table. By default, each row is one candidate with a box and a score per class."""

    is_in_columns: bool = False  # whether each column is one candidate
    has_objectness: bool = False  # whether one more score precedes the class scores
    # Whether NMS is built in: a row is a box (left, top, right, bottom), a confidence and a class.
    is_end_to_end: bool = False

    def classes(self, shape: tuple[int, ...]) -> int | None:
        """Return the number of classes in a table of this shape; None if the shape does not depend on the classes."""
        if self.is_end_to_end:
            return None
        return shape[0 if self.is_in_columns else 1] - BOX_VALUES - self.has_objectness


COLUMNS: Final = Layout(is_in_columns=True)  # YOLOv8, v9, v11, v12
OBJECTNESS_ROWS: Final = Layout(has_objectness=True)  # YOLOv5, v7
END_TO_END: Final = Layout(is_end_to_end=True)  # YOLOv10, v26
_LAYOUTS: Final = (COLUMNS, Layout(), OBJECTNESS_ROWS, Layout(is_in_columns=True, has_objectness=True))


def find_layout(table: Floats, stated: int | None, assumed: int | None = None) -> Layout:
    """Return the layout of a model from its output for a gray image.

    `stated` is the number of classes in the model's metadata; None if it is missing. In that case, `assumed` is the
    expected number, if any. If no layout has the number of classes, the longer side of the table decides: a model has
    more candidates than values per candidate.
    """
    if table.shape[1] == _END_TO_END_VALUES and _is_end_to_end(table, stated):
        return END_TO_END
    is_wide = table.shape[0] <= table.shape[1]
    fitting = [layout for layout in _LAYOUTS if layout.classes(table.shape) == (stated or assumed)]
    # Prefer a layout without objectness, and next a layout with more candidates than values per candidate.
    fitting.sort(key=lambda layout: (layout.has_objectness, layout.is_in_columns != is_wide))
    if fitting:
        return fitting[0]
    if table.shape[0] < table.shape[1]:
        return COLUMNS
    return OBJECTNESS_ROWS if table.shape[1] > BOX_VALUES + 1 else Layout()


def possible_classes(layout: Layout, shape: tuple[int, ...]) -> set[int]:
    """Return the possible numbers of classes if a model does not state its number; empty if any is possible.

    `layout` is the result of `find_layout` without a stated number of classes.
    """
    if layout.is_end_to_end:
        return set()
    possible = {layout.classes(shape)}
    if max(shape) < _MIN_RATIO * min(shape):
        possible |= {COLUMNS.classes(shape), OBJECTNESS_ROWS.classes(shape)}
    return {number for number in possible if number}


def read_output(table: Floats, layout: Layout, *, threshold: float) -> tuple[Floats, Floats, npt.NDArray[np.int32]]:
    """Return the boxes (left, top, right, bottom in pixels of the model's input), the scores and the class numbers."""
    rows = table.T if layout.is_in_columns else table
    if layout.is_end_to_end:
        sure = rows[:, 4] >= threshold
        rows = rows[sure][:MAX_CANDIDATES]
        return rows[:, :4], rows[:, 4], rows[:, 5].astype(np.int32)
    per_class = rows[:, 5:] * rows[:, 4:5] if layout.has_objectness else rows[:, 4:]
    numbers = per_class.argmax(axis=1)
    scores = np.take_along_axis(per_class, numbers[:, None], axis=1)[:, 0]
    best = np.flatnonzero(scores >= threshold)
    if len(best) > MAX_CANDIDATES:
        best = best[np.argpartition(-scores[best], MAX_CANDIDATES)[:MAX_CANDIDATES]]
    center, half = rows[best, :2], rows[best, 2:4] / 2
    boxes = np.concatenate([center - half, center + half], axis=1)
    return boxes, scores[best], numbers[best].astype(np.int32)


def _is_end_to_end(table: Floats, stated: int | None) -> bool:
    """Return whether rows of six values come from an end-to-end model.

    Other models also have rows of six values if they have two classes, or one class and objectness. The last value of
    their rows is a score instead of a class number. Most of their boxes are smaller than the distance from the box to
    the corner of the image.
    """
    if stated not in {None, 1, 2}:
        return True
    numbers = table[:, 5]
    are_numbers = (numbers == np.floor(numbers)) & (numbers >= 0) & (numbers < (stated or np.inf))
    are_corners = (table[:, 2:4] >= table[:, :2]).all(axis=1)
    return bool(are_numbers.all() and are_corners.mean() > 0.5)  # noqa: PLR2004 - more than half of the rows
