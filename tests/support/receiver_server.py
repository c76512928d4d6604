"""Webhook receiver in a separate process. It records POST requests and answers them according to its configuration.

    python receiver_server.py CONFIG.json

The configuration contains `port`, `folder`, `certificate` and `behaviors`. Each line on stdin is a JSON object that
maps paths to their new `Behavior`. The reply is the number of requests so far. The program contains a minimal HTTP/1.1
server, because a complete server would dominate benchmarks.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TextIO


@dataclass(kw_only=True)
class Behavior:
    """Behavior of one path."""

    status: int = 204
    headers: list[list[str]] = field(default_factory=list)
    body: str = ""
    delay_s: float = 0.0
    hang: bool = False  # whether the receiver reads the request but sends no response
    drip: bool = False  # whether it sends the headers, and then one byte of the body every 0.1 s
    cut: bool = False  # whether it closes the connection in the middle of the response
    fail_every: int = 0  # if above 0, it answers every n-th request with 500
    record: bool = True


class State:
    def __init__(self, folder: Path, behaviors: dict[str, Any]) -> None:
        self.requests: TextIO = (folder / "requests.jsonl").open("a", encoding="utf-8", buffering=1)
        self.connections: TextIO = (folder / "connections.jsonl").open("a", encoding="utf-8", buffering=1)
        self.count = 0
        self.behaviors: dict[str, Behavior] = {}
        self.set_behavior(behaviors)

    def set_behavior(self, behaviors: dict[str, Any]) -> None:
        self.behaviors |= {path: Behavior(**given) for path, given in behaviors.items()}


DEFAULT: Final = Behavior()


class Connection(asyncio.Protocol):
    def __init__(self, state: State) -> None:
        self._state = state
        self._data = b""
        self._tasks: set[asyncio.Task[None]] = set()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._state.connections.write(json.dumps({"at": time.monotonic()}) + "\n")

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        for task in self._tasks:
            task.cancel()

    def data_received(self, data: bytes) -> None:
        self._data += data
        while True:
            head, found, rest = self._data.partition(b"\r\n\r\n")
            if not found:
                return
            first, *lines = head.decode("latin-1").split("\r\n")
            headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
            length = int(headers.get("content-length", "0"))
            if len(rest) < length:
                return
            self._data = rest[length:]
            self._request(first.split()[1], headers, rest[:length])

    def _request(self, path: str, headers: dict[str, str], body: bytes) -> None:
        state = self._state
        behavior = state.behaviors.get(path, state.behaviors.get("*", DEFAULT))
        state.count += 1
        failing = behavior.fail_every and state.count % behavior.fail_every == 0
        status = 500 if failing else behavior.status
        if behavior.record:
            record = {"at": time.monotonic(), "time": time.time(), "path": path, "status": status, "headers": headers}
            state.requests.write(json.dumps({**record, "body": body.decode()}) + "\n")
        if behavior.hang:
            return
        if behavior.delay_s or behavior.drip:
            task = asyncio.get_running_loop().create_task(self._slowly(behavior, status))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._transport.write(self._head(behavior, status) + behavior.body.encode())
            if behavior.cut:
                self._transport.close()

    def _head(self, behavior: Behavior, status: int) -> bytes:
        length = 1000 if behavior.drip or behavior.cut else len(behavior.body.encode())
        headers = [*behavior.headers, *([] if status == 204 else [["Content-Length", str(length)]])]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {status} So\r\n{lines}\r\n".encode()

    async def _slowly(self, behavior: Behavior, status: int) -> None:
        await asyncio.sleep(behavior.delay_s)
        self._transport.write(self._head(behavior, status) + behavior.body.encode())
        while behavior.drip:
            await asyncio.sleep(0.1)
            self._transport.write(b".")


async def main(config: dict[str, Any]) -> None:
    state = State(Path(config["folder"]), config["behaviors"])
    context = None
    if config["certificate"]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(config["certificate"])
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(state), "127.0.0.1", config["port"], ssl=context, backlog=512)
    print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)
    reader = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
    while line := await reader.readline():
        state.set_behavior(json.loads(line))
        print(json.dumps({"count": state.count}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
