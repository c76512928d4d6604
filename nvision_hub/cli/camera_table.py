"""Camera table: builds rows from process states or from the API, and formats the rows as lines. Performs no I/O."""

from __future__ import annotations

import textwrap
from bisect import bisect
from dataclasses import dataclass, field, replace
from datetime import datetime
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from rich.text import Text

from nvision_hub.cli.terminal import format_duration, format_names
from nvision_hub.control_characters import printable
from nvision_hub.runtime.status import CameraInfo, CameraState
from nvision_hub.runtime.supervisor_pipe import REPORT_INTERVAL_S
from nvision_hub.supervisor.process_state import Phase

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from nvision_hub.supervisor.process_state import ProcessState

CAMERA_PREFIX: Final = "camera:"
OLD_RESULT_S: Final = 10.0
OLD_REPORT_S: Final = 2.5

_STATE_WIDTH: Final = max(map(len, CameraState))
_NUMBERS: Final = "  {:>5}  {:>5}  {:>6}  {:>6}  {}"
_CAMERA_WIDTHS: Final = (6, 28)  # minimum (the width of the heading), and maximum on terminals of up to 115 cells
_RESULT_WIDTH: Final = 16  # minimum width of the last column; long camera ids are truncated to make room
_COLORS: Final[dict[str, str]] = {
    CameraState.STREAMING: "green",
    CameraState.STARTING: "cyan",
    CameraState.CONNECTING: "cyan",
    CameraState.PAUSED: "cyan",
    CameraState.STOPPED: "dim",
}


@dataclass(frozen=True, kw_only=True, slots=True)
class TableRow:
    """Row of a camera, or of another process that needs attention. Only camera rows use the last three fields."""

    name: str
    state: str
    error: str | None = None  # a sentence for the user
    info: CameraInfo = field(default_factory=CameraInfo)
    age_s: float | None = None  # age of the last frame
    seen: str = ""  # detections in the last result, or `nothing`

    @property
    def is_healthy(self) -> bool:
        return self.state == CameraState.STREAMING and self.error is None


def camera_rows(processes: Iterable[ProcessState], *, now: float, wall: float) -> list[TableRow]:
    """Return the rows of all cameras. `now` is in monotonic seconds, and `wall` is in seconds since the epoch."""
    return [_process_row(it, now, wall) for it in processes if it.spec.name.startswith(CAMERA_PREFIX)]


def process_rows(processes: Iterable[ProcessState], *, now: float) -> list[TableRow]:
    """Return the rows of all processes except cameras that are running but not ready, or waiting to start."""
    return [
        _process_row(process, now)
        for process in processes
        if not process.spec.name.startswith(CAMERA_PREFIX)
        and not process.ready
        and process.phase in {Phase.WAITING, Phase.RUNNING}
    ]


def api_camera_row(camera: Mapping[str, Any], wall: float) -> TableRow:
    """Return the row of a camera from the API. `wall` is in seconds since the epoch."""
    info = CameraInfo(
        profile=camera["profile"],
        limited_by=camera["limited_by"] and printable(camera["limited_by"]),
        scheduled=camera["scheduled"] and printable(camera["scheduled"]),
        rate_in=camera["rate_in"],
        rate_out=camera["rate_out"],
        dropped=sum(camera["dropped"].values()),
        sent=camera["sent"],
        last_frame_at=_timestamp(camera["last_picture_at"]),
        last_result_at=_timestamp(camera["last_result_at"]),
        seen=tuple(camera["seen"]),
    )
    row = TableRow(
        name=printable(camera["id"]),
        state=printable(camera["state"]),
        error=camera["error"] and printable(camera["error"]),
    )
    return _with_info(row, info, wall=wall, report_age_s=REPORT_INTERVAL_S)


def api_process_rows(processes: Iterable[Mapping[str, Any]]) -> list[TableRow]:
    """Return the rows of all processes except cameras that, according to the API, are not running or have an error."""
    return [
        TableRow(
            name=printable(process["name"]),
            state=printable(process["phase"]),
            error=process["error"] and printable(process["error"]),
        )
        for process in processes
        if not process["name"].startswith(CAMERA_PREFIX)
        and (process["phase"] != Phase.RUNNING or process["error"] is not None)
    ]


def _with_info(row: TableRow, info: CameraInfo, *, wall: float, report_age_s: float) -> TableRow:
    seen, age_s = "", None
    if info.last_result_at is not None:
        result_age_s = wall - info.last_result_at
        seen = format_names(info.seen) or "nothing"
        seen += f" ({format_duration(result_age_s)} ago)" if result_age_s > OLD_RESULT_S else ""
    if info.last_frame_at is not None:
        age_s = max(0.0, wall - info.last_frame_at - report_age_s)  # more frames may have arrived since the report
    return replace(row, info=info, age_s=age_s, seen=seen)


def _timestamp(text: str | None) -> float | None:
    return None if text is None else datetime.fromisoformat(text).timestamp()


