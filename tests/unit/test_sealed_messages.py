"""Sealed messages: what passes, what does not, and that no input causes another error."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nvision_hub.cluster.sealed_messages import (
    MAX_HEADER_BYTES,
    VALIDITY_S,
    FleetSeal,
    MessageKind,
    RejectedEntryError,
    RejectionReason,
    ReplayGuard,
    SealedMessage,
)
from nvision_hub.config.value_types import Secret

NOW = 1_800_000_000.0
SEAL = FleetSeal(key=Secret("k" * 32), site="head-office", prefix="nvision")
KEYLESS = FleetSeal(key=None, site="head-office", prefix="nvision")
PAYLOAD = b'PauseCamera {"camera":"lobby"}'


def sealed(seal: FleetSeal = SEAL, kind: MessageKind = MessageKind.COMMAND, now: float = NOW) -> bytes:
    return seal.seal(kind, PAYLOAD, addressee="inbox", now=now)


def opened(data: bytes, seal: FleetSeal = SEAL, *, addressee: str = "inbox", now: float = NOW) -> SealedMessage:
    return seal.open(MessageKind.COMMAND, data, addressee=addressee, now=now, max_bytes=1000)


def reason(data: bytes, seal: FleetSeal = SEAL, *, addressee: str = "inbox", now: float = NOW) -> RejectionReason:
    with pytest.raises(RejectedEntryError) as caught:
        opened(data, seal, addressee=addressee, now=now)
    return caught.value.reason


def test_a_sealed_message_opens_for_its_addressee_until_it_expires() -> None:
    message = opened(sealed())
    assert message.payload == PAYLOAD
    assert message.expires_at == NOW + VALIDITY_S
    assert opened(sealed(), now=NOW + VALIDITY_S).payload == PAYLOAD
    assert reason(sealed(), now=NOW + VALIDITY_S + 0.001) is RejectionReason.EXPIRED
    assert reason(sealed(now=NOW + VALIDITY_S + 1)) is RejectionReason.EXPIRED, "valid for too long"
    assert reason(sealed(), addressee="other") is RejectionReason.WRONG_ADDRESSEE
    assert reason(sealed(kind=MessageKind.REPLY)) is RejectionReason.WRONG_ADDRESSEE
    assert opened(sealed()).nonce != message.nonce


@pytest.mark.parametrize(
    "other",
    [
        FleetSeal(key=Secret("j" * 32), site="head-office", prefix="nvision"),
        FleetSeal(key=Secret("k" * 32), site="branch", prefix="nvision"),
        FleetSeal(key=Secret("k" * 32), site="head-office", prefix="other"),
    ],
)
def test_another_fleet_has_another_signature(other: FleetSeal) -> None:
    assert reason(sealed(other)) is RejectionReason.BAD_SIGNATURE


def test_without_a_key_nothing_is_signed() -> None:
    assert opened(sealed(KEYLESS), KEYLESS).payload == PAYLOAD
    assert opened(sealed(), KEYLESS).payload == PAYLOAD
    assert reason(sealed(KEYLESS)) is RejectionReason.UNSIGNED
    assert reason(sealed(KEYLESS), KEYLESS, now=NOW + 60) is RejectionReason.EXPIRED


def test_a_version_or_a_size_that_does_not_fit_has_its_own_reason() -> None:
    assert reason(sealed().replace(b"nvision-hub-1", b"nvision-hub-2", 1)) is RejectionReason.VERSION
    assert reason(sealed().replace(b"\n", b" ")) is RejectionReason.MALFORMED
    assert reason(sealed() + b"x" * (1001 + MAX_HEADER_BYTES)) is RejectionReason.TOO_LARGE


@given(position=st.integers(min_value=0), change=st.integers(min_value=1, max_value=255))
def test_one_changed_byte_breaks_the_seal(position: int, change: int) -> None:
    data = bytearray(sealed())
    data[position % len(data)] ^= change
    with pytest.raises(RejectedEntryError):
        opened(bytes(data))


@given(
    st.one_of(
        st.binary(max_size=300),
        st.from_regex(rb"nvision-hub-[0-9]+ [a-z]+ [A-Za-z0-9_-]+ [0-9]+ [0-9a-f]* (-|[0-9a-f]*)\n.*", fullmatch=True),
    )
)
def test_no_foreign_data_passes_or_causes_another_error(data: bytes) -> None:
    with pytest.raises(RejectedEntryError):
        opened(data)
    with pytest.raises(RejectedEntryError):
        opened(data, KEYLESS)


def test_a_message_is_accepted_once() -> None:
    guard = ReplayGuard()
    first, second = opened(sealed()), opened(sealed())
    guard.admit(first, NOW)
    guard.admit(second, NOW)
    for message in (first, second):
        with pytest.raises(RejectedEntryError, match="received before"):
            guard.admit(message, NOW + VALIDITY_S)


@given(st.lists(st.integers(min_value=0, max_value=5), max_size=60))
def test_no_valid_message_is_ever_accepted_twice(steps: list[int]) -> None:
    """Step 5 lets ten seconds pass. Each other step receives one of five messages, renewed when it has expired."""
    guard, now = ReplayGuard(), NOW
    messages = [opened(sealed(now=now), now=now) for _ in range(5)]
    accepted = set[bytes]()
    for step in steps:
        if step == 5:
            now += 10.0
            continue
        if messages[step].expires_at < now:
            messages[step] = opened(sealed(now=now), now=now)
        nonce = messages[step].nonce
        try:
            guard.admit(messages[step], now)
        except RejectedEntryError:
            assert nonce in accepted
        else:
            assert nonce not in accepted
            accepted.add(nonce)


def test_the_memory_for_nonces_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nvision_hub.cluster.sealed_messages.MAX_NONCES", 3)
    guard = ReplayGuard()
    for _ in range(3):
        guard.admit(opened(sealed()), NOW)
    with pytest.raises(RejectedEntryError):
        guard.admit(opened(sealed()), NOW)
    later = NOW + VALIDITY_S + 1
    guard.admit(opened(sealed(now=later), now=later), later)


def test_repr_shows_no_key() -> None:
    assert "kkk" not in repr(SEAL)
