"""Entries of the registry: what a hub writes passes, and everything else is rejected without another error."""

from __future__ import annotations

import json
import logging
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.cluster.camera_lease import LeaseReply
from nvision_hub.cluster.fleet_registry import RegistryRecord, parse_address, parse_group
from nvision_hub.cluster.rejected_entries import LOG_INTERVAL_S, RejectedEntries
from nvision_hub.cluster.sealed_messages import RejectedEntryError, RejectionReason
from nvision_hub.metrics import catalogue
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.messages import ProcessChanged, StatusReported
from tests.support.forged_records import FORGED, NAME, valid_record
from workers.gateway.api.schemas import camera_detail, camera_history, hub_summary
from workers.gateway.state.fleet import FleetState
from workers.gateway.state.fleet_metrics import FleetMetrics

if TYPE_CHECKING:
    from collections.abc import Callable

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
REPLACED = [
    *("account", "account.name", "account.phase", "account.pid", "account.started_at", "account.due_in_s"),
    *("account.restarts", "account.facts", "account.facts.index", "account.facts.settings", "account.past"),
    *("account.facts.settings.labels", "account.facts.settings.name", "account.facts.overrides", "holder", "inbox"),
    *("status", "status.state", "status.pid", "status.at", "status.ready", "status.error", "status.deadlines"),
    *("status.metrics", "status.metrics.counters", "status.metrics.gauges", "status.metrics.histograms"),
    *("status.metrics.histograms.frame_age_seconds", "status.info", "status.info.since", "status.info.rate_in"),
    *("status.info.last_frame_at", "status.info.seen", "at", "behind_s"),
]


def show(record: RegistryRecord) -> None:
    """Do everything that the gateway does with a record."""
    fleet = FleetState()
    fleet.on_message(ProcessChanged(info=record.account), wall=5.0)
    if record.status is not None:
        fleet.on_message(StatusReported(name=record.account.name, status=record.status), wall=5.0)
    for now in (10.0, 12.0):
        fleet.record(now)
    FleetMetrics(fleet, site="here").text()
    parts: list[Any] = [hub_summary(fleet, site="here", broker_up=True)]
    for camera in fleet.cameras():
        parts += (camera_detail(fleet, camera), camera_history(camera))
    json.dumps(parts, allow_nan=False).encode()


def test_a_record_passes_unchanged_except_for_the_clock() -> None:
    record = valid_record()
    found = RegistryRecord.decode(record.encode(), NAME)
    assert replace(found.account, started_at=None) == replace(record.account, started_at=None)
    assert found.account.started_at == pytest.approx(1.0, abs=1.0)
    assert found.status is not None
    assert record.status is not None
    assert found.status.metrics == record.status.metrics
    show(found)


@pytest.mark.parametrize("name", FORGED)
def test_a_forged_record_is_rejected(name: str) -> None:
    with pytest.raises(RejectedEntryError) as caught:
        RegistryRecord.decode(FORGED[name], NAME)
    assert caught.value.reason is RejectionReason.MALFORMED


@given(path=st.sampled_from(REPLACED), value=JSON)
def test_a_record_with_a_foreign_value_is_rejected_or_harmless(path: str, value: Any) -> None:
    plain = json.loads(valid_record().encode())
    *parents, last = path.split(".")
    section = plain
    for part in parents:
        section = section[part]
    section[last] = value
    try:
        record = RegistryRecord.decode(json.dumps(plain).encode("utf-8", "surrogatepass"), NAME)
    except RejectedEntryError:
        return
    show(record)


@given(st.one_of(st.binary(max_size=200), JSON.map(lambda value: json.dumps(value).encode())))
def test_no_foreign_data_is_a_record(data: bytes) -> None:
    with pytest.raises(RejectedEntryError):
        RegistryRecord.decode(data, NAME)


@given(st.text(max_size=40))
def test_an_error_that_quotes_a_peer_does_not_make_the_record_invalid(error: str) -> None:
    record = valid_record()
    assert record.status is not None
    printable = error.encode("utf-8", "replace").decode()
    record = replace(record, status=replace(record.status, error=printable + "\x1b[2J\x9b\x7f\b\nend"))
    found = RegistryRecord.decode(record.encode(), NAME)
    assert found.status is not None
    assert found.status.error is not None
    assert found.status.error.endswith("?[2J???\nend")


@pytest.mark.parametrize("parse", [parse_group, parse_address])
@given(data=st.binary(max_size=60))
def test_names_and_addresses_are_plain_or_rejected(parse: Callable[[bytes], str], data: bytes) -> None:
    try:
        text = parse(data)
    except RejectedEntryError:
        return
    assert text.isascii()
    assert text.isprintable()


@pytest.mark.parametrize(
    ("address", "is_valid"),
    [
        (b"http://127.0.0.1:8080", True),
        (b"https://hub-1.example.com:443", True),
        (b"http://[::1]:8080", True),
        (b"http://user:secret@127.0.0.1:8080", False),
        (b"http://127.0.0.1:8080/path", False),
        (b"http://127.0.0.1:8080\n", False),
        (b"ftp://127.0.0.1:8080", False),
        (b"", False),
    ],
)
def test_a_gateway_has_a_base_address(address: bytes, *, is_valid: bool) -> None:
    if is_valid:
        assert parse_address(address) == address.decode()
    else:
        with pytest.raises(RejectedEntryError):
            parse_address(address)


VALUES = st.none() | st.integers() | st.floats() | st.binary(max_size=20) | st.lists(st.integers(), max_size=3)


@given(VALUES | st.lists(VALUES, max_size=6))
def test_a_reply_about_a_lease_is_valid_or_rejected(reply: object) -> None:
    try:
        found = LeaseReply.parse(reply)
    except RejectedEntryError:
        return
    assert found.epoch >= 0
    assert found.holder.isprintable()


def test_rejections_are_counted_and_logged_once_per_minute(caplog: pytest.LogCaptureFixture) -> None:
    meter, now = Meter(), 100.0
    rejected = RejectedEntries(meter, clock=lambda: now)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            rejected.add("record", "nvision:fleet:\x1b[2J" + "x" * 500, RejectedEntryError(RejectionReason.UNSIGNED))
        rejected.add("record", "nvision:fleet:any-1", RejectedEntryError(RejectionReason.TOO_LARGE), count=5)
        assert len(caplog.records) == 2
        now += LOG_INTERVAL_S
        rejected.add("record", "nvision:fleet:any-1", RejectedEntryError(RejectionReason.UNSIGNED))
    assert len(caplog.records) == 3
    assert all(record.getMessage().isprintable() for record in caplog.records)
    assert "set the same redis.fleet_key" in caplog.text
    assert meter.value(catalogue.FLEET_ENTRIES_REJECTED_TOTAL, kind="record", reason="unsigned") == 4
    assert meter.value(catalogue.FLEET_ENTRIES_REJECTED_TOTAL, kind="record", reason="too_large") == 5
