"""Keys and rates of the local service."""

from __future__ import annotations

from workers.service.admission import MOST_KEYS, Admission


def test_only_the_keys_given_are_known() -> None:
    admission = Admission(("one", "two"), None)
    assert admission.knows("one")
    assert admission.knows("two")
    assert not admission.knows("three")
    assert not admission.knows("")
    assert not admission.knows("öne")


def test_without_keys_any_but_an_empty_one_is_known() -> None:
    assert Admission((), None).knows("any")
    assert not Admission((), None).knows("")


def test_a_rate_lets_a_seconds_worth_through_at_once_and_then_one_at_a_time() -> None:
    admission = Admission((), 4.0)
    assert [admission.take("k", 100.0) is None for _ in range(6)] == [True] * 4 + [False] * 2
    over = admission.take("k", 100.0)
    assert over is not None
    assert 0.24 < over.retry_after_s <= 0.25
    assert admission.take("k", 100.26) is None
    assert admission.take("k", 100.27) is not None
    assert admission.take("other", 100.27) is None


def test_a_rate_below_one_still_lets_one_through() -> None:
    admission = Admission((), 0.1)
    assert admission.take("k", 0.0) is None
    over = admission.take("k", 1.0)
    assert over is not None
    assert 8.9 < over.retry_after_s <= 9.0


def test_made_up_keys_do_not_fill_the_memory() -> None:
    admission = Admission((), 1.0)
    for number in range(3 * MOST_KEYS):
        admission.take(f"key-{number}", 0.0)
    assert len(admission._buckets) == MOST_KEYS
