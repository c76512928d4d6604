"""What the gateway asks of the supervisor, and the answers that it awaits. Knows the pipe, not what is asked for."""

from __future__ import annotations

import asyncio
import uuid
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.errors import HubError
from nvision_hub.link import Command

if TYPE_CHECKING:
    from collections.abc import Callable

ANSWERED_WITHIN_S: Final = 5.0


class RefusedError(HubError):
    """The supervisor says no; the text is its sentence."""


class UnansweredError(HubError):
    """The supervisor says nothing."""


class Asks:
    """Every question has an id, by which its answer finds it."""

    def __init__(self, send: Callable[[Command], bool]) -> None:
        self._send = send
        self._open: dict[str, asyncio.Future[str | None]] = {}

    async def ask(self, verb: str, /, **arguments: Any) -> None:
        """Ask, and wait until it is done. Raises `RefusedError`, or `UnansweredError` after some seconds."""
        key = uuid.uuid4().hex
        answer: asyncio.Future[str | None] = asyncio.get_running_loop().create_future()
        self._open[key] = answer
        try:
            if not self._send(Command(verb=verb, arguments={"id": key, **arguments})):
                raise UnansweredError("The hub's supervisor takes no requests at this moment; try again.")
            async with asyncio.timeout(ANSWERED_WITHIN_S):
                refused = await answer
        except TimeoutError as error:
            raise UnansweredError(
                f"The hub's supervisor has not answered within {ANSWERED_WITHIN_S:.0f} s; try again."
            ) from error
        finally:
            del self._open[key]
        if refused is not None:
            raise RefusedError(refused)

    def pass_on(self, target: str, verb: str, /, **arguments: Any) -> None:
        """Hand a command to a member, and do not wait: whoever repeats it each second needs no answer."""
        self._send(
            Command(
                verb="pass",
                arguments={"id": uuid.uuid4().hex, "target": target, "verb": verb, "arguments": arguments},
            )
        )

    def answered(self, reply: Command) -> None:
        """An answer has come."""
        answer = self._open.get(str(reply.arguments.get("id")))
        if answer is not None and not answer.done():
            answer.set_result(reply.arguments.get("error"))