def _process_row(process: ProcessState, now: float, wall: float = 0.0) -> TableRow:
    # The last status report of a process that is about to restart is out of date.
    status = process.status if process.fresh or process.phase is Phase.ENDED else None
    state = CameraState.STARTING if status is None else printable(status.state)
    if process.crash_loop:
        state = CameraState.CRASH_LOOP
    elif process.phase is Phase.ENDED:
        state = CameraState.STOPPED
    sentences = []
    if process.phase is Phase.WAITING and process.start_attempted_at is not None:
        cause = "its process could not start"
        if process.restarts:
            cause = "its process keeps exiting" if process.crash_loop else "its process exited"
        sentences.append(f"{cause}; restarting in {format_duration(process.due - now)} (see its log for the cause)")
    if status is not None and status.error is not None:
        sentences.append(printable(status.error))
    name = process.spec.name.removeprefix(CAMERA_PREFIX)
    row = TableRow(name=name, state=state, error="; ".join(sentences) or None)
    if status is None:
        return row
    age_s = now - status.at
    return _with_info(row, status.camera, wall=wall, report_age_s=age_s if age_s < OLD_REPORT_S else 0.0)


def table_lines(cameras: Sequence[TableRow], processes: Sequence[TableRow], *, width: int, height: int) -> list[Text]:
    """Return at most `height` lines of at most `width` cells: a heading, the cameras, and the other processes.

    If not all cameras fit, unhealthy cameras come first. A line after the cameras shows how many cameras are hidden.
    """
    camera_width = _camera_width(cameras, width)
    heading = f"{'camera':<{camera_width}}  {'state':<{_STATE_WIDTH}}"
    heading += _NUMBERS.format("in/s", "out/s", "drops", "age", "last result")
    footer = [line for row in processes for line in _process_block(row, width)][: max(0, height - 2)]
    room = height - 1 - len(footer)
    blocks = [(row, _camera_block(row, camera_width, width)) for row in cameras]
    profiles = {row.name: _wrap(f"profile: {row.info.profile}", width, "dim") for row in cameras if row.info.profile}
    more = []
    if sum(len(block) for _, block in blocks) + sum(map(len, profiles.values())) <= room:
        blocks = [(row, [*block, *profiles.get(row.name, [])]) for row, block in blocks]
    elif sum(len(block) for _, block in blocks) > room:
        blocks.sort(key=lambda item: item[0].is_healthy)  # stable: cameras of equal health keep their order
        count = bisect(list(accumulate(len(block) for _, block in blocks)), room - 1)
        unhealthy = sum(not row.is_healthy for row, _ in blocks[count:])
        states = f"{unhealthy} of them not streaming" if unhealthy else "all streaming"
        hidden = f"... and {len(blocks) - count} more, {states}; enlarge the window to see more"
        more = [Text(_cut(hidden, width), style="dim")]
        blocks = blocks[:count]
    return [Text(_cut(heading, width), style="bold"), *(line for _, block in blocks for line in block), *more, *footer]


def _camera_width(cameras: Iterable[TableRow], width: int) -> int:
    fixed = 2 + _STATE_WIDTH + len(_NUMBERS.format(*[""] * 5))
    min_width, max_width = _CAMERA_WIDTHS
    longest = max((len(row.name) for row in cameras), default=0)
    return max(min_width, min(longest, max(max_width, width // 4), width - fixed - _RESULT_WIDTH))


def _camera_block(row: TableRow, camera_width: int, width: int) -> list[Text]:
    info = row.info
    rates = ["-" if value is None else f"{value:.1f}" for value in (info.rate_in, info.rate_out)]
    dropped = "-" if info.dropped is None else f"{info.dropped:.0f}"
    age = "-" if row.age_s is None else format_duration(row.age_s)
    line = Text(f"{_cut(row.name, camera_width):<{camera_width}}  ")
    line.append(f"{row.state:<{_STATE_WIDTH}}", style=_COLORS.get(row.state, "red"))
    line.append(_NUMBERS.format(*rates, dropped, age, row.seen))
    line.truncate(width, overflow="ellipsis")
    scheduled = info.scheduled and f"scheduled: {info.scheduled}"
    limit = info.limited_by and f"limited by {info.limited_by}"
    error_style = "yellow" if row.state in _COLORS else "red"
    return [
        line,
        *_wrap(scheduled, width, "cyan"),
        *_wrap(limit, width, "yellow"),
        *_wrap(row.error, width, error_style),
    ]


def _process_block(row: TableRow, width: int) -> list[Text]:
    return [Text(_cut(f"{row.name}: {row.state}", width), style="yellow"), *_wrap(row.error, width, "yellow")]


def _wrap(sentence: str | None, width: int, style: str) -> list[Text]:
    lines = textwrap.wrap(sentence or "", width, initial_indent="  ", subsequent_indent="  ")
    return [Text(line, style=style) for line in lines]


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
