"""Whether the Nvision service lets us in: a real handshake with the real key, for each service that a camera uses."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Final

from websockets.exceptions import WebSocketException

from nvision_hub.cli.checkup.finding import Finding, failed, ok, warning
from nvision_hub.errors import redact
from nvision_hub.wire import Options
from workers.camera.dial import Limits, Service, dial, hang_up
from workers.camera.refusal import Refusal, classify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from nvision_hub.config import Camera

SECOND_THOUGHTS_S: Final = 0.5  # a service may accept, and then close by its policy


def services(cameras: Sequence[Camera]) -> Iterator[Finding]:
    """One finding for each address and key among the cameras."""
    known = set()
    for camera in cameras:
        nvision = camera.nvision
        if nvision.url.local or nvision.streaming_key is None:
            asked: tuple[str, str] = ("local", nvision.service)
        else:
            asked = (nvision.url.stream(nvision.service), nvision.streaming_key.reveal())
        if asked in known:
            continue
        known.add(asked)
        where, key = asked
        if where == "local":
            yield ok("service", f"{nvision.service} comes with the hub")
        else:
            yield _asked(where, key, nvision.service)


def _asked(where: str, key: str, service: str) -> Finding:
    refusal = asyncio.run(_refusal(Service(url=where, key=key, options=Options())))
    if refusal is None:
        return ok("service", f"{redact(where)} is there and takes the key")
    sentence = redact(refusal.sentence)
    if refusal.reason in {"http_429", "http_503", "try_later"}:
        return warning("service", f"{sentence}; the hub tries again until it is not")
    return failed("service", sentence if ";" in sentence else f"{sentence}; check nvision.url, for {service}")


async def _refusal(service: Service) -> Refusal | None:
    """Why the service does not take us; None where it does."""
    limits = Limits()
    try:
        connection = await dial(service, limits)
        try:
            async with asyncio.timeout(SECOND_THOUGHTS_S):
                await connection.recv()
        except TimeoutError:  # it waits for our pictures, as it should
            pass
        finally:
            await hang_up(connection, limits)
    except (WebSocketException, OSError, TimeoutError, ImportError) as error:
        return classify(error, service.url, now=time.time())
    return None
