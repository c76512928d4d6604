"""Plan of a hub: the processes that a configuration needs, and the addresses at which they reach each other."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final

from nvision_hub.broker.client import RedisSettings
from nvision_hub.broker.embedded_config import LOOPBACK
from nvision_hub.broker.embedded_users import BrokerUser
from nvision_hub.broker.spool import SpoolSettings
from nvision_hub.cluster.camera_lease import LeaseSettings
from nvision_hub.cluster.fleet_key import read_fleet_key
from nvision_hub.cluster.sealed_messages import FleetSeal
from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.errors import ConfigError, Diagnostic
from nvision_hub.hub.gateway_access import access_tokens, check_certificate
from nvision_hub.hub.ledger_plan import ledger_access, ledger_settings, usage_settings
from nvision_hub.hub.plan_warnings import plan_warnings
from nvision_hub.hub.resources import HubResources
from nvision_hub.hub.running_hubs import control_socket
from nvision_hub.hub.runtime_overrides import Overrides
from nvision_hub.hub.state_dir import CERTIFICATES, SPOOL_FILE, SPOOLS, Endpoints
from nvision_hub.nvision.connection import ServiceEndpoint
from nvision_hub.nvision.protocol import RequestOptions
from nvision_hub.runtime.messages import WebhooksFacts
from nvision_hub.runtime.process import ProcessSpec
from workers import gateway, webhooks
from workers.broker import worker as broker
from workers.camera import worker as camera_worker
from workers.camera.settings import CameraWorkerSettings, reconfigure
from workers.gateway.settings import FleetSettings, GatewaySettings, UsageSettings
from workers.ledger import worker as ledger_worker
from workers.mqtt import worker as mqtt
from workers.relay import worker as relay
from workers.webhooks.settings import WebhooksSettings

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from nvision_hub.cluster.identity import HubIdentity
    from nvision_hub.config.field_types import IncludePatterns
    from nvision_hub.config.models import Camera, Config, Nvision
    from nvision_hub.config.server_addresses import MqttAddress

STAGE_BROKER: Final = 0
# The peers stop after the cameras, because cameras connect to some peers and other peers read the cameras' results.
STAGE_PEERS: Final = 1
STAGE_CAMERAS: Final = 2
LOCAL_PORTS_FROM: Final = 8090
DEMO_PORTS_FROM: Final = 8554

# Spec of a peer for which no camera waits. After the peer becomes ready, it also receives earlier events.
_unawaited = partial(ProcessSpec, stage=STAGE_PEERS, awaited=False)


@dataclass(frozen=True, kw_only=True)
class HubPlan:
    children: tuple[ProcessSpec, ...]
    endpoints: Endpoints
    reader_url: str = field(repr=False)  # for programs that read results; with the reader's password if one exists
    resources: HubResources
    has_usb: bool  # whether the hub runs a USB camera, which needs OpenCV
    warnings: tuple[str, ...]  # about settings that have no effect on one machine, and about active overrides


@dataclass(frozen=True, kw_only=True)
class PublicPlan:
    """Plan without secrets, for the supervisor and the live table: a `HubPlan` whose children have `SealedSettings`."""

    path: Path  # of cameras.yaml
    include: IncludePatterns
    state_dir: Path
    children: tuple[ProcessSpec, ...]
    endpoints: Endpoints
    has_usb: bool
    warnings: tuple[str, ...]
    rejected_overrides: int  # number of stored run-time changes that were set aside


def plan(
    config: Config,
    *,
    only: Collection[str] = (),
    resources: HubResources | None = None,
    overrides: Overrides | None = None,
) -> HubPlan:
    """Return the plan for `config`. Starts no process and opens no connection.

    If `only` is not empty, the plan contains the cameras in `only`, the cameras that operators added at run time, and
    no other cameras. `resources` are the resources of a hub that is already running.

    Raises `ConfigError`, and `UnavailableError` if no port is free or the fleet key is unreadable.
    """
    resources, overrides = resources or HubResources(), overrides or Overrides()
    identity = resources.identity
    is_control = identity is not None and identity.is_control
    cameras = _selected_cameras(config, only, overrides)
    if is_control:
        cameras = []
    if config.redis.url.embedded:
        own = resources.broker(config)
        own_broker = [ProcessSpec(name="broker", stage=STAGE_BROKER, entry=broker.run, settings=own)]
        redis_url, redis_shown, redis_socket = own.url, own.public_url, str(own.socket_path)
        reader_url = own.user_url(BrokerUser.READER)
    else:
        own_broker = []
        redis_url, redis_shown, redis_socket = config.redis.dial(), config.redis.url.shown, None
        reader_url = redis_shown
    stream = RedisSettings(
        url=redis_url,
        prefix=config.redis.prefix,
        max_entries=config.redis.stream_max_entries,
        max_bytes=config.redis.stream_max_bytes,
    )
    local, demo = _local_service(cameras, resources), _demo(cameras, resources, config.state_dir)
    check_certificate(config)
    # In a fleet, only the control hub has a control socket. Commands reach each other hub through its relay.
    control = control_socket(config.state_dir) if identity is None or is_control else None
    limits = ledger_settings(config, cameras, identity)
    usage = None if limits is None else usage_settings(limits, config)
    is_served = not config.gateway.listen.off or control is not None
    serving = _gateway(config, stream, resources, control, usage) if is_served else None
    local_url = None if local is None else f"ws://{LOOPBACK}:{local.settings.port}/api"
    demo_port = None if demo is None else demo.settings.port
    peers = (
        local,
        demo,
        _webhooks(config, stream) if config.webhooks else None,
        None if config.mqtt.url is None else _mqtt(config, config.mqtt.url, stream),
        None if identity is None or is_control else _relay(identity, stream, _seal(config)),
        serving,
    )
    lease = None if identity is None else LeaseSettings(url=stream.url, prefix=stream.prefix, holder=identity.holder)
    # Cameras wait until the ledger is ready. Without it, they would withhold every frame.
    ledger = (
        None
        if limits is None
        else ProcessSpec(name="ledger", stage=STAGE_PEERS, entry=ledger_worker.run, settings=limits)
    )
    camera_specs = []
    for index, in_file in enumerate(cameras):
        camera = overrides.applied_to(in_file)
        settings = CameraWorkerSettings(
            camera=camera if demo_port is None else resolve_demo_camera(camera, demo_port),
            site=config.site,
            service=_service(camera.nvision, local_url, resources.service_key),
            stream=stream,
            spool=_spool(config, camera.id),
            certificates=config.state_dir / CERTIFICATES,
            camera_hosts=tuple(config.gateway.camera_hosts) if camera.address.kind == "onvif" else (),
            paused=camera.id in overrides.paused,
            lease=lease,
            ledger=None if limits is None else ledger_access(limits, camera),
            # A change of the time zone must not restart a camera without a schedule.
            time_zone=config.budget.zone_name if camera.schedule else "UTC",
        )
        spec = ProcessSpec(
            name=f"camera:{camera.id}",
            stage=STAGE_CAMERAS,
            entry=camera_worker.run,
            settings=settings,
            reconfigure=reconfigure,
            facts=overrides.facts(in_file, index),
        )
        camera_specs.append(spec)
    return HubPlan(
        children=(*own_broker, *(peer for peer in (*peers, ledger) if peer is not None), *camera_specs),
        endpoints=Endpoints(
            pid=os.getpid(),
            site=config.site,
            redis=redis_shown,
            redis_socket=redis_socket,
            prefix=config.redis.prefix,
            service=local_url,
            demo=None if demo_port is None else f"rtsp://{LOOPBACK}:{demo_port}",
            gateway=None if serving is None or config.gateway.listen.off else _base_url(serving.settings),
            redis_open=config.redis.url.embedded and config.redis.embedded_open,
            control=None if control is None else str(control),
            state_dir=str(config.state_dir.absolute()),
            config=str(config.path.absolute()),
        ),
        reader_url=reader_url,
        resources=resources,
        has_usb=any(camera.address.kind == "usb" for camera in cameras),
        warnings=tuple(plan_warnings(config, cameras, overrides, identity)),
    )


def _selected_cameras(config: Config, only: Collection[str], overrides: Overrides) -> list[Camera]:
    known = {camera.id for camera in config.cameras}
    if unknown := sorted(set(only) - known - set(overrides.removed)):
        message = f"no camera is called {', '.join(unknown)}"
        fix = f"choose from {', '.join(sorted(known))}"
        raise ConfigError([Diagnostic(code="unknown_camera", message=message, fix=fix, file=config.path.name)])
    return [camera for camera in config.cameras if not only or camera.id in {*only, *overrides.added}]


def _spool(config: Config, name: str) -> SpoolSettings:
    """Return the settings of a spool. `name` is a camera's id or a reserved name such as `@callback`."""
    return SpoolSettings(
        path=config.state_dir / SPOOLS / name / SPOOL_FILE,
        max_bytes=config.redis.spool_max_bytes,
        max_age_s=config.redis.spool_max_age,
    )


