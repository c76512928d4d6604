"""Control of the fleet: sends requests to the supervisor, and waits until the fleet's state shows the changes."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Final

from nvision_hub.runtime.messages import Forward, MessageError, Reply
from workers.gateway.api.problem_details import FieldError, ProblemError
from workers.gateway.state.fleet import CAMERA

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.messages import CameraMessage, Message, Request
    from workers.gateway.state.fleet import FleetState, MonitoredProcess

REPLY_TIMEOUT_S: Final = 5.0
STATE_TIMEOUT_S: Final = 2.0  # the supervisor reports a change shortly after it has replied


class FleetControl:
    """Control of the fleet through its supervisor. `send` returns False while the supervisor accepts no requests."""

    def __init__(self, fleet: FleetState, send: Callable[[Request], bool]) -> None:
        self.fleet = fleet
        self.send = send
        self._pending: dict[str, asyncio.Future[Reply]] = {}
        self._changed = asyncio.Event()  # each change sets this event and replaces it with a new event

    def on_message(self, message: Message) -> None:
        if isinstance(message, Reply):
            pending = self._pending.get(message.request_id)
            if pending is not None and not pending.done():
                pending.set_result(message)
        else:
            self.fleet.on_message(message, wall=time.time())
            self._changed.set()
            self._changed = asyncio.Event()

    def camera(self, camera_id: str) -> MonitoredProcess:
        """Return the camera with this id. Raises `ProblemError` if no camera has the id."""
        process = self.fleet.camera(camera_id)
        if process is None:
            raise ProblemError(404, "camera_not_found", "No camera has this id; GET /api/v1/cameras lists all ids.")
        return process

    def forward(self, camera_id: str, message: CameraMessage) -> None:
        """Send a message to a camera. There is no reply, and the gateway does not resend a lost message."""
        self.send(Forward(target=CAMERA + camera_id, message=message))

    async def reply(self, request: Request) -> Reply:
        """Send a request and return the reply. Raises `ProblemError` if sending fails or if the reply is late."""
        pending: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._pending[request.request_id] = pending
        try:
            if not self.send(request):
                detail = "The hub's supervisor currently accepts no requests; try again."
                raise ProblemError(503, "supervisor_timeout", detail)
            async with asyncio.timeout(REPLY_TIMEOUT_S):
                return await pending
        except TimeoutError as timeout:
            detail = f"The hub's supervisor did not reply within {REPLY_TIMEOUT_S:.0f} s; try again."
            raise ProblemError(503, "supervisor_timeout", detail) from timeout
        except MessageError as malformed:
            return Reply(request_id=request.request_id, error=str(malformed))
        finally:
            del self._pending[request.request_id]

    async def request(self, request: Request, *, rejected_status: int = 409) -> None:
        """Send a request, and wait until the supervisor has performed it. Raises `ProblemError` on failure."""
        reply = await self.reply(request)
        if reply.error is not None:
            errors = [
                FieldError.at("body", each.path, code=each.code, detail=each.text)
                for each in reply.diagnostics
                if each.path and each.file is None
            ]
            # A diagnostic begins with the key of a setting, so its case must stay. Other errors begin with an ordinary
            # word.
            error = f"the hub rejected the request: {reply.error}" if reply.diagnostics else reply.error
            detail = error[:1].upper() + error[1:] + ("" if error.endswith((".", "!", "?")) else ".")
            raise ProblemError(rejected_status, "request_rejected", detail, errors=errors)

    async def wait_until(self, condition: Callable[[], bool], timeout_s: float = STATE_TIMEOUT_S) -> None:
        """Wait until the fleet meets the condition, but at most `timeout_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                while not condition():
                    await self._changed.wait()
