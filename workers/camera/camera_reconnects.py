"""Delays before a camera worker reconnects to its camera, by kind of failure. Performs no I/O."""

from __future__ import annotations

from typing import Final

from nvision_hub.backoff import Backoff
from nvision_hub.runtime.status import CameraState

# Many cameras lock out an address for half an hour after 5 to 7 wrong passwords. The delays below allow at most 3
# attempts in the first minute, and at most one attempt per minute after that.
_PASSWORD_ATTEMPTS: Final = 3


class ReconnectPolicy:
    """One series of delays per kind of failure. A failure of one kind does not reset the delays of another kind.

    Only a continuous flow of frames resets the delays. A camera that connects and then fails does not reset them.
    """

    def __init__(self) -> None:
        # With this cap, a camera usually streams within 10 s after its reboot, including the wait for a keyframe.
        self._network = Backoff(first_s=0.5, cap_s=5.0)
        self._settings = Backoff(first_s=5.0, cap_s=120.0)  # such failures usually last until a user fixes the settings
        self._password = Backoff(first_s=20.5, cap_s=60.0)
        self._lockout = Backoff(first_s=60.5, cap_s=600.0)
        self._all = (self._network, self._settings, self._password, self._lockout)

    def next_s(self, state: CameraState) -> float:
        """Return the seconds to wait after a failure of this kind."""
        for series in self._all:
            series.failed()
        match state:
            case CameraState.AUTH_FAILED:
                may_repeat = self._password.tries < _PASSWORD_ATTEMPTS - 1
                return (self._password if may_repeat else self._lockout).next_s()
            case CameraState.NOT_FOUND | CameraState.UNSUPPORTED:
                return self._settings.next_s()
            case _:
                return self._network.next_s()

    def healthy(self, now: float) -> None:
        """Record that frames arrive at `now` (monotonic seconds)."""
        for series in self._all:
            series.healthy(now)
