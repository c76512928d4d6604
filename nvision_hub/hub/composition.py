"""Which processes a configuration needs, and where each finds the others. Starts nothing and opens nothing."""

from __future__ import annotations

import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.broker import EmbeddedBroker
from nvision_hub.broker import embedded as embedded_broker
from nvision_hub.broker.connection import Stream
from nvision_hub.broker.lease import LeaseSettings
from nvision_hub.broker.spool import SpoolPlace
from nvision_hub.child import ChildSpec
from nvision_hub.config import CameraAddress
from nvision_hub.errors import ConfigError
from nvision_hub.hub import not_yet
from nvision_hub.hub.addresses import Addresses
from nvision_hub.hub.run_time import RunTime
from nvision_hub.wire import Options
from workers.broker import broker
from workers.camera import camera as camera_worker
from workers.camera.dial import Service
from workers.gateway import gateway
from workers.mqtt import mqtt
from workers.relay import relay
from workers.webhooks import webhooks

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nvision_hub.config import Camera, Config, Mqtt, MqttAddress, Nvision
    from nvision_hub.part import Part

LOOPBACK: Final = "127.0.0.1"
STAGE_BROKER: Final = 0
STAGE_PEERS: Final = 1  # what cameras connect to, and what reads their results: stopped after them
STAGE_CAMERAS: Final = 2
LOCAL_PORTS_FROM: Final = 8090
DEMO_PORTS_FROM: Final = 8554


