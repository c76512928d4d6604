"""The header Retry-After of webhook endpoints and of the service."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from hypothesis import strategies as st

from nvision_hub.retry_after import parse_retry_after

if TYPE_CHECKING:
    from tests.fuzz.harness import Fuzz

MAX_S: Final = 3600.0
SAMPLES: Final = (
    b"120",
    b"Wed, 21 Oct 2026 07:28:00 GMT",
    b"Wednesday, 21-Oct-26 07:28:00 GMT",
    b"Wed Oct 21 07:28:00 2026",
    b"Wed, 21 Oct 99999999999 07:28:00 GMT",
    b"Wed, 21 Oct 2026 07:28:00 +0200",
)
TOKENS: Final = (b" +9999", b" -2359", b" EST", b"24:60:61", b"0000", b"Foo", b",", b":", b"29 Feb", b"\xc2\xb2")
NUMBERS: Final = st.integers(-2, 70) | st.sampled_from([99999999999, 2**31, 10**40])
BUILT: Final = st.builds(
    "{}, {} {} {} {}:{}:{} {}".format,
    st.sampled_from(["Wed", "Wednesday", "", "x"]),
    NUMBERS,
    st.sampled_from(["Oct", "Foo", "13"]),
    NUMBERS,
    NUMBERS,
    NUMBERS,
    NUMBERS,
    st.sampled_from(["GMT", "", "+9999", "-0000", "EST", "+" + "9" * 30]),
).map(str.encode)


def check(data: bytes) -> None:
    wait_s = parse_retry_after(data.decode("latin-1"), now=1.8e9, max_s=MAX_S)
    assert wait_s is None or 0.0 <= wait_s <= MAX_S


def test_retry_after(fuzz: Fuzz) -> None:
    fuzz(check, samples=SAMPLES, built=BUILT, tokens=TOKENS)
