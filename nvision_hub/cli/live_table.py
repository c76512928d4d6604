"""Live camera table on a terminal, with log lines above it.

The supervisor's loop calls `show` about twice a second. Other threads only queue log records, and `show` prints them.
Therefore, no thread holds a terminal lock while the supervisor forks. While Ctrl-S stops the terminal, `show` prints
nothing, so the stopped terminal blocks neither the supervisor nor a log thread.
"""

from __future__ import annotations

import logging
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Final

from rich.console import Group
from rich.live import Live
from rich.text import Text

from nvision_hub.cli.camera_table import camera_rows, process_rows, table_lines
from nvision_hub.control_characters import printable
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import Console

    from nvision_hub.cli.camera_table import TableRow
    from nvision_hub.supervisor.process_state import ProcessState

NAME_WIDTH: Final = 8  # columns of an endpoint's name above a table
MAX_QUEUED_RECORDS: Final = 1_000
_LEVEL_STYLES: Final = {"warning": "yellow", "error": "red", "critical": "bold red"}


def head_lines(title: str, endpoints: Iterable[tuple[str, str | None]]) -> list[Text]:
    """Return the lines above a table: the title and each endpoint that is not None. Long lines are truncated."""
    parts = [(("nvision-hub", "bold"), f" {title}")]
    parts += [((f"{name:<{NAME_WIDTH}}", "dim"), address) for name, address in endpoints if address is not None]
    return [Text.assemble(*line, no_wrap=True, overflow="ellipsis") for line in parts]


def log_line(at: str, tag: str, level: str, message: str, *, tag_style: str = "cyan") -> Text:
    """Format a log record: the time, a tag such as the process, and the message in the color of its level."""
    line = Text(at, style="dim")
    line.append(tag and f"{printable(tag)}  ", style=f"not dim {tag_style}")
    line.append("\n".join(map(printable, message.splitlines())), style=f"not dim {_LEVEL_STYLES.get(level, '')}")
    return line


class TerminalLog(logging.Handler):
    """Log handler that formats records for a terminal and queues them. A full queue drops the oldest record."""

    def __init__(self) -> None:
        super().__init__()
        self._queue: deque[Text] = deque(maxlen=MAX_QUEUED_RECORDS)

    def emit(self, record: logging.LogRecord) -> None:
        at = time.strftime("%H:%M:%S ", time.localtime(record.created))
        process = "hub" if record.processName == "MainProcess" else str(record.processName)
        message = redact(logging.Formatter("%(message)s").format(record))
        self._queue.append(log_line(at, process, record.levelname.lower(), message))

    def pop_all(self) -> list[Text]:
        """Remove and return the queued lines, oldest first."""
        return [self._queue.popleft() for _ in range(len(self._queue))]


class LiveTable(Live):
    """Camera table at the bottom of a terminal, as a context manager. The lines of `head` stay above the table."""

    def __init__(self, console: Console, log: TerminalLog, head: Sequence[Text]) -> None:
        super().__init__(
            console=console,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
            vertical_overflow="crop",
        )
        self.rows: list[TableRow] = []
        self._log = log
        self._head = head
        self._size = console.size

    def stop(self) -> None:
        super().stop()
        self._print_log()

    def show(self, processes: Sequence[ProcessState]) -> None:
        """Update `rows`, and draw the table if the terminal accepts output."""
        now = time.monotonic()
        self.rows = camera_rows(processes, now=now, wall=time.time())
        if not select.select([], [self.console.file], [], 0)[1]:  # the user stopped the output with Ctrl-S
            return
        if self.console.size != self._size:
            # The terminal has rewrapped the old table to the new width, so the height of the table is unknown.
            self._size = self.console.size
            self.console.clear()
        self._print_log()
        width, height = self._size
        room = max(3, height - len(self._head) - 3)
        body = table_lines(self.rows, process_rows(processes, now=now), width=width, height=room)
        self.update(Group(Text(), *self._head, Text(), *body), refresh=True)

    def _print_log(self) -> None:
        for line in self._log.pop_all():
            self.console.print(line)