def _local_service(cameras: Sequence[Camera], resources: HubResources) -> ProcessSpec | None:
    local = [camera.nvision for camera in cameras if camera.nvision.url.local]
    if not local:
        return None
    from workers import local_service  # noqa: PLC0415 - only hubs that run the service load it
    from workers.local_service.settings import LocalServiceSettings  # noqa: PLC0415 - as above

    given = {nvision.streaming_key.reveal() for nvision in local if nvision.streaming_key is not None}
    keys, port = (resources.service_key, *sorted(given)), resources.port("service", LOCAL_PORTS_FROM)
    model, labels, face_model = local[0].model, local[0].labels, local[0].face_model
    settings = LocalServiceSettings(
        host=LOOPBACK, port=port, streaming_keys=keys, model=model, labels=labels, face_model=face_model
    )
    return ProcessSpec(name="service", stage=STAGE_PEERS, entry=local_service.run, settings=settings)


def _service(nvision: Nvision, local_url: str | None, local_key: str) -> ServiceEndpoint:
    is_local, given = nvision.url.local, nvision.streaming_key
    assert is_local or given is not None  # noqa: S101 - the configuration requires a key for a remote service
    return ServiceEndpoint(
        url=f"{local_url}/v1/{nvision.service}" if is_local else nvision.url.stream(nvision.service),
        key=local_key if given is None else given.reveal(),
        options=RequestOptions(
            confidence_threshold=nvision.confidence_threshold,
            output_cropped_image=nvision.output_cropped_image,
            output_visualized_image=nvision.output_visualized_image,
        ),
        direct=is_local,
    )


