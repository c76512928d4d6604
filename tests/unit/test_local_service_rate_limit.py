"""The local service's keys and rate limits."""

from __future__ import annotations

from workers.local_service.rate_limit import MAX_KEYS, KeyRateLimiter


def test_only_configured_keys_are_accepted() -> None:
    limiter = KeyRateLimiter(("one", "two"), None)
    assert limiter.is_accepted("one")
    assert limiter.is_accepted("two")
    assert not limiter.is_accepted("three")
    assert not limiter.is_accepted("")
    assert not limiter.is_accepted("öne")


def test_without_keys_any_non_empty_key_is_accepted() -> None:
    assert KeyRateLimiter((), None).is_accepted("any")
    assert not KeyRateLimiter((), None).is_accepted("")


def test_a_rate_allows_a_burst_of_one_second_then_single_requests() -> None:
    limiter = KeyRateLimiter((), 4.0)
    assert [limiter.acquire("k", 100.0) == 0 for _ in range(6)] == [True] * 4 + [False] * 2
    assert 0.24 < limiter.acquire("k", 100.0) <= 0.25
    assert limiter.acquire("k", 100.26) == 0
    assert limiter.acquire("k", 100.27) > 0
    assert limiter.acquire("other", 100.27) == 0


def test_a_check_counts_no_request() -> None:
    limiter = KeyRateLimiter((), 1.0)
    assert [limiter.acquire("k", 0.0, count=0) for _ in range(3)] == [0, 0, 0]
    assert limiter.acquire("k", 0.0) == 0
    assert limiter.acquire("k", 0.0, count=0) > 0


def test_a_rate_below_one_still_allows_one_request() -> None:
    limiter = KeyRateLimiter((), 0.1)
    assert limiter.acquire("k", 0.0) == 0
    assert 8.9 < limiter.acquire("k", 1.0) <= 9.0


def test_the_number_of_keys_is_bounded() -> None:
    limiter = KeyRateLimiter((), 1.0)
    for number in range(3 * MAX_KEYS):
        limiter.acquire(f"key-{number}", 0.0)
    assert len(limiter._buckets) == MAX_KEYS
