"""Classification of the responses to webhook deliveries."""

from __future__ import annotations

import pytest

from workers.webhooks.settings import MAX_RETRY_AFTER_S
from workers.webhooks.webhook_client import Outcome, _classify


@pytest.mark.parametrize(
    ("header", "wait_s"),
    [
        (None, 0.0),
        ("120", 120.0),
        ("9" * 400, MAX_RETRY_AFTER_S),
        ("Fri, 15 Jan 2100 08:00:00", MAX_RETRY_AFTER_S),
        ("Wed, 21 Oct 99999999999 07:28:00 GMT", 0.0),
        ("soon", 0.0),
    ],
)
def test_no_retry_after_header_fails_a_delivery(header: str | None, wait_s: float) -> None:
    attempt = _classify(503, header, took_s=0.1)
    assert (attempt.outcome, attempt.retry_after_s) == (Outcome.HTTP_ERROR, wait_s)
