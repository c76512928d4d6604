"""Compose file for a hub in a container that mounts the folder of cameras.yaml."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.errors import ConfigError
from nvision_hub.export import templates
from nvision_hub.export.variable_refs import file_keys, references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.config.server_addresses import ListenAddress
    from nvision_hub.errors import Diagnostic
    from nvision_hub.export.source_config import SourceConfig

BROKER: Final = "redis"  # name of the Compose service, which is also the host name of Redis
CONFIG_DIR: Final = "/etc/nvision-hub"
VOLUME: Final = "/var/lib/nvision-hub"
_LISTEN: Final = "0.0.0.0:8080"
_HEALTH: Final = "NVISION_HUB_HEALTH"  # variable of the image that holds the address of the container's health check


def render(source: SourceConfig, image: str) -> dict[str, Any]:
    """Return the Compose file. Raises `ConfigError` for settings that cannot work in a container."""
    files = references(source.data).files
    if diagnostics := [*_problems(source, files)]:
        raise ConfigError(diagnostics)
    has_broker = source.redis_host == BROKER
    # The container mounts the folder of cameras.yaml with all its files. Files outside this folder become Compose
    # secrets.
    secrets = file_keys(file for file in files if PurePosixPath(file).is_absolute())
    port = source.config.gateway.listen.port
    paths = (camera.url.path for camera in source.config.cameras if camera.url.kind == "usb")
    devices = [path if path.startswith("/") else f"/dev/video{path}" for path in paths]
    folder = str(source.path.absolute().parent).replace("$", "$$")
    (document,) = templates.documents(
        "compose.yaml",
        image=image,
        command=["start", f"{CONFIG_DIR}/{source.path.name}"],
        ports=[f"127.0.0.1:{port}:{port}"],
        volumes=[f"{folder}:{CONFIG_DIR}:ro", f"state:{VOLUME}"],
        environment=[*source.variables, *_health(source.config.gateway.health_listen)] or None,
        secret_mounts=[{"source": key, "target": file} for file, key in secrets.items()] or None,
        devices=[f"{path}:{path}" for path in devices] or None,
        groups=["video"] if devices else None,
        depends_on={BROKER: {"condition": "service_healthy"}} if has_broker else None,
        secrets={key: {"file": file} for file, key in secrets.items()} or None,
    )
    if not has_broker:
        del document["services"][BROKER], document["volumes"][BROKER]
    return document


def _health(listen: ListenAddress) -> Iterator[str]:
    """If the gateway has a separate listener for health checks, yield the variable that selects the listener."""
    if not listen.off:
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(listen.host, listen.host)  # noqa: S104 - no socket binds to it
        yield f"{_HEALTH}=http://{f'[{host}]' if ':' in host else host}:{listen.port}/healthz"


def _problems(source: SourceConfig, files: tuple[str, ...]) -> Iterator[Diagnostic]:
    if not source.text("gateway", "listen") or source.config.gateway.listen.loopback:
        message = "127.0.0.1 is not reachable from outside the container"
        fix = (
            f"write `listen: {_LISTEN}`, `token:` and `insecure: true` in `gateway` (Compose publishes the port only "
            "on this machine)"
        )
        yield source.diagnostic(message, fix, "gateway", "listen")
    if not source.uses_state_directory and not source.text("state_dir").startswith(f"{VOLUME}/"):
        message = f"only {VOLUME} persists after the container is removed"
        fix = "write `state_dir: ${STATE_DIRECTORY:-.nvision-hub}`; the image sets that variable"
        yield source.diagnostic(message, fix, "state_dir")
    for path in files:
        if ".." in PurePosixPath(path).parts:
            message = f"${{file:{path}}} is outside the folder of {source.path.name}, the only mounted folder"
            yield source.diagnostic(message, "move the file into that folder, or write its absolute path")
