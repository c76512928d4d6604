"""Composition: which processes a configuration needs, where each finds the others, and what must be there before any.

Whatever is already wrong when the hub starts (a port in use, no Redis, a library missing) is said here, at once and
by the process that the user called, instead of by a child that fails again and again.
"""

from __future__ import annotations

import contextlib
import fcntl
import gc
import importlib
import json
import multiprocessing
import os
import secrets
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import redis
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, RedisError
from redis.retry import Retry

from nvision_hub import opencv
from nvision_hub.broker import EmbeddedBroker
from nvision_hub.broker import embedded as embedded_broker
from nvision_hub.broker.publisher import Stream
from nvision_hub.child import ChildSpec
from nvision_hub.config import CameraAddress
from nvision_hub.errors import ConfigError, UnavailableError
from nvision_hub.supervisor import Supervisor
from nvision_hub.wire import Options
from workers.broker import broker
from workers.camera import camera as camera_worker
from workers.camera.uplink import Service

if TYPE_CHECKING:
    import signal
    from collections.abc import Callable, Collection, Iterator, Sequence

    from nvision_hub.config import Camera, Config, Nvision
    from nvision_hub.supervisor import Member

LOOPBACK: Final = "127.0.0.1"
STAGE_BROKER: Final = 0
STAGE_PEERS: Final = 1  # the local service and the demo cameras: what cameras connect to
STAGE_CAMERAS: Final = 2
LOCAL_PORTS_FROM: Final = 8090
DEMO_PORTS_FROM: Final = 8554
REDIS_WITHIN_S: Final = 5.0


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a running hub can be reached, as it leaves it in `state_dir/hub.json` for the other verbs."""

    pid: int
    site: str
    redis: str  # without a password: a verb that needs it has the same cameras.yaml
    prefix: str
    service: str | None  # the local service's base address; None where there is none
    demo: str | None


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to run."""

    children: tuple[ChildSpec, ...]
    addresses: Addresses


def plan(config: Config, *, only: Collection[str] = ()) -> Plan:
    """The processes for `config`, or for the cameras of `only` where it names any.

    Picks free ports on loopback; starts and opens nothing. Raises `ConfigError` for an unknown camera in `only`,
    `UnavailableError` where no port is free.
    """
    cameras = _chosen(config, only)
    children: list[ChildSpec] = []
    if config.redis.url.embedded:
        port = config.redis.embedded_port
        own = EmbeddedBroker(directory=config.state_dir / "broker", port=embedded_broker.free_port(port))
        children.append(ChildSpec(name="broker", stage=STAGE_BROKER, entry=broker.run, settings=own))
        redis_url, redis_shown = own.url, own.public_url
    else:
        redis_url, redis_shown = config.redis.url.dial(), config.redis.url.shown
    local = _local_service(cameras)
    if local is not None:
        children.append(local.child)
    demo_port = None
    if any(camera.address.kind == "demo" for camera in cameras):
        demo_port = embedded_broker.free_port(DEMO_PORTS_FROM)
        children.append(_demo(cameras, demo_port))
    stream = Stream(url=redis_url, prefix=config.redis.prefix, max_entries=config.redis.stream_max_entries)
    for camera in cameras:
        settings = camera_worker.CameraSettings(
            camera=camera if demo_port is None else _dialled(camera, demo_port),
            site=config.site,
            service=_service(camera.nvision, local),
            stream=stream,
        )
        children.append(
            ChildSpec(name=f"camera:{camera.id}", stage=STAGE_CAMERAS, entry=camera_worker.run, settings=settings)
        )
    addresses = Addresses(
        pid=os.getpid(),
        site=config.site,
        redis=redis_shown,
        prefix=config.redis.prefix,
        service=None if local is None else local.base,
        demo=None if demo_port is None else f"rtsp://{LOOPBACK}:{demo_port}",
    )
    return Plan(children=tuple(children), addresses=addresses)


def _chosen(config: Config, only: Collection[str]) -> list[Camera]:
    known = {camera.id for camera in config.cameras}
    if unknown := sorted(set(only) - known):
        raise ConfigError(
            [f"{config.path.name}: no camera is called {', '.join(unknown)}; there are {', '.join(sorted(known))}"]
        )
    return [camera for camera in config.cameras if not only or camera.id in only]


