"""Which connection a server closes when a client opens too many."""

from __future__ import annotations

import pytest

from nvision_hub.runtime.connection_limits import (
    ConnectionLimits,
    ConnectionPhase,
    ConnectionTable,
    NoRoomError,
    OpenConnection,
    client_of,
)

BUSY, READING = ConnectionPhase.BUSY, ConnectionPhase.READING


def connection(
    client: str, since: float, phase: ConnectionPhase = ConnectionPhase.IDLE, *, is_stalled: bool = False
) -> OpenConnection:
    return OpenConnection(client=client, abort=lambda: None, is_stalled=lambda: is_stalled, since=since, phase=phase)


def table(*connections: OpenConnection, total: int = 4, per_address: int = 3) -> ConnectionTable:
    """Return a table with these connections."""
    made = ConnectionTable(limits=ConnectionLimits(max_connections=total, max_per_address=per_address))
    for each in connections:
        assert made.add(each) is None
    return made


def test_a_client_at_its_limit_replaces_its_longest_idle_connection() -> None:
    other, reading, newer, older = (
        connection("b", 0),
        connection("a", 0, READING),
        connection("a", 2),
        connection("a", 1),
    )
    one = table(other, reading, newer, older)
    assert one.add(connection("a", 3)) is older
    assert one.add(connection("a", 4)) is newer
    assert len(one) == 4


def test_a_body_in_progress_is_replaced_before_a_response() -> None:
    busy, reading = connection("a", 0, BUSY), connection("a", 1, READING)
    one = table(busy, reading, per_address=2)
    assert one.add(connection("a", 2)) is reading
    one.add(connection("a", 3, BUSY))
    with pytest.raises(NoRoomError):
        one.add(connection("a", 4))
    assert len(one) == 2
    assert one.add(connection("b", 5)) is None, "other clients still have room"


def test_a_response_that_the_client_does_not_read_is_replaced_last() -> None:
    stalled, reading, busy = (
        connection("a", 0, BUSY, is_stalled=True),
        connection("b", 1, READING),
        connection("c", 0, BUSY),
    )
    one = table(stalled, reading, busy, total=3)
    assert one.add(connection("d", 2, BUSY)) is reading
    assert one.add(connection("d", 3, BUSY)) is stalled
    with pytest.raises(NoRoomError):
        one.add(connection("e", 4))


def test_a_full_server_replaces_a_connection_of_the_client_with_the_most() -> None:
    oldest, first, second = connection("b", 0), connection("a", 1), connection("a", 2)
    one = table(oldest, first, second, total=3)
    assert one.add(connection("c", 3)) is first
    assert one.add(connection("d", 4)) is oldest, "with equal numbers, the one that has waited longest"


def test_a_removed_connection_leaves_room() -> None:
    first = connection("a", 0, BUSY)
    one = table(first, total=1)
    with pytest.raises(NoRoomError):
        one.add(connection("b", 1))
    one.remove(first)
    one.remove(first)
    assert one.add(connection("b", 1)) is None
    assert len(one) == 1


def test_the_time_in_a_phase_starts_with_the_phase() -> None:
    one = connection("a", 1)
    one.enter(ConnectionPhase.IDLE, 2)
    assert one.since == 1
    one.enter(BUSY, 3)
    assert (one.phase, one.since) == (BUSY, 3)


@pytest.mark.parametrize(
    ("host", "client"),
    [
        ("10.0.0.5", "10.0.0.5"),
        ("::ffff:10.0.0.5", "10.0.0.5"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::/64"),
        ("2001:db8:1:2::1", "2001:db8:1:2::/64"),
        ("fe80::1%eth0", "fe80::/64"),
        ("::1", "::1"),
        ("", ""),
    ],
)
def test_the_addresses_of_one_client_count_together(host: str, client: str) -> None:
    assert client_of(host) == client