@dataclass(kw_only=True)
class Places:
    """What a hub keeps for as long as it runs: its part in a fleet, and ports and keys, chosen when first needed."""

    service_key: str = field(default_factory=lambda: secrets.token_hex(32), repr=False)
    ports: dict[str, embedded_broker.PortClaim] = field(default_factory=dict)
    part: Part | None = None  # None: the cameras are all its own

    def port(self, of: str, wanted: int) -> int:
        """The port of one server: `wanted`, or the next free one. Raises `UnavailableError` where none is free."""
        if of not in self.ports:
            self.ports[of] = embedded_broker.claim_port(wanted)
        return self.ports[of].port


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to run."""

    children: tuple[ChildSpec, ...]
    addresses: Addresses
    places: Places
    has_usb: bool  # a camera of this machine, for which OpenCV is needed
    warnings: tuple[str, ...]  # what the configuration asks for and does not get, a sentence each


def plan(
    config: Config, *, only: Collection[str] = (), places: Places | None = None, run_time: RunTime | None = None
) -> Plan:
    """The processes for `config`, or for the cameras of `only` where it names any, and those added at run time.

    `places` are those of a hub that runs already. Starts and opens nothing. Raises `ConfigError` for what cannot run,
    `UnavailableError` where no port is free.
    """
    places = places or Places()
    run_time = run_time or RunTime()
    part = places.part
    named = _chosen(config, only, run_time)
    cameras = [] if part is not None and part.controls else named
    warnings = not_yet.warnings(config, cameras)
    if run_time:
        warnings.append(f"changed at run time, and still so: {run_time.told()}")
    children: list[ChildSpec] = []
    if config.redis.url.embedded:
        port = places.port("broker", config.redis.embedded_port)
        own = EmbeddedBroker(directory=config.state_dir / "broker", port=port)
        children.append(ChildSpec(name="broker", stage=STAGE_BROKER, entry=broker.run, settings=own))
        redis_url, redis_shown = own.url, own.public_url
    else:
        redis_url, redis_shown = config.redis.url.dial(), config.redis.url.shown
    local = _local_service(cameras, places)
    if local is not None:
        children.append(local.child)
    demo_port = None
    if any(camera.address.kind == "demo" for camera in cameras):
        demo_port = places.port("demo", DEMO_PORTS_FROM)
        children.append(_demo(cameras, demo_port))
    stream = Stream(url=redis_url, prefix=config.redis.prefix, max_entries=config.redis.stream_max_entries)
    if config.webhooks:
        children.append(_webhooks(config, stream))
    if config.mqtt.url is not None:
        children.append(_mqtt(config.mqtt, config.mqtt.url, config.site, stream))
    if part is not None and not part.controls:
        children.append(_relay(part, stream))
    serving = None if config.gateway.listen.off else _gateway(config, stream, places)
    if serving is not None:
        children.append(serving)
    for index, of_file in enumerate(cameras):
        camera = run_time.camera(of_file)
        settings = camera_worker.CameraSettings(
            camera=camera if demo_port is None else _dialled(camera, demo_port),
            site=config.site,
            service=_service(camera.nvision, local),
            stream=stream,
            dial_dir=config.state_dir / "dial",
            turns=config.state_dir / "uplink-turns",
            spool=spool_place(config, camera.id),
            paused=camera.id in run_time.paused,
            lease=None if part is None else _lease(part, stream),
        )
        children.append(
            ChildSpec(
                name=f"camera:{camera.id}",
                stage=STAGE_CAMERAS,
                entry=camera_worker.run,
                settings=settings,
                retune=camera_worker.retune,
                facts={**run_time.facts(of_file), "index": index},
            )
        )
    addresses = Addresses(
        pid=os.getpid(),
        site=config.site,
        redis=redis_shown,
        prefix=config.redis.prefix,
        service=None if local is None else local.base,
        demo=None if demo_port is None else f"rtsp://{LOOPBACK}:{demo_port}",
        gateway=None if serving is None else _base(serving.settings.host, serving.settings.port),
    )
    return Plan(
        children=tuple(children),
        addresses=addresses,
        places=places,
        has_usb=any(camera.address.kind == "usb" for camera in cameras),
        warnings=tuple(warnings),
    )


def _chosen(config: Config, only: Collection[str], run_time: RunTime) -> list[Camera]:
    known = {camera.id for camera in config.cameras}
    if unknown := sorted(set(only) - known - set(run_time.removed)):
        raise ConfigError(
            [f"{config.path.name}: no camera is called {', '.join(unknown)}; there are {', '.join(sorted(known))}"]
        )
    wanted = {*only, *run_time.added}
    return [camera for camera in config.cameras if not only or camera.id in wanted]


def spool_place(config: Config, name: str) -> SpoolPlace:
    """Where results wait for Redis: a camera's by its id, others' by a name that no camera can have, `@callback`."""
    return SpoolPlace(
        path=config.state_dir / "spool" / f"{name}.sqlite3",
        max_bytes=config.redis.spool_max_bytes,
        max_age_s=config.redis.spool_max_age,
    )


@dataclass(frozen=True, kw_only=True)
class _LocalService:
    child: ChildSpec
    base: str
    key: str


def _local_service(cameras: Sequence[Camera], places: Places) -> _LocalService | None:
    """The service for the cameras whose nvision.url is `local`; None where there is no such camera."""
    theirs = [camera.nvision for camera in cameras if camera.nvision.url.local]
    if not theirs:
        return None
    from workers.service import service  # noqa: PLC0415 - its web server is only for those who run it

    port = places.port("service", LOCAL_PORTS_FROM)
    given = {nvision.streaming_key.reveal() for nvision in theirs if nvision.streaming_key is not None}
    key = places.service_key
    settings = service.ServiceSettings(host=LOOPBACK, port=port, streaming_keys=(key, *sorted(given)))
    return _LocalService(
        child=ChildSpec(name="service", stage=STAGE_PEERS, entry=service.run, settings=settings),
        base=f"ws://{LOOPBACK}:{port}/api",
        key=key,
    )


def _service(nvision: Nvision, local: _LocalService | None) -> Service:
    options = Options(
        confidence_threshold=nvision.confidence_threshold,
        output_cropped_image=nvision.output_cropped_image,
        output_visualized_image=nvision.output_visualized_image,
    )
    if nvision.url.local:
        assert local is not None  # noqa: S101 - plan() makes it for exactly these cameras
        key = local.key if nvision.streaming_key is None else nvision.streaming_key.reveal()
        return Service(url=f"{local.base}/v1/{nvision.service}", key=key, options=options, direct=True)
    assert nvision.streaming_key is not None  # noqa: S101 - the configuration demands it
    return Service(url=nvision.url.stream(nvision.service), key=nvision.streaming_key.reveal(), options=options)


def _gateway(config: Config, stream: Stream, places: Places) -> ChildSpec:
    """Page, API, metrics and callback; no camera waits for it."""
    listen = config.gateway.listen
    # A port that somebody has chosen is that one or none: a proxy, a firewall or a bookmark may know it.
    chosen = "listen" in config.gateway.model_fields_set and listen.port
    settings = gateway.GatewaySettings(
        host=listen.host,
        port=listen.port if chosen else places.port("gateway", listen.port),
        loopback=listen.loopback,
        site=config.site,
        stream=stream,
        token=config.gateway.token or None,
        callback_token=config.gateway.callback_token or None,
        callback_max_bytes=config.gateway.callback_max_bytes,
        hosts=config.gateway.hosts,
        spool=spool_place(config, "@callback"),
        fleet=_fleet(config, places.part),
    )
    return ChildSpec(
        name="gateway", stage=STAGE_PEERS, entry=gateway.run, settings=settings, awaited=False, overseer=True
    )


def _lease(part: Part, stream: Stream) -> LeaseSettings:
    return LeaseSettings(url=stream.url, prefix=stream.prefix, holder=part.holder)


def _relay(part: Part, stream: Stream) -> ChildSpec:
    """Tells the gateway of the fleet what the supervisor tells a gateway of its own; no camera waits for it."""
    settings = relay.RelaySettings(stream=stream, group=part.group, holder=part.holder)
    return ChildSpec(name="relay", stage=STAGE_PEERS, entry=relay.run, settings=settings, awaited=False, overseer=True)


def _fleet(config: Config, part: Part | None) -> tuple[str, ...] | None:
    """The cameras that other hubs run and this one's gateway shows; None where there are no other hubs."""
    return tuple(camera.id for camera in config.cameras) if part is not None and part.controls else None


