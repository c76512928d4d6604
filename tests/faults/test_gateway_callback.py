"""Case 49: forged posts to the callback endpoint. The gateway rejects all of them, publishes none and keeps running."""

from __future__ import annotations

import json
import socket
import time
from typing import TYPE_CHECKING, Any, Final

import psutil
import pytest
import redis

from tests.support.patience import is_on_time
from tests.support.reliability import measured

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.support.gateway import SupervisedGateway

pytestmark = pytest.mark.fault

TOKEN: Final = "canaryCallbackToken"  # used in this test only
RESULT: Final = json.dumps({"detected_objects": []}).encode()
LIMIT: Final = 8 * 2**20


def post(one: SupervisedGateway, token: str, content: bytes) -> int:
    with one.client() as client:
        answer = client.post(f"/callback/{token}", content=content, headers={"content-type": "application/json"})
    assert answer.headers.get("content-type") == (None if answer.status_code == 204 else "application/problem+json")
    assert TOKEN not in answer.text
    return int(answer.status_code)


def events(one: SupervisedGateway) -> int:
    with redis.Redis.from_url(one.settings.stream.url) as broker:
        count: Any = broker.xlen("nvision:results")
    return int(count)


def test_forged_callbacks_are_rejected(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(callback_token=TOKEN)
    one.camera("lobby")
    process = psutil.Process(one.child.pid)
    before = process.memory_info().rss
    answers: dict[str, set[int]] = {}
    for token in ("wrong", TOKEN[:-1], f"{TOKEN}x", TOKEN.swapcase(), "%00", "%F0%9F%94%91", "x" * 10_000):
        answers.setdefault("wrong token", set()).add(post(one, token, RESULT))
        answers["wrong token"].add(post(one, token, b"x" * 100_000))
    for size in (LIMIT + 1, 10_000_000, 40_000_000):
        answers.setdefault("too large", set()).add(post(one, TOKEN, b"[" + b" " * size + b"]"))
    answers["bad JSON"] = {
        post(one, TOKEN, body) for body in (b"", b"{", b"[" * 1_000_000, b"\xff", b'{"x": 1}', b"[]")
    }
    # After ten wrong tokens, the gateway asks the client to slow down.
    assert answers == {"wrong token": {401, 429}, "too large": {413}, "bad JSON": {400}}
    assert post(one, "../healthz", RESULT) in {401, 404, 405}
    assert events(one) == 0
    assert one.requests == []
    grown = process.memory_info().rss - before
    assert grown < 100e6
    assert post(one, TOKEN, RESULT) == 204
    deadline = time.monotonic() + 30
    while events(one) != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    measured(
        49,
        "forged callback",
        injected="7 wrong tokens, bodies of 8 to 40 MB, invalid JSON, and JSON that is not a result",
        target="401 or 429, 413, 400; nothing published",
        measured=f"401 and 429, 413, 400; nothing published; memory grew by {max(0.0, grown) / 1e6:.0f} MB; "
        "the next valid callback is published",
    )


def test_a_body_that_never_ends_or_never_arrives_delays_no_other(
    start_gateway: Callable[..., SupervisedGateway],
) -> None:
    one = start_gateway(callback_token=TOKEN)
    host, port = one.url.removeprefix("http://").split(":")
    dripping = [socket.create_connection((host, int(port))) for _ in range(50)]
    try:
        for connection in dripping:
            head = f"POST /callback/{TOKEN} HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n2\r\n[ \r\n"
            connection.sendall(head.encode())
        began = time.monotonic()
        assert post(one, TOKEN, RESULT) == 204
        assert is_on_time(time.monotonic() - began, 10)
    finally:
        for connection in dripping:
            connection.close()
    with one.client() as client:
        assert client.get("/healthz").status_code == 200
