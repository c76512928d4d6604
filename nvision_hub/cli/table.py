"""The table of cameras as lines of text that fit a width and a height. Pure; `live.py` puts it on the screen."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Final

from rich.text import Text

from nvision_hub.cli.terminal import ago
from nvision_hub.status import CameraState

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from nvision_hub.cli.fleet import Peer, Row

_GAP: Final = "  "
_NUMBERS: Final = (("in/s", 5), ("out/s", 5), ("drops", 6), ("age", 6))
_STATE_WIDTH: Final = max(len(state) for state in CameraState)
_CAMERA_WIDTHS: Final = (6, 28)  # at least the heading; longer ids are cut where the terminal is narrow
_RESULT_WIDTH: Final = 16  # what the last column gets before ids are cut
_UNKNOWN: Final = "-"
_COLOURS: Final = {
    CameraState.STREAMING: "green",
    CameraState.STARTING: "cyan",
    CameraState.CONNECTING: "cyan",
    CameraState.PAUSED: "cyan",
    CameraState.STOPPED: "dim",
}


def lines(rows: Sequence[Row], peers: Sequence[Peer], *, width: int, height: int) -> list[Text]:
    """The heading and one block per camera, at most `height` lines of at most `width` cells.

    Where not all fit, cameras in trouble come first, and a last line tells what is left out.
    """
    camera_width = _camera_width(rows, width)
    heading = Text(_cut(_heading(camera_width), width), style="bold")
    blocks = [(row, _block(row, camera_width, width)) for row in rows]
    room = height - 1
    tail = [line for peer in peers for line in _peer(peer, width)][: max(0, room - 1)]
    room -= len(tail)
    if sum(len(block) for _, block in blocks) > room:
        blocks.sort(key=lambda each: each[0].well)  # stable: otherwise as configured
        shown: list[Text] = []
        left_out = [row for row, _ in blocks]
        for _, block in blocks:
            if len(shown) + len(block) > room - 1:
                break
            shown += block
            left_out.pop(0)
        shown.append(Text(_cut(_left_out(left_out), width), style="dim"))
    else:
        shown = [line for _, block in blocks for line in block]
    return [heading, *shown, *tail]


def _camera_width(rows: Sequence[Row], width: int) -> int:
    fixed = _STATE_WIDTH + sum(cells for _, cells in _NUMBERS) + len(_GAP) * (len(_NUMBERS) + 2)
    least, most = _CAMERA_WIDTHS
    longest = max((len(row.camera) for row in rows), default=0)
    return max(least, min(longest, max(most, width // 4), width - fixed - _RESULT_WIDTH))


def _heading(camera_width: int) -> str:
    cells = ["camera".ljust(camera_width), "state".ljust(_STATE_WIDTH)]
    cells += [name.rjust(cells_wide) for name, cells_wide in _NUMBERS]
    return _GAP.join([*cells, "last result"])


def _block(row: Row, camera_width: int, width: int) -> list[Text]:
    numbers = (
        _UNKNOWN if row.rate_in is None else f"{row.rate_in:.1f}",
        _UNKNOWN if row.rate_out is None else f"{row.rate_out:.1f}",
        _UNKNOWN if row.dropped is None else f"{row.dropped}",
        _UNKNOWN if row.age_s is None else ago(row.age_s),
    )
    line = Text(_cut(row.camera, camera_width).ljust(camera_width))
    line.append(_GAP)
    line.append(row.state.ljust(_STATE_WIDTH), style=_COLOURS.get(CameraState(row.state), "red"))
    for text, (_, cells_wide) in zip(numbers, _NUMBERS, strict=True):
        line.append(_GAP + text.rjust(cells_wide))
    line.append(_GAP + row.seen)
    line.truncate(width, overflow="ellipsis")
    style = "yellow" if row.state in _COLOURS else "red"
    return [line, *_wrapped(row.trouble, width, style)]


def _peer(peer: Peer, width: int) -> Iterable[Text]:
    yield Text(_cut(f"{peer.name}: {peer.state}", width), style="yellow")
    yield from _wrapped(peer.trouble, width, "yellow")


def _wrapped(sentence: str | None, width: int, style: str) -> Iterable[Text]:
    indent = " " * 2
    for part in textwrap.wrap(sentence or "", width, initial_indent=indent, subsequent_indent=indent):
        yield Text(part, style=style)


def _left_out(rows: Sequence[Row]) -> str:
    unwell = sum(not row.well for row in rows)
    rest = "all streaming" if not unwell else f"{unwell} of them not streaming"
    return f"... and {len(rows)} more, {rest}; a taller window shows more"


def _cut(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 3]}..."
