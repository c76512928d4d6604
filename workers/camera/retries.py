"""When to try a camera again, by what was wrong with it. Pure: failures and moments of health in, delays out."""

from __future__ import annotations

from typing import Final

from nvision_hub.backoff import Backoff
from nvision_hub.status import CameraState

# Cameras lock an address out after some 5 to 7 wrong passwords, for half an hour: 3 tries a minute, then one at most.
_PASSWORD_TRIES: Final = 3


class Retries:
    """One series of delays for each kind of failure, so that one which alternates with another does not start anew.

    Only sustained health forgets the failures: a camera that accepts and then fails is no healthy one.
    """

    def __init__(self) -> None:
        # A camera that comes back from a reboot has its pictures within 10 s of it, its first keyframe included.
        self._network = Backoff(first_s=0.5, cap_s=5.0)
        self._settings = Backoff(first_s=5.0, cap_s=120.0)  # somebody has to change them first
        self._password = Backoff(first_s=20.5, cap_s=60.0)
        self._lockout = Backoff(first_s=60.5, cap_s=600.0)
        self._all = (self._network, self._settings, self._password, self._lockout)

    def next_s(self, state: CameraState) -> float:
        """Seconds to wait after a failure of this kind."""
        for series in self._all:
            series.failed()
        return self._series(state).next_s()

    def healthy(self, now: float) -> None:
        """Say that pictures come at `now` (monotonic seconds)."""
        for series in self._all:
            series.healthy(now)

    def _series(self, state: CameraState) -> Backoff:
        match state:
            case CameraState.AUTH_FAILED:
                return self._password if self._password.tries < _PASSWORD_TRIES - 1 else self._lockout
            case CameraState.NOT_FOUND | CameraState.UNSUPPORTED:
                return self._settings
            case _:
                return self._network
