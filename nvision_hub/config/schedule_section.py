"""Model of an entry of `cameras[].schedule`."""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import BeforeValidator, Field, model_validator

from nvision_hub.budget.schedule import DAY_MIN, DAY_NAMES, Window
from nvision_hub.config.field_types import NoneIfEmpty, PerSecond, Section
from nvision_hub.errors import InvalidValueError

_DAY: Final = f"({'|'.join(DAY_NAMES)})"
DAYS_PATTERN: Final = f"^{_DAY}(-{_DAY})?$"
TIME_PATTERN: Final = "^([01][0-9]|2[0-3]):[0-5][0-9]$"
END_PATTERN: Final = "^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$"


_Days = Annotated[str, Field(pattern=DAYS_PATTERN, examples=["mon-fri"])]
_DayList = Annotated[tuple[_Days, ...], Field(min_length=1)]
_DaysAsList = BeforeValidator(
    lambda value: (value,) if isinstance(value, str) else value, json_schema_input_type=_Days | _DayList
)


class ScheduleEntry(Section):
    """Times of the week at which a camera sends at another rate, or not at all."""

    days: Annotated[_DayList, _DaysAsList] = ("mon-sun",)
    """Days on which the entry begins: `mon`, `mon-fri`, or a list such as [sat, sun]; every day if omitted."""
    begin: Annotated[str, Field(alias="from", pattern=TIME_PATTERN, examples=["22:00"])] = "00:00"
    """Local time at which the entry begins, such as "22:00"; midnight if omitted."""
    end: Annotated[str, Field(alias="to", pattern=END_PATTERN, examples=["06:00"])] = "24:00"
    """Local time at which the entry ends, on the next day if it is before `from`; midnight if omitted."""
    fps: Annotated[PerSecond | None, NoneIfEmpty] = None
    """Frames per second sent, above 0 and up to 60."""
    paused: bool = False
    """Disconnect from the camera and send no frames."""

    @property
    def window(self) -> Window:
        """The entry in the form that `nvision_hub.budget` uses."""
        end_min = _minutes(self.end) or DAY_MIN
        days = frozenset(day for text in self.days for day in _expanded(text))
        return Window(days=days, begin_min=_minutes(self.begin), end_min=end_min, fps=self.fps, paused=self.paused)

    @model_validator(mode="after")
    def _check(self) -> ScheduleEntry:
        if (self.fps is None) != self.paused:
            raise InvalidValueError("must have either a rate or a pause", "write `fps: 0.5` or `paused: true`")
        if _minutes(self.begin) == _minutes(self.end):
            raise InvalidValueError("ends when it begins", "correct `from` or `to`, or remove both for the whole day")
        return self


def _minutes(text: str) -> int:
    hours, _, minutes = text.partition(":")
    return int(hours) * 60 + int(minutes)


def _expanded(text: str) -> list[int]:
    """Return the days in `text`, such as `mon` or `fri-mon`. Day 0 is Monday."""
    first, _, last = text.partition("-")
    begin, end = DAY_NAMES.index(first), DAY_NAMES.index(last or first)
    return [day % 7 for day in range(begin, end + 1 + 7 * (end < begin))]
