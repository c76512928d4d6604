"""Checks that involve other machines: the Nvision service and its key, and the clocks of the service and of Redis."""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import replace
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final

import httpx2
from websockets.exceptions import WebSocketException

from nvision_hub.cli.checks import CheckResult, failed, passed, warning
from nvision_hub.cli.terminal import format_duration
from nvision_hub.nvision.connection import ClientTimeouts, ServiceEndpoint, close_connection, open_connection
from nvision_hub.nvision.errors import ConnectionFailure, classify
from nvision_hub.nvision.protocol import RequestOptions
from nvision_hub.redaction import redact

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from nvision_hub.config.models import Camera
    from nvision_hub.config.server_addresses import ServiceAddress

CLOSE_WAIT_S: Final = 0.5  # a service may accept a connection and then close it, for example because it rejects the key
DATE_TIMEOUT_S: Final = 5.0
MAX_OFFSET_S: Final = 5.0
_DATE_RESOLUTION_S: Final = 1.0  # RFC 9110, 5.6.7: the Date header has whole seconds


def check_services(cameras: Sequence[Camera]) -> Iterator[CheckResult]:
    """Connect once with each pair of service address and key that the cameras use, and yield one result per pair.

    The local service passes without a connection attempt.
    """
    services: dict[tuple[str, str], str] = {}
    for nvision in (camera.nvision for camera in cameras):
        if nvision.url.local or nvision.streaming_key is None:
            services["", nvision.service] = nvision.service
        else:
            services[nvision.url.stream(nvision.service), nvision.streaming_key.reveal()] = nvision.service
    for (url, key), service in services.items():
        if not url:
            yield passed("service", f"{service} runs locally, as part of the hub")
            continue
        failure = asyncio.run(_try_connection(ServiceEndpoint(url=url, key=key, options=RequestOptions())))
        sentence = "" if failure is None else redact(failure.message)
        if failure is None:
            yield passed("service", f"{redact(url)} accepts the key")
        elif failure.reason in {"http_429", "http_503", "try_later"}:
            yield warning("service", f"{sentence}; the hub retries automatically")
        else:
            yield failed("service", sentence if ";" in sentence else f"{sentence}; check nvision.url for {service}")


async def _try_connection(service: ServiceEndpoint) -> ConnectionFailure | None:
    """Return the failure if the service refuses or closes the connection; None if the connection stays open."""
    timeouts = ClientTimeouts()
    try:
        connection = await open_connection(service, timeouts)
        try:
            with contextlib.suppress(TimeoutError):  # a timeout means that the connection is still open
                await asyncio.wait_for(connection.recv(), CLOSE_WAIT_S)
        finally:
            await close_connection(connection, timeouts)
    except (WebSocketException, OSError, ImportError) as error:
        return classify(error, service.url, now=time.time())
    return None


def check_clock(ahead_s: Mapping[str, float]) -> CheckResult:
    """Compare this machine's clock, which sets event times, with the clocks of other machines.

    `ahead_s` maps the name of each other machine to the number of seconds by which its clock is ahead.
    """
    if not ahead_s:
        return passed("clock", "not compared, because no other machine reports its time")
    peer, offset_s = max(ahead_s.items(), key=lambda item: abs(item[1]))
    if abs(offset_s) <= MAX_OFFSET_S:
        return passed("clock", f"agrees with {', '.join(ahead_s)}")
    direction = "behind" if offset_s > 0 else "ahead of"
    return warning(
        "clock",
        f"this machine's clock is {format_duration(abs(offset_s))} {direction} {peer}, so event times are misleading; "
        "correct the wrong clock (`timedatectl set-ntp true` synchronizes it automatically)",
    )


def service_offset_s(address: ServiceAddress) -> float | None:
    """Return how many seconds the service's clock is ahead of this machine's clock, according to an HTTP Date header.

    The result is None if the service is local, the request fails, or the response has no valid Date header.
    """
    if address.local:
        return None
    url = replace(address, scheme="https" if address.scheme == "wss" else "http").dial()
    before = time.time()
    try:
        response = httpx2.get(url, timeout=DATE_TIMEOUT_S)
        date = parsedate_to_datetime(response.headers["Date"]).timestamp()
    except (httpx2.HTTPError, httpx2.InvalidURL, KeyError, ValueError):
        return None
    return date + _DATE_RESOLUTION_S / 2 - (before + time.time()) / 2
