"""Responses to requests whose body is too slow, and the failures of an application that reads one."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING

import pytest
from starlette.requests import Request

from workers.gateway.api import body_limit
from workers.gateway.api.body_limit import BodyLimitMiddleware

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

SCOPE: Scope = {"type": "http", "method": "POST", "path": "/api/v1/cameras", "headers": []}


@pytest.fixture(autouse=True)
def _no_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(body_limit, "READ_TIMEOUT_S", 0.0)


async def never() -> Message:
    await asyncio.Event().wait()
    raise AssertionError("unreachable")


async def test_a_body_that_does_not_arrive_gets_a_problem_document() -> None:
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def application(scope: Scope, receive: Receive, _send: Send) -> None:
        await Request(scope, receive).body()

    await BodyLimitMiddleware(application)(SCOPE, never, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert json.loads(sent[1]["body"])["code"] == "body_timeout"


async def test_a_failure_of_the_application_is_not_hidden() -> None:
    async def application(_scope: Scope, receive: Receive, _send: Send) -> None:
        assert (await receive())["type"] == "http.disconnect"
        raise LookupError("a fault of the application")

    async def send(_: Message) -> None:
        raise AssertionError("no response")

    with pytest.raises(LookupError):
        await BodyLimitMiddleware(application)(SCOPE, never, send)