def _base(host: str, port: int) -> str:
    """The gateway's address for programs of this machine."""
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - compared, not bound
        host = LOOPBACK if host == "0.0.0.0" else "::1"  # noqa: S104 - likewise
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"


def _webhooks(config: Config, stream: Stream) -> ChildSpec:
    """The dispatcher; no camera waits for it: what comes before it is ready is delivered then."""
    return ChildSpec(
        name="webhooks",
        stage=STAGE_PEERS,
        entry=webhooks.run,
        settings=webhooks.WebhooksSettings(webhooks=config.webhooks, stream=stream, site=config.site),
        awaited=False,
        facts={"webhooks": [webhook.model_dump(mode="json") for webhook in config.webhooks]},
    )


def _mqtt(section: Mqtt, address: MqttAddress, site: str, stream: Stream) -> ChildSpec:
    settings = mqtt.MqttSettings(
        address=address,
        username=section.username,
        password=section.password,
        prefix=section.prefix,
        site=site,
        discovery=section.discovery is not None,
        stream=stream,
    )
    # It hears of the cameras as the gateway does: what a retained state says has to be true after its own restart, too.
    return ChildSpec(name="mqtt", stage=STAGE_PEERS, entry=mqtt.run, settings=settings, awaited=False, overseer=True)


def _demo(cameras: Sequence[Camera], port: int) -> ChildSpec:
    from workers.demo import demo  # noqa: PLC0415 - only for those who have demo cameras

    scenes = tuple(sorted({camera.address.place for camera in cameras if camera.address.kind == "demo"}))
    if unknown := sorted(set(scenes) - set(demo.SCENES)):
        raise ConfigError(
            [f"no demo camera is called {', '.join(unknown)}; there are demo://{', demo://'.join(demo.SCENES)}"]
        )
    settings = demo.DemoSettings(host=LOOPBACK, port=port, scenes=scenes, cache_dir=cache_dir())
    return ChildSpec(name="demo", stage=STAGE_PEERS, entry=demo.run, settings=settings)


def _dialled(camera: Camera, demo_port: int) -> Camera:
    """The camera as its worker connects to it: a demo camera is an RTSP camera like any other."""
    if camera.address.kind != "demo":
        return camera
    from workers.demo import demo  # noqa: PLC0415 - only for those who have demo cameras

    return camera.model_copy(update={"url": CameraAddress.parse(demo.url(demo_port, camera.address.place))})


def cache_dir() -> Path:
    """Where what can be made again is kept: XDG_CACHE_HOME or ~/.cache."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nvision-hub"
