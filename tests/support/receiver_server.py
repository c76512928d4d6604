"""A webhook's receiver as a program: takes POSTs, writes them down, and answers as it is told to.

    python receiver_server.py CONFIG.json

The configuration has `port`, `folder`, `certificate` and `behaviours`; orders come on stdin, a JSON object of paths and
their `Behaviour` a line, and are answered with the number of requests so far. HTTP/1.1 by hand: it must not be what a
benchmark measures.
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
class Behaviour:
    """How one path answers."""

    status: int = 204
    headers: list[list[str]] = field(default_factory=list)
    body: str = ""
    delay_s: float = 0.0
    hang: bool = False  # takes the request and answers nothing
    drip: bool = False  # answers the head, then a byte of the body every tenth of a second
    cut: bool = False  # closes in the middle of the answer
    fail_every: int = 0  # every n-th request is answered with 500; 0: none
    record: bool = True


class State:
    def __init__(self, folder: Path, behaviours: dict[str, Any]) -> None:
        self.requests: TextIO = (folder / "requests.jsonl").open("a", encoding="utf-8", buffering=1)
        self.connections: TextIO = (folder / "connections.jsonl").open("a", encoding="utf-8", buffering=1)
        self.count = 0
        self.behaviours: dict[str, Behaviour] = {}
        self.order(behaviours)

    def order(self, behaviours: dict[str, Any]) -> None:
        self.behaviours |= {path: Behaviour(**given) for path, given in behaviours.items()}


DEFAULT: Final = Behaviour()


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
        behaviour = state.behaviours.get(path, state.behaviours.get("*", DEFAULT))
        state.count += 1
        failing = behaviour.fail_every and state.count % behaviour.fail_every == 0
        status = 500 if failing else behaviour.status
        if behaviour.record:
            told = {"at": time.monotonic(), "time": time.time(), "path": path, "status": status, "headers": headers}
            state.requests.write(json.dumps({**told, "body": body.decode()}) + "\n")
        if behaviour.hang:
            return
        if behaviour.delay_s or behaviour.drip:
            task = asyncio.get_running_loop().create_task(self._slowly(behaviour, status))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        else:
            self._transport.write(self._head(behaviour, status) + behaviour.body.encode())
            if behaviour.cut:
                self._transport.close()

    def _head(self, behaviour: Behaviour, status: int) -> bytes:
        length = 1000 if behaviour.drip or behaviour.cut else len(behaviour.body.encode())
        headers = [*behaviour.headers, *([] if status == 204 else [["Content-Length", str(length)]])]
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers)
        return f"HTTP/1.1 {status} So\r\n{lines}\r\n".encode()

    async def _slowly(self, behaviour: Behaviour, status: int) -> None:
        await asyncio.sleep(behaviour.delay_s)
        self._transport.write(self._head(behaviour, status) + behaviour.body.encode())
        while behaviour.drip:
            await asyncio.sleep(0.1)
            self._transport.write(b".")


async def main(config: dict[str, Any]) -> None:
    state = State(Path(config["folder"]), config["behaviours"])
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
        state.order(json.loads(line))
        print(json.dumps({"count": state.count}), flush=True)


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))))
