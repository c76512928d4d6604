"""Nvision service for tests. It records received messages, and answers or misbehaves according to its configuration.

Usage: `python recorder_server.py CONFIG`, where CONFIG is a JSON file:

    {"port": 0, "folder": "<dir>", "behavior": {...}, "certificate": null}

With a certificate (a PEM file that also contains the key), the service uses TLS.

When the program accepts connections, it prints one line of JSON, `{"port": N}`. It exits on SIGTERM. A line on standard
input is a JSON object with fields of `Behavior` to change. The change takes effect immediately, and the reply is an
empty line. `folder` contains:

    messages.jsonl     one line for each message, after its frame is written: the message's fields without the frame,
                       `at` (CLOCK_MONOTONIC when it was complete), and the position of its frame in `frames.bin`
    frames.bin         the frames' bytes, end to end
    connections.jsonl  one line for each handshake: `at`, `path`, `key` (the subprotocol offered), `status`

The service is a separate process, so other work in a test or benchmark does not delay its clock readings.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import ssl
import sys
import time
from dataclasses import dataclass, replace
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from nvision_hub.nvision.nvision_pb2 import BoundingBox, NvisionRequest, ObjectDetection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.datastructures import HeadersLike
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

_MAX_MESSAGE_BYTES: Final = 100 * 2**20


@dataclass(frozen=True, kw_only=True)
class Behavior:
    """Behavior of the service."""

    latency_s: float = 0.0  # time from a message to its result
    status: int = 101  # status of a handshake; any status other than 101 rejects the handshake
    headers: tuple[tuple[str, str], ...] = ()  # headers of a rejection
    # Close all connections with this code. Close new connections at their first message, or immediately with
    # `close_immediately`.
    close_code: int | None = None
    close_immediately: bool = False
    # Others: none half without_ids unknown_frame garbage text not_a_number many_names twice unknown_enum oversize
    answer: str = "detection"
    oversize_bytes: int = 0  # size of the frame in an `oversize` result
    keep_frames: bool = True


def answer(request: NvisionRequest, kind: str, oversize_bytes: int = 0) -> bytes | str | None:
    """Return the answer to a frame. By default, the answer is one person in the upper left corner."""
    if kind == "none" or (kind == "half" and int(request.frame_id[-1], 16) % 2):
        return None
    if kind == "text":
        return "a text message"
    if kind == "garbage":
        return b"\xff\xff\xff\xff no protobuf"
    result = NvisionRequest(service_id="recorder", source_id=request.source_id, frame_id=request.frame_id)
    if kind == "without_ids":
        result.source_id = result.frame_id = ""
    if kind == "unknown_frame":
        result.frame_id = "never-sent"
    if kind == "oversize":
        result.raw_data = bytes(oversize_bytes)
    found = ObjectDetection(
        name="person",
        parent="human",
        confidence=float("nan") if kind == "not_a_number" else 0.5,
        bounding_box=BoundingBox(left=10, top=20, right=110, bottom=220),
    )
    result.detected_objects.append(found)
    if kind == "many_names":
        result.detected_objects.extend(
            ObjectDetection(name=f"{request.frame_id} {number} " + "x" * 1000) for number in range(200)
        )
    if kind == "unknown_enum":  # an unknown encoding and an unknown field
        return b"\x08\x2a" + result.SerializeToString() + b"\xfa\x01\x01x"
    return result.SerializeToString()


class Recorder:
    """Recording service. All connections share the files and the behavior."""

    def __init__(self, folder: Path, behavior: Behavior) -> None:
        self.behavior = behavior
        self._messages = (folder / "messages.jsonl").open("a", buffering=1, encoding="utf-8")
        self._connections = (folder / "connections.jsonl").open("a", buffering=1, encoding="utf-8")
        self._frames = (folder / "frames.bin").open("ab", buffering=0)
        self._open: set[ServerConnection] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._connected = 0

    def select_response(self, connection: ServerConnection, request: Request) -> Response | None:
        behavior = self.behavior
        line = {
            "at": time.monotonic(),
            "path": request.path,
            "key": request.headers.get("Sec-WebSocket-Protocol"),
            "status": behavior.status,
        }
        self._connections.write(json.dumps(line) + "\n")
        if behavior.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        response = connection.respond(HTTPStatus(behavior.status), "by order\n")
        more: HeadersLike = behavior.headers
        response.headers.update(more)
        return response

    async def serve(self, connection: ServerConnection) -> None:
        self._open.add(connection)
        self._connected += 1
        number = self._connected
        with contextlib.suppress(ConnectionClosed):  # a killed client does not close its connection
            if self.behavior.close_immediately and self.behavior.close_code is not None:
                await connection.close(self.behavior.close_code)
            while True:
                data = await connection.recv(decode=False)
                at = time.monotonic()
                if self.behavior.close_code is not None:
                    await connection.close(self.behavior.close_code)
                    break
                request = NvisionRequest.FromString(data)
                self._write(at, request, number)
                task = asyncio.create_task(self._answer(connection, request))
                self._answering.add(task)
                task.add_done_callback(self._answering.discard)
        self._open.discard(connection)

    def _write(self, at: float, request: NvisionRequest, connection: int) -> None:
        line: dict[str, Any] = {
            "at": at,
            "source_id": request.source_id,
            "frame_id": request.frame_id,
            "created_at": request.created_at,
            "encoding": request.encoding,
            "configurations": [[each.parameter, each.value] for each in request.configurations],
            "offset": self._frames.tell(),
            "size": len(request.raw_data),
            "connection": connection,
        }
        if self.behavior.keep_frames:
            self._frames.write(request.raw_data)
        self._messages.write(json.dumps(line) + "\n")

    async def _answer(self, connection: ServerConnection, request: NvisionRequest) -> None:
        behavior = self.behavior
        if behavior.latency_s:
            await asyncio.sleep(behavior.latency_s)
        message = answer(request, behavior.answer, behavior.oversize_bytes)
        if message is not None:
            with contextlib.suppress(ConnectionClosed):  # the client has disconnected
                for _ in range(2 if behavior.answer == "twice" else 1):
                    await connection.send(message)

    async def change_behavior(self, line: str) -> None:
        orders = json.loads(line)
        self.behavior = replace(self.behavior, **orders)
        if self.behavior.close_code is not None:
            await asyncio.gather(*(each.close(self.behavior.close_code) for each in list(self._open)))
        print(flush=True)


def _select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


async def main(config: dict[str, Any]) -> None:
    recorder = Recorder(Path(config["folder"]), Behavior(**config["behavior"]))
    loop = asyncio.get_running_loop()
    tls = None
    if config.get("certificate"):
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(config["certificate"])
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    orders = asyncio.StreamReader()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    async with serve(
        recorder.serve,
        "127.0.0.1",
        config["port"],
        ssl=tls,
        process_request=recorder.select_response,
        select_subprotocol=_select,
        compression=None,
        max_size=_MAX_MESSAGE_BYTES,
        close_timeout=0.5,
    ) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)

        async def listen() -> None:
            while line := await orders.readline():
                await recorder.change_behavior(line.decode())

        listening = asyncio.create_task(listen())
        await stop.wait()
        listening.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
