"""The local service without a hub, for `nvision-hub service`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nvision_hub.runtime.supervisor_pipe import SupervisorPipe
from workers import local_service
from workers.local_service.packaged_models import MODELS, PackagedModel
from workers.local_service.settings import LocalServiceSettings

if TYPE_CHECKING:
    import signal

__all__ = ["MODELS", "LocalServiceSettings", "PackagedModel", "run_local_service"]


def run_local_service(settings: LocalServiceSettings) -> signal.Signals | None:
    """Run the service until SIGTERM or SIGINT. Return the signal that ended the service. Raises `HubError`."""
    pipe = SupervisorPipe(None)
    local_service.run(settings, pipe)
    return pipe.ended_by
