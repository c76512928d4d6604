"""Records that other hubs, or anyone who can write to Redis, leave for the gateway of a fleet."""

from __future__ import annotations

import contextlib
import json
import os
from typing import TYPE_CHECKING, Any, Final

from hypothesis import strategies as st

from nvision_hub.cluster.fleet_registry import MAX_RECORD_BYTES, RegistryRecord
from nvision_hub.cluster.sealed_messages import FleetSeal, MessageKind, RejectedEntryError
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import MessageError, ProcessChanged, ProcessInfo, StatusReported, decode, encode
from tests.fuzz.harness import json_values
from tests.support.gateway import facts, status
from workers.gateway.api import schemas
from workers.gateway.state.fleet import FleetState
from workers.gateway.state.fleet_metrics import FleetMetrics

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz


def known_record() -> bytes:
    meter = Meter()
    meter.count(catalogue.FRAMES_DROPPED_TOTAL, reason="overload")
    meter.observe(catalogue.FRAME_AGE_SECONDS, 0.1)
    pid = os.getpid()
    info = ProcessInfo(name="camera:lobby", phase="running", pid=pid, started_at=1.0, facts=facts("lobby"))
    return RegistryRecord(account=info, status=status(pid, meter, state="streaming"), holder="h").encode()


GROUP: Final = "any-1"
NOW: Final = 1.8e9
SEAL: Final = FleetSeal(key=None, site="test", prefix="nvision")
SAMPLES: Final = (
    known_record(),
    SEAL.seal(MessageKind.RECORD, known_record(), addressee=GROUP, now=NOW),
    encode(ProcessChanged(info=ProcessInfo(name="hub", phase="running"))),
)
TOKENS: Final = (
    b"[" * 2000,
    b'{"a":' * 500,
    b"null",
    b"true",
    b"Infinity",
    b"\\ud800",
    b"\\u001b",
    b"{}",
    b"1E400",
    b",",
)
VALUES: Final = json_values([], {}, [["frames_dropped_total", {"reason": 1}, []]])


def places(value: Any, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
    """Return the path of every value inside a JSON value."""
    if isinstance(value, dict):
        inner = list(value.items())
    else:
        inner = list(enumerate(value)) if isinstance(value, list) else []
    return [(*path, key) for key, _ in inner] + [one for key, each in inner for one in places(each, (*path, key))]


PLACES: Final = places(json.loads(SAMPLES[0]))


def with_values(changes: list[tuple[tuple[str | int, ...], Any]]) -> bytes:
    """Return a record with other values at some places. A change inside a replaced value has no effect."""
    record = json.loads(SAMPLES[0])
    for path, value in changes:
        target = record
        with contextlib.suppress(TypeError, LookupError):
            for key in path[:-1]:
                target = target[key]
            target[path[-1]] = value
    return json.dumps(record).encode()


BUILT: Final = st.lists(st.tuples(st.sampled_from(PLACES), VALUES), min_size=1, max_size=2).map(with_values)


def check(data: bytes) -> None:
    payload = data
    with contextlib.suppress(RejectedEntryError):
        kind, limit = MessageKind.RECORD, MAX_RECORD_BYTES
        payload = SEAL.open(kind, data, addressee=GROUP, now=NOW, max_bytes=limit).payload
    with contextlib.suppress(MessageError):
        decode(payload)
    with contextlib.suppress(RejectedEntryError):
        show(RegistryRecord.decode(payload, "camera:lobby"))


def show(record: RegistryRecord) -> None:
    """Show the record as the gateway does: in the metrics and in the API."""
    fleet = FleetState()
    for wall in (1.0, 2.0):
        fleet.on_message(ProcessChanged(info=record.account), wall=wall)
        if record.status is not None:
            fleet.on_message(StatusReported(name=record.account.name, status=record.status), wall=wall)
        fleet.record(wall)
    FleetMetrics(fleet, site="test").text()
    shown = [schemas.hub_summary(fleet, site="test", broker_up=True), schemas.camera_summaries(fleet)]
    for process in fleet.cameras():
        shown += [schemas.camera_detail(fleet, process), schemas.camera_history(process)]
    json.dumps(shown, default=str, ensure_ascii=False).encode()
    known = encode(ProcessChanged(info=record.account))
    assert isinstance(decode(known), ProcessChanged)


def test_fleet_records(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
