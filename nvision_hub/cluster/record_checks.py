"""Checks of a record from another hub that go beyond the types of its fields. Performs no I/O.

Without a fleet key, any program with access to Redis can write a record. The checks keep numbers, names and times that
no hub writes out of the gateway's state, where a later calculation or response would fail.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any, Final

from pydantic_core import from_json

from nvision_hub.config.field_types import ID_PATTERN
from nvision_hub.control_characters import replace_control_characters
from nvision_hub.runtime.messages import CameraFacts

if TYPE_CHECKING:
    from nvision_hub.runtime.messages import ProcessInfo
    from nvision_hub.runtime.status import Status

MAX_DEPTH: Final = 12
MAX_STRING_CHARACTERS: Final = 20_000
MAX_NUMBER: Final = 2.0**53  # above this, a float cannot represent every integer
MAX_TIME_S: Final = 250_000_000_000.0  # seconds since the epoch: the year 9892, because ISO 8601 years have four digits

_PROCESS: Final = re.compile(rf"camera:{ID_PATTERN}|[a-z][a-z_-]{{0,31}}")
_WORD: Final = re.compile(r"[a-z0-9][a-z0-9_ -]{0,31}")
_METRIC: Final = re.compile(r"[a-z][a-z0-9_]{0,63}")
_CAMERA: Final = "camera:"
# Characters that `replace_control_characters` replaces, in their JSON escapes.
_SUSPICIOUS: Final = re.compile(rb"\\u00[01789]|\\[bfr]|\x7f|\xc2[\x80-\x9f]", re.IGNORECASE)


def parse_plain(data: bytes) -> Any:
    """Parse strict JSON as plain data. Raises `ValueError` for values that are too deep, too long or not finite."""
    plain = from_json(data, allow_inf_nan=False)
    if not _is_moderate(plain, MAX_DEPTH):
        raise ValueError("a value is too deep, too long, too large or not printable")
    return plain


def without_control_characters(data: bytes) -> bytes:
    """Return JSON with each control character in its strings replaced by a question mark, except line feeds and tabs.

    A camera's error may quote a peer. Control characters from this peer must not make the whole record invalid.
    """
    if not _SUSPICIOUS.search(data):
        return data
    return json.dumps(_printable(json.loads(data))).encode()


def check_info(info: ProcessInfo) -> None:
    """Raise `ValueError` if no hub could have written this description of a process."""
    is_camera = info.name.startswith(_CAMERA)
    _require(_PROCESS.fullmatch(info.name) and _WORD.fullmatch(info.phase))
    _require(info.pid is None or 0 < info.pid < 2**31)
    _require(all(_WORD.fullmatch(reason) and count >= 0 for reason, count in info.restarts.items()))
    facts = info.facts
    _require(facts is None or isinstance(facts, CameraFacts) == is_camera)
    if isinstance(facts, CameraFacts):
        labels, name = facts.settings.get("labels", {}), facts.settings.get("name")
        _require(isinstance(labels, dict) and all(isinstance(text, str) for text in labels.values()))
        _require(name is None or isinstance(name, str))
        _require(_is_number(facts.settings.get("fps")))
    _check_names([*info.past.counters, *info.past.gauges])


def check_status(status: Status) -> None:
    """Raise `ValueError` if no worker could have reported this status."""
    camera = status.camera
    _require(_WORD.fullmatch(status.state) and 0 <= status.pid < 2**31)
    times = (camera.since, camera.last_frame_at, camera.last_result_at)
    _require(all(at is None or 0 <= at <= MAX_TIME_S for at in times))
    _require(all(count >= 0 for buckets in status.metrics.histograms.values() for count in buckets.counts))
    _require(all(value >= 0 for value in status.metrics.counters.values()))
    _check_names([*status.metrics.counters, *status.metrics.gauges])


def _check_names(keys: list[tuple[str, tuple[tuple[str, str], ...]]]) -> None:
    for name, labels in keys:
        _require(_METRIC.fullmatch(name))
        _require(all(_METRIC.fullmatch(label) and isinstance(text, str) for label, text in labels))


def _require(condition: object) -> None:
    if not condition:
        raise ValueError("a value is outside the range that a hub writes")


def _is_number(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))


def _is_moderate(value: Any, depth: int) -> bool:
    if isinstance(value, str):
        return len(value) <= MAX_STRING_CHARACTERS and replace_control_characters(value) == value
    if isinstance(value, int | float):
        return abs(value) <= MAX_NUMBER  # false for NaN
    if isinstance(value, dict):
        return depth > 0 and all(_is_moderate(key, 0) and _is_moderate(it, depth - 1) for key, it in value.items())
    if isinstance(value, list):
        return depth > 0 and all(_is_moderate(item, depth - 1) for item in value)
    return value is None


def _printable(value: Any) -> Any:
    if isinstance(value, str):
        return replace_control_characters(value)
    if isinstance(value, dict):
        return {_printable(key): _printable(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_printable(item) for item in value]
    return value
