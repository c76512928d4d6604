"""Checks of the machine before the hub starts. They prevent child processes that would fail repeatedly."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import socket
from typing import TYPE_CHECKING, Final

from nvision_hub.broker import embedded_config as embedded_broker
from nvision_hub.broker.redis_check import check_redis
from nvision_hub.errors import UnavailableError
from nvision_hub.media import cv2_loader

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.models import Config
    from nvision_hub.config.server_addresses import ListenAddress
    from nvision_hub.hub.composition import HubPlan, PublicPlan

# Optional libraries: process that needs the library, module to import, error message.
_LIBRARIES: Final = (
    ("demo", "aio_rtsp_toolkit.server", "the demo cameras need aio-rtsp-toolkit; run pip install 'nvision-hub[demo]'"),
    ("mqtt", "aiomqtt", "the MQTT bridge needs aiomqtt; run pip install 'nvision-hub[mqtt]', or remove mqtt.url"),
)


def check_preflight(config: Config, plan: HubPlan) -> None:
    """Raise `UnavailableError` unless this machine meets all requirements of the plan."""
    check_libraries(plan)
    check_semaphores()
    if config.redis.url.embedded:
        embedded_broker.program()
    else:
        check_redis(config.redis)
    gateway = config.gateway
    if not gateway.listen.off:
        if "listen" in gateway.model_fields_set:
            _check_port(gateway.listen, "choose another gateway.listen, or remove gateway.listen to use any free port")
        _check_port(gateway.health_listen, "choose another gateway.health_listen")


def _check_port(listen: ListenAddress, fix: str) -> None:
    if listen.off or listen.port == 0:
        return
    family = socket.AF_INET6 if ":" in listen.host else socket.AF_INET
    try:
        socket.create_server((listen.host, listen.port), family=family).close()
    except OSError as error:
        raise UnavailableError(
            f"the gateway cannot listen on {listen.shown} ({error.strerror or error}); stop the program that uses "
            f"this address, {fix}"
        ) from error


def check_semaphores() -> None:
    """Raise `UnavailableError` if this machine lacks semaphores, which glibc keeps in /dev/shm (sem_overview(7))."""
    try:
        multiprocessing.get_context("fork").Lock()
    except OSError as error:
        raise UnavailableError(
            f"The directory /dev/shm cannot be written ({error.strerror or error}), and the hub's processes need "
            "semaphores there; mount a writable tmpfs at /dev/shm (for a container, use the option --tmpfs /dev/shm)"
        ) from error


def check_libraries(plan: HubPlan | PublicPlan) -> None:
    """Load the libraries that the planned processes need. Raises `UnavailableError`."""
    names = {child.name for child in plan.children}
    needs_opencv = bool(names & {"service", "demo"}) or plan.has_usb
    # Load OpenCV even if no process requires it, because it speeds up the processing of every camera's frames. All
    # processes share the memory of libraries that are loaded before the fork.
    with contextlib.nullcontext() if needs_opencv else contextlib.suppress(UnavailableError):
        cv2_loader.load()
    for text in missing_extras(plan):
        raise UnavailableError(text)


def missing_extras(plan: HubPlan | PublicPlan) -> Iterator[str]:
    """Load the optional libraries that the planned processes need. Yield a message for each missing library."""
    names = {child.name for child in plan.children}
    for name, module, text in _LIBRARIES:
        if name in names:
            try:
                importlib.import_module(module)
            except ImportError:
                yield text
