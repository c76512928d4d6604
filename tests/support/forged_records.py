"""Records that no hub writes, but that another program with access to Redis may write to a registry."""

from __future__ import annotations

import json
from typing import Any, Final

from nvision_hub.cluster.fleet_registry import RegistryRecord
from nvision_hub.metrics.snapshot import Buckets, MetricSnapshot
from nvision_hub.runtime.messages import CameraFacts, ProcessInfo
from nvision_hub.runtime.status import CameraInfo, CameraState, Status

NAME: Final = "camera:lobby"
_REMOVED: Final = object()


def valid_record(name: str = NAME) -> RegistryRecord:
    """Return a record as a hub writes it."""
    metrics = MetricSnapshot(
        counters={("frames_sent_total", ()): 7.0, ("frames_dropped_total", (("reason", "late"),)): 1.0},
        gauges={("spool_events", ()): 0.0},
        histograms={"frame_age_seconds": Buckets((0.1, 1.0), (1, 2, 0), 1.5)},
    )
    facts = CameraFacts(index=0, settings={"name": "Lobby", "fps": 5.0, "labels": {"floor": "1"}})
    return RegistryRecord(
        account=ProcessInfo(name=name, phase="running", pid=77, started_at=1.0, restarts={"exit_1": 1}, facts=facts),
        status=Status(state=CameraState.STREAMING, pid=77, at=1.0, metrics=metrics, info=CameraInfo(since=5.0)),
        holder="any-1 on host, pid 1, abcd",
    )


def _changed(path: str, value: object) -> bytes:
    """Return the valid record with one value replaced or removed. Dots separate keys and indexes in `path`."""
    record = json.loads(valid_record().encode())
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    section: Any = record
    for part in parents:
        section = section[part]
    if value is _REMOVED:
        del section[last]
    else:
        section[last] = value
    return json.dumps(record).encode()


HUGE: Final = 10**400
FORGED: Final[dict[str, bytes]] = {
    "empty": b"",
    "list": b"[1,2]",
    "null": b"null",
    "number": b"1e999",
    "not UTF-8": b"\xff\xfe{}",
    "not JSON": valid_record().encode()[:-1],
    "deep nesting": b"[" * 100_000,
    "deep object": _changed("account.facts.settings.a", json.loads("[" * 60 + "]" * 60)),
    "oversized": _changed("status.error", "x" * 3_000_000),
    "long string": _changed("status.error", "x" * 100_000),
    "missing account": _changed("account", _REMOVED),
    "missing holder": _changed("holder", _REMOVED),
    "another version": _changed("flavor", "new"),
    "time is NaN": _changed("at", float("nan")),
    "time is infinite": _changed("at", float("inf")),
    "time above all floats": _changed("at", "TOKEN").replace(b'"TOKEN"', b"1e999"),
    "clock offset is NaN": _changed("behind_s", float("nan")),
    "clock offset is huge": _changed("behind_s", 1e308),
    "start is infinite": _changed("account.started_at", float("-inf")),
    "name of another process": _changed("account.name", "camera:other"),
    "name is a list": _changed("account.name", ["camera:lobby"]),
    "name controls a terminal": _changed("account.name", "camera:\x1b[2Jlobby"),
    "name of the gateway": _changed("account.name", "gateway"),
    "phase is an object": _changed("account.phase", {}),
    "phase controls a terminal": _changed("account.phase", "\x1b]0;x\x07"),
    "pid is huge": _changed("account.pid", HUGE),
    "pid is negative": _changed("account.pid", -1),
    "pid is text": _changed("status.pid", "77"),
    "restarts are huge": _changed("account.restarts", {"exit_1": HUGE}),
    "restarts are a list": _changed("account.restarts", [1]),
    "facts of another process": _changed("account.facts", {"site": "x", "version": "1"}),
    "index is text": _changed("account.facts.index", "first"),
    "labels are a list": _changed("account.facts.settings.labels", [1, 2]),
    "label is an object": _changed("account.facts.settings.labels", {"a": {}}),
    "fps is text": _changed("account.facts.settings.fps", "fast"),
    "state is a number": _changed("status.state", 3),
    "state controls a terminal": _changed("status.state", "\x1b[31mred"),
    "error controls a terminal": _changed("status.error", "\x1b[2J"),
    "lone surrogate": _changed("status.error", "\ud800"),
    "since is out of range": _changed("status.info.since", 1e300),
    "last frame is before all time": _changed("status.info.last_frame_at", -1e300),
    "counter is huge": _changed("status.metrics.counters", [["frames_sent_total", {}, HUGE]]),
    "counter is negative": _changed("status.metrics.counters", [["frames_sent_total", {}, -5]]),
    "counter is text": _changed("status.metrics.counters", [["frames_sent_total", {}, "7"]]),
    "counter is null": _changed("status.metrics.counters", [["frames_sent_total", {}, None]]),
    "gauge is NaN": _changed("status.metrics.gauges", [["spool_events", {}, float("nan")]]),
    "label of a series is a list": _changed("status.metrics.counters", [["frames_sent_total", {"a": [1]}, 1]]),
    "name of a series is a list": _changed("status.metrics.counters", [[["x"], {}, 1]]),
    "series is too short": _changed("status.metrics.counters", [["frames_sent_total"]]),
    "histogram without counts": _changed("status.metrics.histograms.frame_age_seconds.counts", []),
    "histogram with huge counts": _changed("status.metrics.histograms.frame_age_seconds.counts", [HUGE, 1, 1]),
    "histogram with negative counts": _changed("status.metrics.histograms.frame_age_seconds.counts", [-1, 0, 0]),
    "deadlines are a list": _changed("status.deadlines", []),
    "past is null": _changed("account.past", None),
}
