"""The running gateway: its parts put together, on one port, until asked to end."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from typing import TYPE_CHECKING, Final

from nvision_hub import __version__
from nvision_hub.broker import Publisher
from nvision_hub.errors import UnavailableError
from nvision_hub.link import status_basis
from nvision_hub.serving import base_url, listener, server
from nvision_hub.status import Meter, Promise, Status
from nvision_hub.usage import Usage
from workers.gateway import page
from workers.gateway.access import Access
from workers.gateway.application import HEALTH, application
from workers.gateway.asks import Asks
from workers.gateway.callback import Callback, CallbackSettings
from workers.gateway.desk import Desk
from workers.gateway.elsewhere import Elsewhere
from workers.gateway.feed import Feed
from workers.gateway.fleet import Fleet
from workers.gateway.health import Broker
from workers.gateway.live import Live
from workers.gateway.news import Newsdesk
from workers.gateway.snapshots import Snapshots
from workers.gateway.track import EVERY_S
from workers.gateway.watching import Watching

if TYPE_CHECKING:
    from nvision_hub.link import Command, Link
    from workers.gateway.gateway import GatewaySettings

log = logging.getLogger("nvision_hub.gateway")

LOOP_WITHIN_S: Final = 15.0
MESSAGE_MAX_BYTES: Final = 128 * 1024  # of a viewer, whose messages are lists of cameras
REDIS_WITHIN_S: Final = 1.0  # at a stop, for what is not yet published
# A viewer that is stopped keeps its connection open for ever otherwise, and a slow one sees what is minutes old.
USER_TIMEOUT_MS: Final = 20_000
SEND_BUFFER_BYTES: Final = 256 * 1024


async def serve(settings: GatewaySettings, link: Link) -> None:
    """Listen, answer and report until the link says to end. Raises `UnavailableError`."""
    listening = _listen(settings.host, settings.port)
    meter, fleet = Meter(), Fleet()
    elsewhere = None
    if settings.fleet is not None:

        def heed(told: Command) -> None:
            desk.heed(told)  # which asks through it, and so comes after it

        elsewhere = Elsewhere(settings.stream, settings.fleet, heed=heed, ask=link.ask)
    asks = Asks(link.ask if elsewhere is None else elsewhere.ask)
    publisher = Publisher(settings.stream, meter, settings.spool, of_many=True)
    feed, watching, broker = Feed(stream=settings.stream), Watching(asks, fleet), Broker(settings.stream)
    callback = Callback(
        CallbackSettings(token=settings.callback_token, max_bytes=settings.callback_max_bytes, site=settings.site),
        fleet=fleet,
        publisher=publisher,
        meter=meter,
        asks=asks,
    )
    desk = Desk(
        site=settings.site,
        version=__version__,
        redis_url=settings.stream.url,
        prefix=settings.stream.prefix,
        fleet=fleet,
        asks=asks,
        broker=broker,
        snapshots=Snapshots(asks=asks, feed=feed, watching=watching, stream=settings.stream),
        callback=callback,
    )
    files = page.files()
    access = Access(
        listen_host=settings.host,
        loopback=settings.loopback,
        token=settings.token,
        hosts=settings.hosts,
        open_paths=frozenset({*files, *HEALTH}),
    )
    live = Live(access=access, feed=feed, watching=watching, prefix=settings.stream.prefix, view=desk.view)
    serving = server(application(desk, live, access, files), ws_max_size=MESSAGE_MAX_BYTES)
    report = _Report(base_url("http", listening), meter, publisher, live)
    async with asyncio.TaskGroup() as group:
        group.create_task(serving.serve(sockets=[listening]))
        publishing = group.create_task(publisher.run())
        others = [
            group.create_task(task) for task in (feed.run(), watching.run(), broker.run(), callback.run(), live.run())
        ]
        others.append(group.create_task(_keep_tracks(fleet, Newsdesk(settings.site), publisher)))
        if elsewhere is not None:
            others.append(group.create_task(elsewhere.run(report.url)))
        await serving.listening.wait()
        log.info("the gateway answers at %s", report.url)
        await link.run(report, desk.heed)
        serving.should_exit = True
        await publisher.drain(REDIS_WITHIN_S)
        for task in (*others, publishing):
            task.cancel()
    link.report(report())


def _listen(host: str, port: int) -> socket.socket:
    try:
        listening = listener(host, port)
    except OSError as error:
        raise UnavailableError(
            f"the gateway cannot listen on {host} port {port} ({error.strerror or error}); stop what uses it, or "
            "choose another gateway.listen"
        ) from error
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, USER_TIMEOUT_MS)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
    return listening


async def _keep_tracks(fleet: Fleet, newsdesk: Newsdesk, publisher: Publisher) -> None:
    due = time.monotonic()
    while True:
        fleet.record(time.monotonic())
        for news in newsdesk.look(fleet, time.monotonic()):
            publisher.announce(news["camera"] or "", news)
        due = max(due + EVERY_S, time.monotonic())
        await asyncio.sleep(due - time.monotonic())


class _Report:
    """The gateway's status, as its supervisor is told once it listens."""

    def __init__(self, url: str, meter: Meter, publisher: Publisher, live: Live) -> None:
        self.url = url
        self._meter = meter
        self._publisher = publisher
        self._live = live
        self._usage = Usage(meter)

    def __call__(self) -> Status:
        now, meter = time.monotonic(), self._meter
        meter.gauge("results_waiting", self._publisher.results_waiting)
        self._usage.note()
        return Status(
            **status_basis("serving"),
            ready=True,
            error=self._publisher.error,
            promises={"event loop": Promise(at=now, within_s=LOOP_WITHIN_S)},
            metrics=meter.snapshot(),
            row={"url": self.url, "viewers": self._live.viewers},
        )
