"""The live table on a terminal, with log lines above it.

The supervisor's loop calls `show` about twice a second, and only `show` writes: log records wait in a queue for it.
No thread holds a lock of the terminal's while the supervisor forks, and a terminal that is held (Ctrl-S) keeps neither
the supervisor nor a log thread waiting. Knows nothing of what the rows mean.
"""

from __future__ import annotations

import logging
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final, Self

from rich.console import Group
from rich.live import Live
from rich.text import Text

from nvision_hub.cli import fleet, table
from nvision_hub.cli.terminal import harmless
from nvision_hub.errors import redact

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import TracebackType

    from rich.console import Console

    from nvision_hub.cli.fleet import Row
    from nvision_hub.supervisor import Member

LINES_WAITING_MAX: Final = 1_000
_LEVEL_STYLES: Final = {logging.WARNING: "yellow", logging.ERROR: "red", logging.CRITICAL: "bold red"}


class TerminalLog(logging.Handler):
    """Keeps log records, written for people's eyes, until somebody takes them; the oldest go first."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: deque[Text] = deque(maxlen=LINES_WAITING_MAX)

    def emit(self, record: logging.LogRecord) -> None:
        text = redact(logging.Formatter("%(message)s").format(record))
        line = Text(time.strftime("%H:%M:%S ", time.localtime(record.created)), style="dim")
        who = "hub" if record.processName == "MainProcess" else str(record.processName)
        line.append(f"{who}  ", style="not dim cyan")
        shown = "\n".join(harmless(part) for part in text.splitlines())
        line.append(shown, style=f"not dim {_LEVEL_STYLES.get(record.levelno, '')}")
        self._waiting.append(line)

    def take(self) -> list[Text]:
        """What has come since the last time."""
        return [self._waiting.popleft() for _ in range(len(self._waiting))]


class LiveTable:
    """The table at the bottom of a terminal. `head` is what stands above it all the time."""

    def __init__(self, console: Console, log: TerminalLog, head: Sequence[Text]) -> None:
        self._console = console
        self._log = log
        self._head = list(head)
        self._size = console.size
        self._live = Live(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self.rows: list[Row] = []

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._live.stop()
        self._print_log()

    def show(self, members: Sequence[Member]) -> None:
        """Draw them as they are now."""
        self.rows = fleet.rows(members, now=time.monotonic(), wall=time.time())
        if not self._accepts():
            return
        if self._console.size != self._size:
            # The terminal has wrapped the old table anew, and nobody can tell how many lines that made of it.
            self._size = self._console.size
            self._console.clear()
        self._print_log()
        width, height = self._size
        room = max(3, height - len(self._head) - 2)
        peers = fleet.peers(members, now=time.monotonic())
        body = table.lines(self.rows, peers, width=width, height=room)
        for line in self._head:
            line.truncate(width, overflow="ellipsis")
        self._live.update(Group(Text(), *self._head, *body), refresh=True)

    def _accepts(self) -> bool:
        """Whether the terminal takes text: not while somebody holds it with Ctrl-S."""
        return bool(select.select([], [self._console.file], [], 0)[1])

    def _print_log(self) -> None:
        for line in self._log.take():
            self._console.print(line)