def _gateway(
    config: Config,
    stream: RedisSettings,
    resources: HubResources,
    control: Path | None,
    usage: UsageSettings | None,
) -> ProcessSpec:
    listen, health, identity = config.gateway.listen, config.gateway.health_listen, resources.identity
    # If a configured port is in use, the start fails. The hub chooses no other port, because a proxy, a firewall or a
    # bookmark may refer to the configured port.
    is_fixed = "listen" in config.gateway.model_fields_set and listen.port
    # The gateway of the control hub shows the cameras of the other hubs.
    if identity is not None and identity.is_control:
        cameras = tuple(camera.id for camera in config.cameras)
        fleet = FleetSettings(cameras=cameras, seal=_seal(config))
    else:
        fleet = None
    settings = GatewaySettings(
        host=listen.host,
        port=listen.port if is_fixed or listen.off else resources.port("gateway", listen.port),
        loopback=listen.loopback,
        health_host="" if listen.off else health.host,
        health_port=health.port,
        control=control,
        site=config.site,
        stream=stream,
        tokens=tuple(access_tokens(config.gateway)),
        state_dir=config.state_dir,
        proxy=config.gateway.proxy,
        tls=None if listen.off else config.gateway.tls,
        callback_token=config.gateway.callback_token or None,
        callback_max_bytes=config.gateway.callback_max_bytes,
        hosts=config.gateway.hosts,
        spool=_spool(config, "@callback"),
        usage=usage,
        fleet=fleet,
    )
    return _unawaited(name="gateway", entry=gateway.run, settings=settings, subscriber=True)


