"""An Nvision service that detects nothing: it writes down what it receives, answers by order, and misbehaves by order.

Usage: `python recorder_server.py CONFIG`, where CONFIG is a JSON file:

    {"port": 0, "folder": "<dir>", "behaviour": {...}, "certificate": null}

With a certificate, a PEM file that holds its key too, it speaks TLS.

Prints one line of JSON, `{"port": N}`, once it accepts connections; ends on SIGTERM. A line on standard input, a JSON
object with the fields of `Behaviour` that change, is obeyed at once and answered by an empty line. In `folder`:

    messages.jsonl     one line for each message, once its picture is written: the message's fields without the picture,
                       `at` (CLOCK_MONOTONIC when it was complete), and where its picture lies in `pictures.bin`
    pictures.bin       the pictures' bytes, end to end
    connections.jsonl  one line for each handshake: `at`, `path`, `key` (the subprotocol offered), `status`

A process of its own, so that its clock readings do not wait for whatever a test or a benchmark computes.
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

from nvision_hub.wire import BoundingBox, NvisionRequest, ObjectDetection

if TYPE_CHECKING:
    from collections.abc import Sequence

    from websockets.datastructures import HeadersLike
    from websockets.http11 import Request, Response
    from websockets.typing import Subprotocol

_MAX_MESSAGE_BYTES: Final = 100 * 2**20


@dataclass(frozen=True, kw_only=True)
class Behaviour:
    """How it behaves from now on."""

    latency_s: float = 0.0  # from a message to its answer
    status: int = 101  # of a handshake; anything but 101 refuses it
    headers: tuple[tuple[str, str], ...] = ()  # of a refusal
    # Close every connection so: those there are now, and each new one at its first message, or at once.
    close_code: int | None = None
    close_at_once: bool = False
    # or none, half, without_ids, unknown_frame, garbage, text, not_a_number, many_names, twice, unknown_enum, oversize
    answer: str = "detection"
    oversize_bytes: int = 0  # of a picture that comes back, for `oversize`
    keep_pictures: bool = True


def answer(request: NvisionRequest, kind: str, oversize_bytes: int = 0) -> bytes | str | None:
    """What is said of a picture: one person in its upper left corner, unless ordered otherwise."""
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
        result.frame_id = "nobody-sent-this"
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
    if kind == "unknown_enum":  # an encoding, and a field, that nobody has heard of
        return b"\x08\x2a" + result.SerializeToString() + b"\xfa\x01\x01x"
    return result.SerializeToString()


class Recorder:
    """All connections share its files and its behaviour."""

    def __init__(self, folder: Path, behaviour: Behaviour) -> None:
        self.behaviour = behaviour
        self._messages = (folder / "messages.jsonl").open("a", buffering=1, encoding="utf-8")
        self._connections = (folder / "connections.jsonl").open("a", buffering=1, encoding="utf-8")
        self._pictures = (folder / "pictures.bin").open("ab", buffering=0)
        self._open: set[ServerConnection] = set()
        self._answering: set[asyncio.Task[None]] = set()
        self._connected = 0

    def shake_hands(self, connection: ServerConnection, request: Request) -> Response | None:
        behaviour = self.behaviour
        line = {
            "at": time.monotonic(),
            "path": request.path,
            "key": request.headers.get("Sec-WebSocket-Protocol"),
            "status": behaviour.status,
        }
        self._connections.write(json.dumps(line) + "\n")
        if behaviour.status == HTTPStatus.SWITCHING_PROTOCOLS:
            return None
        response = connection.respond(HTTPStatus(behaviour.status), "by order\n")
        more: HeadersLike = behaviour.headers
        response.headers.update(more)
        return response

    async def serve(self, connection: ServerConnection) -> None:
        self._open.add(connection)
        self._connected += 1
        number = self._connected
        with contextlib.suppress(ConnectionClosed):  # a client that was killed says no goodbye
            if self.behaviour.close_at_once and self.behaviour.close_code is not None:
                await connection.close(self.behaviour.close_code)
            while True:
                data = await connection.recv(decode=False)
                at = time.monotonic()
                if self.behaviour.close_code is not None:
                    await connection.close(self.behaviour.close_code)
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
            "offset": self._pictures.tell(),
            "size": len(request.raw_data),
            "connection": connection,
        }
        if self.behaviour.keep_pictures:
            self._pictures.write(request.raw_data)
        self._messages.write(json.dumps(line) + "\n")

    async def _answer(self, connection: ServerConnection, request: NvisionRequest) -> None:
        behaviour = self.behaviour
        if behaviour.latency_s:
            await asyncio.sleep(behaviour.latency_s)
        message = answer(request, behaviour.answer, behaviour.oversize_bytes)
        if message is not None:
            with contextlib.suppress(ConnectionClosed):  # nobody is left to hear it
                for _ in range(2 if behaviour.answer == "twice" else 1):
                    await connection.send(message)

    async def obey(self, line: str) -> None:
        orders = json.loads(line)
        self.behaviour = replace(self.behaviour, **orders)
        if self.behaviour.close_code is not None:
            await asyncio.gather(*(each.close(self.behaviour.close_code) for each in list(self._open)))
        print(flush=True)


def _select(_connection: ServerConnection, offered: Sequence[Subprotocol]) -> Subprotocol | None:
    return offered[0] if offered else None


async def main(config: dict[str, Any]) -> None:
    recorder = Recorder(Path(config["folder"]), Behaviour(**config["behaviour"]))
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
        process_request=recorder.shake_hands,
        select_subprotocol=_select,
        compression=None,
        max_size=_MAX_MESSAGE_BYTES,
        close_timeout=0.5,
    ) as server:
        print(json.dumps({"port": server.sockets[0].getsockname()[1]}), flush=True)

        async def listen() -> None:
            while line := await orders.readline():
                await recorder.obey(line.decode())

        listening = asyncio.create_task(listen())
        await stop.wait()
        listening.cancel()


if __name__ == "__main__":
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
