"""Code that the models share: networks per thread, non-maximum suppression (one box per object), OpenCV's errors."""

from __future__ import annotations

import re
import threading
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

import cv2
import numpy as np

from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy.typing as npt

    from workers.local_service.packaged_models import PackagedModel

_Network = TypeVar("_Network")
# Format of OpenCV's own errors: "OpenCV(5.0.0) FILE:LINE: error: (CODE:TITLE) REASON in function 'NAME'". If the reason
# has several lines, the function comes before it.
_OWN_ERROR: Final = re.compile(r"error: \((-?\d+):[^)]*\) (?:in function '[^']*' )?(.*?)(?: in function '[^']*')?$")


class PerThread(Generic[_Network]):
    """One network per thread, because a network stores its input and its results.

    A thread creates its network on first use.
    """

    def __init__(self, create: Callable[[], _Network]) -> None:
        self._create = create
        self._local = threading.local()
        self._spare: list[_Network] = []

    def prepare(self) -> None:
        """Create a network for the first thread that needs one. Raises the errors of `create`."""
        self._spare.append(self._create())

    def get(self) -> _Network:
        """Return the network of the calling thread. Raises the errors of `create`."""
        network: _Network | None = getattr(self._local, "network", None)
        if network is None:
            try:
                network = self._spare.pop()
            except IndexError:
                network = self._create()
            self._local.network = network
        return network


def opencv_reason(error: cv2.error) -> str:
    """Return OpenCV's reason as one line."""
    return _parse(error)[1]


def is_out_of_memory(error: cv2.error) -> bool:
    """Return whether an allocation failed, in OpenCV or in a library that OpenCV uses."""
    code, reason = _parse(error)
    return code == cv2.Error.StsNoMem or (code is None and "bad_alloc" in reason)


def _parse(error: cv2.error) -> tuple[int | None, str]:
    """Return the code and the reason of an error. C++ exceptions that OpenCV passes on have no code.

    OpenCV stores the attributes `code`, `err` and `func` in the class of its errors. They may therefore belong to an
    earlier error or to an error in another thread. Only the text always belongs to this error.
    """
    text = " ".join(str(error).split())
    own = _OWN_ERROR.search(text)
    return (None, text) if own is None else (int(own[1]), own[2])


def unusable(model: PackagedModel, reason: str) -> UnavailableError:
    """Return the error for a packaged model whose file is intact but does not work with the installed OpenCV."""
    return UnavailableError(
        f"OpenCV {cv2.__version__} cannot run the packaged model {model.path}: {reason}; reinstall nvision-hub and its "
        "dependencies."
    )


def suppress_overlaps(
    boxes: npt.NDArray[Any],
    scores: npt.NDArray[Any],
    groups: npt.NDArray[Any],
    *,
    max_overlap: float,
    max_objects: int,
) -> list[int]:
    """Return the indices of the boxes to keep: for each object, the box with the best score.

    `boxes` are N x (left, top, right, bottom) in any unit. Boxes of one group with an intersection over union above
    `max_overlap` count as one object. Returns at most `max_objects` indices, in no particular order across groups.
    """
    if not len(boxes):
        return []
    sizes = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1)
    kept = cv2.dnn.NMSBoxesBatched(
        sizes.tolist(), scores.tolist(), groups.tolist(), 0.0, max_overlap, top_k=max_objects
    )
    return [int(index) for index in np.asarray(kept).flatten()]
