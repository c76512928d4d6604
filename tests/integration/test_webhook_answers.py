"""Answers that no endpoint should send to a webhook's delivery."""

from __future__ import annotations

import contextlib
import socket
import threading
from typing import TYPE_CHECKING, Final

import pytest

from nvision_hub.config.models import Webhook
from tests.support.hostile_endpoint import hostile_endpoint
from workers.webhooks.webhook_client import Outcome, WebhookClient

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.hostile_endpoint import HostileEndpoint

__all__ = ["hostile_endpoint"]

SECRET: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
TIMEOUT_S: Final = 10.0


@pytest.mark.parametrize(
    ("kind", "outcome", "error"),
    [
        ("late date", Outcome.HTTP_ERROR, "answered 503"),
        ("many digits", Outcome.HTTP_ERROR, "answered 503"),
        ("not a date", Outcome.HTTP_ERROR, "answered 503"),
        ("redirect", Outcome.HTTP_ERROR, "answered 307, a redirect, which is not followed; correct the webhook's url"),
        ("huge body", Outcome.HTTP_ERROR, "answered 503"),
        ("tiny chunks", Outcome.DELIVERED, None),
        ("endless head", Outcome.CONNECTION, "cannot be reached (the answer is longer than 32 KiB)"),
        ("endless status", Outcome.CONNECTION, "cannot be reached (the answer is longer than 32 KiB)"),
        ("not HTTP", Outcome.CONNECTION, "cannot be reached (illegal request line)"),
        ("accepts", Outcome.DELIVERED, None),
    ],
)
async def test_every_answer_ends_the_attempt(
    hostile_endpoint: Callable[[str], HostileEndpoint], kind: str, outcome: Outcome, error: str | None
) -> None:
    endpoint = hostile_endpoint("http://127.0.0.1:1/")
    endpoint.kind = kind
    webhook = Webhook.model_validate({"id": "hook", "url": endpoint.url, "secret": SECRET, "allow_private": True})
    client = WebhookClient(webhook, connections=1, timeout_s=TIMEOUT_S)
    try:
        attempt = await client.post("id", b"{}")
    finally:
        await client.aclose()
    assert (attempt.outcome, attempt.error) == (outcome, error)
    assert len(endpoint.requests) == 1


async def test_a_peer_that_answers_without_reading_gets_a_new_connection() -> None:
    """Otherwise, the requests that it never reads would fill the memory."""
    accepted: list[socket.socket] = []

    def answer() -> None:
        with contextlib.suppress(OSError):  # the test ends
            while True:
                accepted.append(listener.accept()[0])
                accepted[-1].sendall(b"HTTP/1.1 204 No Content\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=answer, daemon=True).start()
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/"
        webhook = Webhook.model_validate({"id": "hook", "url": url, "secret": SECRET, "allow_private": True})
        client = WebhookClient(webhook, connections=1, timeout_s=TIMEOUT_S)
        try:
            outcomes = [(await client.post("id", bytes(32 * 2**20))).outcome for _ in range(2)]
        finally:
            await client.aclose()
    assert outcomes == [Outcome.DELIVERED] * 2
    assert len(accepted) == 2
    for connection in accepted:
        connection.close()
