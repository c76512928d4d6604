"""What one overseer has not been told yet. Holds no process and sends nothing itself.

Only the newest of everything waits, so that an overseer that is slow, stopped or gone costs a bounded memory and
nobody's time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.link import Command
from nvision_hub.oversight import GONE, REPLY, report_record

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from nvision_hub.oversight import Account

REPLIES_MAX: Final = 1000


class Briefing:
    """Gathers, then tells as much as the overseer takes."""

    def __init__(self) -> None:
        self._told: dict[str, tuple[Any, ...]] = {}  # of each member whose account it has, which one
        self._reports: dict[str, bytes] = {}
        self._replies: deque[bytes] = deque(maxlen=REPLIES_MAX)

    def report(self, name: str, record: bytes) -> None:
        """A member has reported."""
        self._reports[name] = record

    def reply(self, ask: Command, error: str | None) -> None:
        """What became of something the overseer asked for; `error` is a sentence, None where it was done."""
        arguments = {"id": ask.arguments.get("id"), "error": error}
        self._replies.append(Command(verb=REPLY, arguments=arguments).encode())

    def tell(
        self,
        send: Callable[[bytes], bool],
        keys: Mapping[str, tuple[Any, ...]],
        account: Callable[[str], Account],
    ) -> None:
        """Send what is due, until `send` takes no more. `keys` has every member, each with its account's key."""
        while self._replies:
            if not send(self._replies[0]):
                return
            self._replies.popleft()
        for name in self._told.keys() - keys.keys():
            if not send(Command(verb=GONE, arguments={"name": name}).encode()):
                return
            del self._told[name]
            self._reports.pop(name, None)
        for name, key in keys.items():
            if self._told.get(name) != key:
                if not send(account(name).encode()):
                    return
                self._told[name] = key
        for name in self._told.keys() & self._reports.keys():
            if not send(report_record(name, self._reports[name])):
                return
            del self._reports[name]