@dataclass(frozen=True, kw_only=True)
class _LocalService:
    child: ChildSpec
    base: str
    key: str


def _local_service(cameras: Sequence[Camera]) -> _LocalService | None:
    """The service for the cameras whose nvision.url is `local`; None where there is no such camera."""
    theirs = [camera.nvision for camera in cameras if camera.nvision.url.local]
    if not theirs:
        return None
    from workers.service import service  # noqa: PLC0415 - its web server is only for those who run it

    port = embedded_broker.free_port(LOCAL_PORTS_FROM)
    given = {nvision.streaming_key.reveal() for nvision in theirs if nvision.streaming_key is not None}
    key = secrets.token_hex(32)
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


def check_surroundings(config: Config, chosen: Plan) -> None:
    """Raise `UnavailableError` for what a start needs and this machine lacks."""
    names = {child.name for child in chosen.children}
    if names & {"service", "demo"} or any(camera.address.kind == "usb" for camera in config.cameras):
        opencv.load()
    if "demo" in names:
        try:
            importlib.import_module("aio_rtsp_toolkit.server")
        except ImportError as error:
            raise UnavailableError(
                "the demo cameras need aio-rtsp-toolkit; `pip install 'nvision-hub[demo]'` brings it"
            ) from error
    if config.redis.url.embedded:
        embedded_broker.program()
    else:
        _ask_redis(config)


def _ask_redis(config: Config) -> None:
    where = config.redis.url.shown
    client = redis.Redis.from_url(
        config.redis.url.dial(),
        socket_timeout=REDIS_WITHIN_S,
        socket_connect_timeout=REDIS_WITHIN_S,
        retry=Retry(NoBackoff(), 0),
    )
    with contextlib.closing(client):
        try:
            client.ping()
        except AuthenticationError as error:
            raise UnavailableError(f"Redis at {where} refused the password; correct redis.url") from error
        except (RedisError, OSError) as error:
            raise UnavailableError(
                f"no Redis answers at {where}; start it, correct redis.url, or use redis.url: embedded"
            ) from error


def start(
    config: Config,
    chosen: Plan,
    *,
    watch: Callable[[Sequence[Member]], None] | None = None,
) -> signal.Signals:
    """Run `chosen` until SIGTERM or SIGINT; returns which of them it was, when nothing of it is left.

    Raises `UnavailableError` where another hub uses the same state_dir or something is missing.
    """
    multiprocessing.set_start_method("fork", force=True)
    with _sole_use(config.state_dir):
        check_surroundings(config, chosen)
        file = config.state_dir / "hub.json"
        file.write_text(json.dumps(asdict(chosen.addresses)), encoding="utf-8")
        # What is loaded now stays: frozen, the collector's visits copy none of its pages into the children.
        gc.collect()
        gc.freeze()
        try:
            return Supervisor(chosen.children, watch=watch).run()
        finally:
            file.unlink(missing_ok=True)


@contextlib.contextmanager
def _sole_use(state_dir: Path) -> Iterator[None]:
    """Hold `state_dir`: made 0700 where it is missing, and refused to a second hub."""
    os.umask(0o077)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = (state_dir / "hub.lock").open("a")
    except OSError as error:
        raise UnavailableError(
            f"state_dir {state_dir} cannot be written ({error.strerror}); choose another one, or mend its rights"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            running = addresses_of(state_dir)
            raise UnavailableError(
                f"another hub{f' (pid {running.pid})' if running else ''} uses {state_dir}; "
                "end it, or give this one a state_dir of its own"
            ) from error
        yield


def addresses_of(state_dir: Path) -> Addresses | None:
    """Where the hub that uses `state_dir` can be reached; None where none runs."""
    try:
        addresses = Addresses(**json.loads((state_dir / "hub.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
    try:
        os.kill(addresses.pid, 0)
    except ProcessLookupError:  # a hub that was killed leaves its file behind
        return None
    except PermissionError:  # it lives, and is another user's
        pass
    return addresses
