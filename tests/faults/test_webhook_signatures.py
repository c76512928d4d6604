"""Case 47: compare the hub's signatures with the reference vector, the library and an independent computation."""

from __future__ import annotations

import base64
import hashlib
import hmac
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from tests.support.dispatching import webhook
from tests.support.receiver import OTHER_SECRET, SECRET
from tests.support.reliability import measured
from workers.webhooks.webhook_client import WebhookClient

pytestmark = pytest.mark.fault

# Test vector that all Standard Webhooks reference libraries share.
VECTOR_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
VECTOR_ID = "msg_p5jXN8AQM9LWM0D4loKWxJek"
VECTOR_TIME = 1614265330
VECTOR_BODY = b'{"test": 2432232314}'
VECTOR_SIGNATURE = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def signed(secret: str | list[str], delivery_id: str, at: float, body: bytes) -> str:
    client = WebhookClient(webhook("alarms", "https://example.com/", secret=secret), connections=1)
    return client.signature(delivery_id, datetime.fromtimestamp(at, UTC), body)


def by_hand(secret: str, delivery_id: str, at: float, body: bytes) -> str:
    """Compute a signature as in the specification, section "Signature scheme"."""
    key = base64.b64decode(secret.removeprefix("whsec_"))
    content = f"{delivery_id}.{int(at)}.".encode() + body
    return "v1," + base64.b64encode(hmac.new(key, content, hashlib.sha256).digest()).decode()


def verified(secret: str, delivery_id: str, at: float, body: bytes, signature: str) -> bool:
    headers = {"webhook-id": delivery_id, "webhook-timestamp": str(int(at)), "webhook-signature": signature}
    try:
        Verifier(secret).verify(body, headers, json_parse=False)
    except WebhookVerificationError:
        return False
    return True


def test_signatures_match_the_reference_vector() -> None:
    assert signed(VECTOR_SECRET, VECTOR_ID, VECTOR_TIME, VECTOR_BODY) == VECTOR_SIGNATURE
    assert by_hand(VECTOR_SECRET, VECTOR_ID, VECTOR_TIME, VECTOR_BODY) == VECTOR_SIGNATURE
    now = time.time()
    ours = signed(VECTOR_SECRET, VECTOR_ID, now, VECTOR_BODY)
    assert verified(VECTOR_SECRET, VECTOR_ID, now, VECTOR_BODY, ours)
    assert not verified(VECTOR_SECRET, VECTOR_ID, now, VECTOR_BODY + b" ", ours)
    assert not verified(VECTOR_SECRET, VECTOR_ID + "x", now, VECTOR_BODY, ours)
    assert not verified(VECTOR_SECRET, VECTOR_ID, now + 1, VECTOR_BODY, ours)
    assert not verified(SECRET, VECTOR_ID, now, VECTOR_BODY, ours)
    measured(
        47,
        "signatures: reference vector",
        injected="secret, id, time and body of the reference libraries; a changed body, id, time and secret",
        target="all agree",
        measured="our signature, the library's and a hand-computed one agree; each change is rejected",
    )


@given(
    st.binary(min_size=24, max_size=64),
    st.from_regex(r"[A-Za-z0-9_-]{1,128}", fullmatch=True),
    st.text().map(str.encode),
)
def test_every_signature_verifies(key: bytes, delivery_id: str, body: bytes) -> None:
    secret, now = "whsec_" + base64.b64encode(key).decode(), time.time()
    ours = signed(secret, delivery_id, now, body)
    assert ours == by_hand(secret, delivery_id, now, body)
    assert verified(secret, delivery_id, now, body, ours)


def test_both_secrets_verify_during_a_rotation() -> None:
    now = time.time()
    both = signed([OTHER_SECRET, SECRET], "id", now, b"{}")
    assert both.split(" ") == [by_hand(OTHER_SECRET, "id", now, b"{}"), by_hand(SECRET, "id", now, b"{}")]
    assert verified(SECRET, "id", now, b"{}", both)
    assert verified(OTHER_SECRET, "id", now, b"{}", both)
    assert not verified(VECTOR_SECRET, "id", now, b"{}", both)
    measured(
        47,
        "signatures: secret rotation",
        injected="two secrets; receivers with the first, the second and a third",
        target="all agree",
        measured="the first two accept, the third rejects",
    )
