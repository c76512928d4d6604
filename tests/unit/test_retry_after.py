"""The parser for Retry-After returns correct values and raises no exception for any header value."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.retry_after import parse_retry_after

NOW = 1_800_000_000.0  # Fri, 15 Jan 2027 08:00:00 GMT
MAX_S = 3600.0

DAYS = st.sampled_from(["Wed, ", "Wednesday, ", "Wed ", ", ", ""])
MONTHS = st.sampled_from(["Jan", "Oct", "Dec", "Foo", "13", "ⅫⅫ"])
ZONES = st.sampled_from(["", " GMT", " UTC", " EST", " -0000", " +9999", " -2359", " +" + "9" * 30, " Z", " ²"])
NUMBERS = st.one_of(
    st.integers(-1, 70).map(str),
    st.integers(-(10**40), 10**40).map(str),
    st.sampled_from(["9999", "10000", "99999999999", "٣", "²", "1e9", "9" * 5000]),
)
DATES = st.builds("{}{} {} {} {}:{}:{}{}".format, DAYS, NUMBERS, MONTHS, NUMBERS, NUMBERS, NUMBERS, NUMBERS, ZONES)
GARBAGE = st.binary(max_size=80).map(lambda data: data.decode("latin-1"))


@pytest.mark.parametrize(
    ("value", "wait_s"),
    [
        (None, None),
        ("", None),
        ("0", 0.0),
        ("120", 120.0),
        ("000000120", 120.0),
        (" 7 ", 7.0),
        ("86400", MAX_S),
        ("9" * 400, MAX_S),
        ("9" * 10_000, MAX_S),
        ("-5", None),
        ("1.5", None),
        ("soon", None),
        ("²", None),
        ("٣", None),
        (formatdate(NOW + 90, usegmt=True), 90.0),
        (formatdate(NOW - 90, usegmt=True), 0.0),
        (formatdate(NOW + 1e6, usegmt=True), MAX_S),
        ("Fri, 15 Jan 2027 08:01:30", 90.0),
        ("Fri, 15 Jan 2027 08:01:30 -0000", 90.0),
        ("Friday, 15-Jan-27 08:01:30 GMT", 90.0),
        ("Fri Jan 15 08:01:30 2027", 90.0),
        ("Fri, 15 Jan 2027 10:01:30 +0200", 90.0),
        ("Fri, 15 Jan 2027 03:01:30 EST", 90.0),
        ("Sun, 99 Foo 2026 99:99:99 GMT", None),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2026 07:28:99999999999 GMT", None),
        ("Wed, 21 Oct 2026 07:28:00 +999999999999", None),
    ],
)
def test_known_values_are_parsed(value: str | None, wait_s: float | None) -> None:
    assert parse_retry_after(value, now=NOW, max_s=MAX_S) == wait_s


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati"])
def test_a_date_without_a_zone_is_utc_on_any_machine(monkeypatch: pytest.MonkeyPatch, zone: str) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        assert parse_retry_after("Fri, 15 Jan 2027 08:01:30", now=NOW, max_s=MAX_S) == 90.0
    finally:
        monkeypatch.undo()
        time.tzset()


@given(st.one_of(st.text(), GARBAGE, DATES, DATES.map(str.encode).map(repr)))
def test_no_text_raises_or_leaves_the_bounds(value: str) -> None:
    wait_s = parse_retry_after(value, now=NOW, max_s=MAX_S)
    assert wait_s is None or 0.0 <= wait_s <= MAX_S


@given(st.from_regex(r"[0-9]{1,600}", fullmatch=True))
def test_digits_are_seconds(digits: str) -> None:
    assert parse_retry_after(digits, now=NOW, max_s=MAX_S) == min(int(digits), MAX_S)


@given(st.integers(0, 32_000_000_000))
def test_dates_count_from_now(at: int) -> None:
    expected = min(max(at - NOW, 0.0), MAX_S)
    assert parse_retry_after(formatdate(at, usegmt=True), now=NOW, max_s=MAX_S) == expected
