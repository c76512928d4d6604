"""Clients without a token that try to exhaust the gateway: idle connections, slow requests, large bodies."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import struct
import threading
import time
from typing import TYPE_CHECKING, Final

import httpx2
import pytest
from websockets.sync.client import connect

from nvision_hub.runtime.status import GatewayInfo
from tests.support.connections import ConnectionFlood, memory_bytes
from tests.support.patience import PATIENCE_S
from tests.support.reliability import measured
from tests.support.statuses import info_as
from workers.gateway.api.body_limit import MAX_BODY_BYTES
from workers.gateway.live.live_view import MAX_UNAUTHENTICATED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.support.gateway import SupervisedGateway
    from tests.support.hub import Hub
    from tests.support.recorder import Recorder

pytestmark = [pytest.mark.fault, pytest.mark.long]

CONNECTIONS: Final = 1_030
ATTACK_S: Final = 90.0
TOKEN: Final = "token-of-the-connection-tests"
MIB: Final = 2**20
LISTEN: Final = {"listen": "127.0.0.1:0", "health_listen": "127.0.0.1:0"}
UNFINISHED: Final = b"GET /healthz HTTP/1.1\r\nhost: 127.0.0.1\r\nx-slow: "


def address_of(url: str) -> tuple[str, int]:
    host, port = url.removeprefix("http://").split(":")
    return host, int(port)


def status_of(url: str, path: str) -> int:
    """Return the status of a request on a connection of its own, as of a health check."""
    return httpx2.get(url + path, timeout=PATIENCE_S, trust_env=False).status_code


def test_idle_connections_leave_the_page_usable(
    start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]
) -> None:
    hub = start_hub([{"id": "street", "url": "demo://street", "fps": 1}], recorder(), gateway=LISTEN)
    hub.wait_for_results("street", 1)
    url, pid = hub.gateway(), hub.member_pid("gateway")
    health_url = hub._members["gateway"]["status"]["info"]["health_url"]
    end, polls = time.monotonic() + ATTACK_S, 0
    with ConnectionFlood(address=address_of(url), count=CONNECTIONS) as flood:
        while time.monotonic() < end:
            for path in ("/healthz", "/readyz", "/", "/api/v1/cameras"):
                assert status_of(url, path) == 200, (path, polls, flood.opened)
            assert status_of(health_url, "/healthz") == 200
            polls += 1
            flood.refill(1.0)
        with connect(url.replace("http", "ws") + "/api/v1/live", proxy=None) as page:
            page.send(json.dumps({"token": None}))
            assert json.loads(page.recv(PATIENCE_S))["kind"] == "fleet"
    assert hub.member_pid("gateway") == pid
    measured(
        60,
        "idle connections",
        injected=f"{CONNECTIONS:,} idle connections from one address for {ATTACK_S:.0f} s, reopened when closed",
        target="health checks, page and API respond throughout",
        measured=f"{polls} rounds of four requests, all 200; {flood.opened:,} connections opened",
    )


def test_health_checks_have_a_listener_of_their_own(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token=TOKEN, health_host="127.0.0.1", health_port=0)
    one.is_silent = True  # every request of the flood waits for the supervisor
    one.camera("lobby")
    url = info_as(one.statuses[-1], GatewayInfo).health_url
    assert url is not None
    restart = f"POST /api/v1/cameras/lobby/restart HTTP/1.1\r\nhost: 127.0.0.1\r\nauthorization: Bearer {TOKEN}\r\n\r\n"
    with ConnectionFlood(address=address_of(one.url), count=CONNECTIONS, first_bytes=restart.encode()) as flood:
        for _ in range(5):
            flood.refill(0.1)
            assert status_of(url, "/healthz") == 200
            assert status_of(url, "/readyz") == 200
    with ConnectionFlood(address=address_of(url), count=200):
        assert status_of(url, "/healthz") == 200
    for path in ("/", "/metrics", "/api/v1/cameras", "/api/openapi.json", "/api/v1/live"):
        assert status_of(url, path) == 404
    assert httpx2.get(f"{url}/healthz", headers={"host": "10.0.0.9:8081"}, trust_env=False).status_code == 200


def test_unfinished_requests_from_several_addresses_are_closed(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token=TOKEN)
    sources = tuple(f"127.0.0.{number}" for number in range(2, 8))
    with ConnectionFlood(
        address=address_of(one.url), count=CONNECTIONS, first_bytes=UNFINISHED, sources=sources
    ) as flood:
        for _ in range(5):
            flood.refill(0.1)
            assert status_of(one.url, "/healthz") == 200
        with socket.create_connection(address_of(one.url), timeout=PATIENCE_S) as slow:
            slow.sendall(UNFINISHED)
            assert not received(slow), "the server closes the connection"


def received(connection: socket.socket) -> bytes:
    """Return the next bytes of a connection; empty at its end."""
    try:
        return connection.recv(65_536)
    except ConnectionResetError:
        return b""


def large_bodies() -> Iterator[tuple[str, bytes | Iterator[bytes]]]:
    names = ["x" * 60] * 500_000
    content = json.dumps({"id": "evil", "url": "rtsp://127.0.0.1:9/", "labels": dict(enumerate(names))}).encode()
    assert len(content) > 30 * MIB
    yield "with Content-Length", content
    yield "in chunks", (content[start : start + MIB] for start in range(0, len(content), MIB))
    yield "nested lists", b"[" * (2 * MIB) + b"]" * (2 * MIB)


def test_a_large_body_takes_no_memory(start_hub: Callable[..., Hub], recorder: Callable[..., Recorder]) -> None:
    hub = start_hub([{"id": "street", "url": "demo://street", "fps": 1}], recorder(), gateway=True)
    url, pid = hub.gateway(), hub.member_pid("gateway")
    assert status_of(url, "/api/openapi.json") == 200
    before = memory_bytes(pid)
    for name, content in large_bodies():
        answer = httpx2.post(
            f"{url}/api/v1/cameras",
            content=content,
            headers={"content-type": "application/json"},
            timeout=PATIENCE_S,
            trust_env=False,
        )
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large"), (name, answer.text)
    taken = memory_bytes(pid) - before
    assert taken < 32 * MIB, f"{taken / MIB:.0f} MiB"
    assert hub.member_pid("gateway") == pid
    measured(
        61,
        "large request bodies",
        injected="JSON bodies of 30 MB, with Content-Length and in chunks, and of 2 million nested lists",
        target="413, memory bounded",
        measured=f"413; the gateway's peak memory rose by {taken / MIB:.0f} MiB",
    )


def test_a_body_of_the_allowed_size_is_read(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    one.camera("lobby")
    with one.client() as client:
        answer = client.patch("/api/v1/cameras/lobby", content=json.dumps({"fps": 0}).ljust(MAX_BODY_BYTES))
        assert answer.status_code == 422, answer.text
        answer = client.patch("/api/v1/cameras/lobby", content=json.dumps({"fps": 0}).ljust(MAX_BODY_BYTES + 1))
        assert answer.status_code == 413, answer.text


def frame(opcode: int, payload: bytes = b"", *, final: bool = True) -> bytes:
    """Return a WebSocket frame of a client, with the mask 0."""
    head = bytes([opcode | (0x80 if final else 0)])
    size = len(payload)
    length = bytes([0x80 | size]) if size < 126 else bytes([0x80 | 126]) + struct.pack("!H", size)
    return head + length + bytes(4) + payload


FLOODS: Final = {
    "empty fragments": frame(1, b"{", final=False) + frame(0, final=False) * 20_000,
    "tiny messages": frame(1, b"{}") * 20_000,
}


@pytest.mark.parametrize("flood", FLOODS)
def test_a_websocket_cannot_fill_the_memory(start_gateway: Callable[..., SupervisedGateway], flood: str) -> None:
    one = start_gateway()
    with upgraded(one) as connection:
        connection.sendall(frame(1, b'{"token": null}'))
        assert received(connection)
        attack = threading.Thread(target=send_all, args=(connection, FLOODS[flood]))
        attack.start()
        content = b""
        while chunk := received(connection):
            content = content[-1000:] + chunk
        attack.join()
    assert b"too many messages or fragments" in content
    with one.client() as client:
        assert client.get("/healthz").status_code == 200


def test_pings_of_a_client_that_does_not_read_take_no_memory(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway()
    pid = one.child.pid
    assert pid is not None
    pings = frame(9, b"x" * 125) * 1_000
    with upgraded(one) as connection:
        connection.sendall(frame(1, b'{"token": null}'))
        before = memory_bytes(pid)
        for _ in range(150):
            connection.sendall(pings)
        with one.client() as client:
            assert client.get("/healthz").status_code == 200
        assert memory_bytes(pid) - before < 10 * MIB


def send_all(connection: socket.socket, content: bytes) -> None:
    try:
        connection.sendall(content)
    except OSError:
        return  # the server has closed the connection


def upgraded(one: SupervisedGateway) -> socket.socket:
    """Return a connection to the live view after the WebSocket handshake."""
    connection = socket.create_connection(address_of(one.url), timeout=PATIENCE_S)
    key = base64.b64encode(os.urandom(16)).decode()
    lines = (
        "GET /api/v1/live HTTP/1.1",
        "host: 127.0.0.1",
        "connection: Upgrade",
        "upgrade: websocket",
        "sec-websocket-version: 13",
        f"sec-websocket-key: {key}",
    )
    connection.sendall(("\r\n".join(lines) + "\r\n\r\n").encode())
    answer = b""
    while b"\r\n\r\n" not in answer:
        answer += connection.recv(65_536)
    assert answer.startswith(b"HTTP/1.1 101")
    return connection


def test_viewers_without_a_token_make_room(start_gateway: Callable[..., SupervisedGateway]) -> None:
    one = start_gateway(token=TOKEN)
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(upgraded(one)) for _ in range(MAX_UNAUTHENTICATED + 8)]
        with connect(one.url.replace("http", "ws") + "/api/v1/live", proxy=None) as page:
            page.send(json.dumps({"token": TOKEN}))
            assert json.loads(page.recv(PATIENCE_S))["kind"] == "fleet"
        for each in silent[:8]:
            while received(each):
                pass
