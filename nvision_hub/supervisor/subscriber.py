"""Pending messages for one subscriber.

The queue holds only the newest status of each process and at most `MAX_REPLIES` replies. A subscriber that does not
read therefore uses bounded memory. The supervisor is never delayed, because sending does not block.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.runtime.messages import ProcessInfo, ProcessRemoved, Reply, encode, process_changed, status_reported

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.errors import HubError

# Version of a process's info, and a function that returns the info.
VersionedInfo = tuple[tuple[Any, ...], Callable[[], ProcessInfo]]

MAX_REPLIES: Final = 1000
MAX_DIAGNOSTICS: Final = 50  # maximum number in one reply, which must fit into a record


class Subscriber:
    """Queue of messages for one subscriber."""

    def __init__(self) -> None:
        self._sent: dict[str, tuple[Any, ...]] = {}  # by process: version of the `ProcessInfo` sent last
        self._statuses: dict[str, bytes] = {}
        self._replies: deque[Reply] = deque(maxlen=MAX_REPLIES)

    def add_status(self, name: str, record: bytes) -> None:
        """Queue a status. It replaces an older status of the same process."""
        self._statuses[name] = record

    def add_reply(self, request_id: str, error: HubError | None) -> None:
        """Queue the outcome of a request. `error` is None if the request succeeded."""
        text, diagnostics = (None, ()) if error is None else (str(error), error.diagnostics[:MAX_DIAGNOSTICS])
        self._replies.append(Reply(request_id=request_id, error=text, diagnostics=diagnostics))

    def flush(self, send: Callable[[bytes], bool], infos: Mapping[str, VersionedInfo]) -> None:
        """Send the pending messages until `send` returns False. `infos` must contain every process."""
        while self._replies:
            if not send(encode(self._replies[0])):
                return
            self._replies.popleft()
        for name in self._sent.keys() - infos.keys():
            if not send(encode(ProcessRemoved(name=name))):
                return
            del self._sent[name]
            self._statuses.pop(name, None)
        for name, (version, info) in infos.items():
            if self._sent.get(name) != version:
                if not send(process_changed(info())):
                    return
                self._sent[name] = version
        for name in self._sent.keys() & self._statuses.keys():
            if not send(status_reported(name, self._statuses[name])):
                return
            del self._statuses[name]