def _base_url(settings: GatewaySettings) -> str:
    """Return the gateway's address for programs on this machine."""
    host = {"0.0.0.0": LOOPBACK, "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - no socket binds to it
    scheme = "http" if settings.tls is None else "https"
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{settings.port}"


def _relay(identity: HubIdentity, stream: RedisSettings, seal: FleetSeal) -> ProcessSpec:
    """Return the spec of the process that publishes the supervisor's messages for the fleet's gateway."""
    settings = relay.RelaySettings(stream=stream, group=identity.group, holder=identity.holder, seal=seal)
    return _unawaited(name="relay", entry=relay.run, settings=settings, subscriber=True)


def _seal(config: Config) -> FleetSeal:
    return FleetSeal(key=read_fleet_key(config), site=config.site, prefix=config.redis.prefix)


def _webhooks(config: Config, stream: RedisSettings) -> ProcessSpec:
    settings = WebhooksSettings(webhooks=config.webhooks, stream=stream, site=config.site)
    facts = WebhooksFacts(webhooks=tuple(webhook.model_dump(mode="json") for webhook in config.webhooks))
    return _unawaited(name="webhooks", entry=webhooks.run, settings=settings, facts=facts)


def _mqtt(config: Config, address: MqttAddress, stream: RedisSettings) -> ProcessSpec:
    settings = mqtt.MqttSettings(
        address=address,
        username=config.mqtt.username,
        password=config.mqtt.password,
        prefix=config.mqtt.prefix,
        site=config.site,
        discovery=config.mqtt.discovery is not None,
        stream=stream,
    )
    # The bridge is a subscriber. Retained states are therefore correct even after the bridge restarts.
    return _unawaited(name="mqtt", entry=mqtt.run, settings=settings, subscriber=True)


def _demo(cameras: Sequence[Camera], resources: HubResources, state_dir: Path) -> ProcessSpec | None:
    scenes = tuple(sorted({camera.address.path for camera in cameras if camera.address.kind == "demo"}))
    if not scenes:
        return None
    from workers.demo import worker as demo  # noqa: PLC0415 - only hubs with demo cameras load this module

    port = resources.port("demo", DEMO_PORTS_FROM)
    settings = demo.DemoSettings(host=LOOPBACK, port=port, scenes=scenes, cache_dir=clip_cache(state_dir))
    return ProcessSpec(name="demo", stage=STAGE_PEERS, entry=demo.run, settings=settings)


def clip_cache(state_dir: Path) -> Path:
    """Return the directory for the clips of demo cameras.

    The directory is in the user's cache, which several hubs share. If the user has no home directory (as in some
    containers) or cannot write to the cache, the directory is in `state_dir`.
    """
    try:
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "nvision-hub"
    except RuntimeError:
        return state_dir / "demo"
    existing = next(each for each in (cache, *cache.parents) if os.access(each, os.F_OK))
    return cache if os.access(existing, os.W_OK | os.X_OK) else state_dir / "demo"


def resolve_demo_camera(camera: Camera, demo_port: int) -> Camera:
    """Return the camera. If it is a demo camera, set its URL to the RTSP URL on port `demo_port`."""
    if camera.address.kind != "demo":
        return camera
    from workers.demo import worker as demo  # noqa: PLC0415 - only hubs with demo cameras load this module

    return camera.model_copy(update={"url": CameraAddress.parse(demo.url(demo_port, camera.address.path))})
