"""What the models share: one network per thread, and one box per object (non-maximum suppression)."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import cv2
import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

_Network = TypeVar("_Network")


class PerThread(Generic[_Network]):
    """One network per thread, created when the thread first needs it. A network stores its input and its results."""

    def __init__(self, create: Callable[[], _Network]) -> None:
        self._create = create
        self._local = threading.local()

    def get(self) -> _Network:
        """Return the network of the calling thread. Raises what `create` raises."""
        network: _Network | None = getattr(self._local, "network", None)
        if network is None:
            network = self._local.network = self._create()
        return network


def suppress_overlaps(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    *,
    max_overlap: float,
    max_objects: int,
) -> list[int]:
    """Return the indices of the boxes to keep: for each object, the box with the best score.

    `boxes` are N x (left, top, right, bottom) in any unit. Boxes of one group whose intersection over union is above
    `max_overlap` count as one object. At most `max_objects` indices are returned, in no particular order across groups.
    """
    if not len(boxes):
        return []
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        sizes.tolist(), scores.tolist(), groups.tolist(), 0.0, max_overlap, top_k=max_objects
    )
    return [int(index) for index in np.asarray(kept).flatten()]
