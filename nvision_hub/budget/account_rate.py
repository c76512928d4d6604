"""Limit on the images per second for all cameras that share an account of the service."""

from __future__ import annotations

from bisect import insort
from typing import Final

# Images whose estimated arrival times are this far apart may in fact arrive within one second.
WINDOW_S: Final = 1.05


class AccountRate:
    """Limit of `limit` images in any window of `WINDOW_S` seconds. All times are monotonic seconds.

    An image arrives at the service some time after its grant. Until the camera reports the arrival time, the image
    counts in every window, because it may arrive at any moment.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self._unsent = 0
        self._sent: list[float] = []  # arrival times in ascending order
        self._due = float("-inf")  # time of the next grant while images are scarce

    def wait_s(self, now: float, *, is_scarce: bool) -> float:
        """Return the seconds until an image may be granted; infinite if a camera must first report an image.

        `is_scarce` means that the cameras want more images than the limit. Grants are then evenly spaced. Otherwise,
        grants may follow each other immediately.
        """
        self._prune(now)
        wait = 0.0
        excess = len(self._sent) + self._unsent - self.limit
        if excess >= 0:
            wait = self._sent[excess] + WINDOW_S - now if excess < len(self._sent) else float("inf")
        if is_scarce:
            wait = max(wait, self._due - now)
        return max(0.0, wait)

    def _prune(self, now: float) -> None:
        """Remove the images that have left the window. The cost is small, because each image is removed once."""
        count = 0
        while count < len(self._sent) and now - self._sent[count] >= WINDOW_S:
            count += 1
        del self._sent[:count]

    def grant(self, now: float) -> None:
        self._unsent += 1
        spacing_s = WINDOW_S / self.limit
        is_late = now - self._due < spacing_s  # a late grant does not delay the following grants
        self._due = (self._due if is_late else now) + spacing_s

    def on_sent(self, at: float) -> None:
        """Count a granted image as arrived at `at`."""
        self._unsent -= 1
        insort(self._sent, at)

    def on_returned(self) -> None:
        """Count a granted image as never sent."""
        self._unsent -= 1
