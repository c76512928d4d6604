"""Local service, which implements the Nvision protocol and detects objects without an account or a network.

Every process inherits the modules that the supervisor has loaded. From this package, the supervisor therefore loads
only this module and `settings`.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from nvision_hub.media import cv2_loader
from workers.local_service.settings import LocalServiceSettings, check

if TYPE_CHECKING:
    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe


def run(settings: LocalServiceSettings, pipe: SupervisorPipe) -> None:
    """Serve until the supervisor requests a stop.

    Raises `ConfigError` for invalid settings, and `UnavailableError` if the port, OpenCV or a model cannot be used.
    """
    check(settings)
    cv2_loader.load()
    # Import inside the function: these modules import cv2, which must be loaded first.
    from workers.local_service.model_trial import try_models  # noqa: PLC0415
    from workers.local_service.server import serve  # noqa: PLC0415

    try_models(settings)
    asyncio.run(serve(settings, pipe))
