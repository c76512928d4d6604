"""Interface between the supervisor and the hub that runs the supervisor."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvision_hub.runtime.messages import CameraRequest, ProcessInfo, SealedRequest
    from nvision_hub.runtime.process import ProcessSpec
    from nvision_hub.runtime.status import Status
    from nvision_hub.supervisor.process_state import ProcessState


class SupervisorObserver:
    """Observer that the supervisor's loop calls. This base class is for a supervisor without a hub.

    Methods must not block, because this would delay all restarts. The loop logs an unexpected exception and continues.
    """

    def on_tick(self, processes: Sequence[ProcessState], *, stopping: bool) -> None:
        """Receive the state of all processes twice a second, and once more after the last process has ended."""

    def reload(self, *, requested: bool) -> Iterable[ProcessSpec] | None:  # noqa: ARG002 - the interface
        """Return the processes that should run from now on; None if nothing changes.

        The loop calls this method twice a second, after each camera request, and with `requested` after a SIGHUP.
        """
        return None

    def on_camera_request(self, request: CameraRequest | SealedRequest) -> None:
        """Perform a subscriber's request. The loop then calls `reload`. Raises `HubError` if the request fails."""
        raise UnavailableError(f"this hub cannot handle {type(request).__name__}")

    def hub_status(self) -> tuple[ProcessInfo, Status] | None:
        """Return the hub's own info and status for subscribers; None if there is no hub."""
        return None
