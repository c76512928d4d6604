"""Identification of the gateway's clients, the roles of routes, and the back-off after wrong tokens."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from starlette.datastructures import Headers

from nvision_hub.access.token_store import TokenStore
from nvision_hub.access.tokens import AccessToken, token_digest
from nvision_hub.config.gateway_section import GatewayProxy
from nvision_hub.config.server_addresses import NetworkAddress
from workers.gateway.auth.failure_limiter import (
    BURST,
    MAX_ADDRESSES,
    MAX_RETRY_AFTER_S,
    REFILL_S,
    REPORT_INTERVAL_S,
    FailureLimiter,
)
from workers.gateway.auth.identity import TokenTable, TrustedProxy
from workers.gateway.auth.route_roles import route_access

if TYPE_CHECKING:
    from pathlib import Path

PROXY = TrustedProxy(
    settings=GatewayProxy(
        addresses=(NetworkAddress.parse("127.0.0.1"), NetworkAddress.parse("10.0.0.0/24")),
        roles={"guards": "control", "admins": "admin"},
    )
)
ALICE = ("x-forwarded-user", "alice")


def headers(*given: tuple[str, str]) -> Headers:
    return Headers(raw=[(name.lower().encode(), value.encode()) for name, value in given])


@pytest.mark.parametrize(
    ("method", "path", "role", "action"),
    [
        ("GET", "/metrics", "metrics", None),
        ("HEAD", "/metrics", "metrics", None),
        ("GET", "/metrics/", "view", None),
        ("GET", "/api/v1/cameras/lobby", "view", None),
        ("GET", "/api/v1/cameras/lobby/tuning", "control", None),
        ("GET", "/api/v1/cameras/lobby/tuning\n", "control", None),  # the router ignores a final line feed, too
        ("PATCH", "/api/v1/cameras/lobby", "control", "camera_set"),
        ("POST", "/api/v1/cameras/lobby/pause", "control", "camera_pause"),
        ("POST", "/api/v1/cameras/{camera_id}/pause", "control", "camera_pause"),
        ("POST", "/api/v1/cameras/a/b/pause", "admin", "POST /api/v1/cameras/a/b/pause"),
        ("POST", "/api/v1/cameras", "admin", "camera_add"),
        ("DELETE", "/api/v1/cameras/lobby", "admin", "camera_remove"),
        ("POST", "/api/v1/webhooks/replay", "admin", "webhook_replay"),
        ("POST", "/new", "admin", "POST /new"),
        ("OPTIONS", "/new", "view", None),
        ("POST", "/metrics", "admin", "POST /metrics"),
    ],
)
def test_each_route_has_its_role(method: str, path: str, role: str, action: str | None) -> None:
    access = route_access(method, path)
    assert (access.role, access.action) == (role, action)


def test_the_proxys_user_has_the_highest_known_role() -> None:
    user = PROXY.user("10.0.0.7", headers(ALICE, ("x-forwarded-role", "staff, guards,admins")))
    assert user is not None
    assert (user.name, user.role, user.kind) == ("alice", "admin", "proxy")
    without = PROXY.user("127.0.0.1", headers(ALICE))
    assert without is not None
    assert without.role is None
    assert not without.may("metrics")


@pytest.mark.parametrize(
    ("peer", "given"),
    [
        ("10.0.1.7", [ALICE]),
        (None, [ALICE]),
        ("not an address", [ALICE]),
        ("127.0.0.1", []),
        ("127.0.0.1", [("x-forwarded-user", " ")]),
        ("127.0.0.1", [ALICE, ("X-Forwarded-User", "eve")]),
        ("127.0.0.1", [ALICE, ("x-forwarded-role", "guards"), ("x-forwarded-role", "admins")]),
        ("127.0.0.1", [("x_forwarded_user", "alice")]),
    ],
)
def test_other_headers_identify_no_user(peer: str | None, given: list[tuple[str, str]]) -> None:
    assert PROXY.user(peer, headers(*given)) is None


def test_a_proxy_without_users_is_trusted_for_addresses_only() -> None:
    settings = GatewayProxy(addresses=(NetworkAddress.parse("127.0.0.1"),), user_header=None)
    proxy, given = TrustedProxy(settings=settings), headers(ALICE, ("x-forwarded-role", "admin"))
    assert proxy.user("127.0.0.1", given) is None
    assert proxy.client_address("127.0.0.1", headers(("x-forwarded-for", "10.9.9.9"))) == "10.9.9.9"


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("192.0.2.1", "10.9.9.9", "192.0.2.1"),  # not from the proxy
        ("127.0.0.1", "10.9.9.9", "10.9.9.9"),
        ("::ffff:127.0.0.1", "10.9.9.9", "10.9.9.9"),
        ("127.0.0.1", "1.2.3.4, 10.9.9.9, 10.0.0.5", "10.9.9.9"),  # the client wrote the first address
        ("127.0.0.1", "1.2.3.4, nonsense", "127.0.0.1"),
        ("127.0.0.1", "", "127.0.0.1"),
    ],
)
def test_the_address_of_a_client_behind_the_proxy(peer: str, forwarded: str, address: str) -> None:
    assert PROXY.client_address(peer, headers(("x-forwarded-for", forwarded))) == address


def test_a_running_gateway_accepts_and_revokes_stored_tokens(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    table = TokenTable([AccessToken(name="file", role="view", digest=token_digest("configured"))], store)
    token = store.create("ops", "control")
    found = table.find(token)
    assert found is not None
    assert (found.name, found.role) == ("ops", "control")
    assert token not in repr(found)
    assert table.is_valid(found)
    assert table.find("configured") is not None
    store.revoke("ops")
    assert table.find(token) is None
    assert not table.is_valid(found)
    store.path.write_text("damaged")
    assert table.find(token) is None
    assert table.find("configured") is not None, "a damaged store does not lock out the tokens of cameras.yaml"


def test_an_expired_token_alone_does_not_close_an_open_gateway(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    store.create("cli:alice", "admin", expires_at=1.0)
    assert not TokenTable(store=store).has_permanent()


def test_a_damaged_store_never_opens_the_gateway(tmp_path: Path) -> None:
    store = TokenStore(tmp_path)
    store.create("ops", "control")
    table = TokenTable(store=store)
    assert table.has_permanent()
    store.path.write_text("damaged")
    assert table.has_permanent()
    assert TokenTable(store=store).has_permanent()
    store.path.unlink()
    assert not table.has_permanent()


def test_an_address_is_throttled_after_a_burst_and_recovers() -> None:
    limiter = FailureLimiter()
    assert [limiter.record("10.0.0.7", 0.0).retry_after_s for _ in range(BURST)] == [None] * BURST
    waits = [limiter.record("10.0.0.7", 0.0).retry_after_s for _ in range(1000)]
    assert None not in waits
    assert waits == sorted(waits, key=lambda wait: wait or 0)
    assert (waits[0], waits[-1]) == (2, MAX_RETRY_AFTER_S)
    assert limiter.record("10.0.0.8", 0.0).retry_after_s is None, "another address is not throttled"
    assert limiter.record("10.0.0.7", REFILL_S).retry_after_s is None


def test_reports_are_few_and_count_every_failure() -> None:
    limiter = FailureLimiter()
    now, reported, counted = 0.0, 0, 0
    for _ in range(2000):
        failure = limiter.record("10.0.0.7", now)
        if failure.is_reported:
            reported += 1
            counted += 1 + failure.suppressed
        now += 0.1
    assert 2 <= reported <= 2 + 2 * 200 / REPORT_INTERVAL_S
    rest = list(limiter.pop_suppressed(now + REPORT_INTERVAL_S))
    assert counted + sum(count for _, count in rest) == 2000
    assert list(limiter.pop_suppressed(now + 2 * REPORT_INTERVAL_S)) == []


def test_many_addresses_are_throttled_together_and_bounded_in_memory() -> None:
    limiter = FailureLimiter()
    addresses = [f"10.{number // 65536}.{number // 256 % 256}.{number % 256}" for number in range(2 * MAX_ADDRESSES)]
    failures = [limiter.record(address, 0.0) for address in addresses]
    assert sum(failure.retry_after_s is None for failure in failures) == 100
    assert sum(failure.is_reported for failure in failures) <= 60
    assert len(list(limiter.pop_suppressed(1e9))) <= MAX_ADDRESSES


def test_an_ipv6_network_counts_as_one_client() -> None:
    limiter = FailureLimiter()
    waits = [limiter.record(f"2001:db8::{number:x}", 0.0).retry_after_s for number in range(BURST + 1)]
    assert waits[-1] is not None
    assert limiter.record("2001:db8:0:1::1", 0.0).retry_after_s is None
