"""The Compose file that runs a cameras.yaml in a container, from the folder that it lies in."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.config.tree import Scalar
from nvision_hub.config.url import parse
from nvision_hub.config.variables import REFERENCE
from nvision_hub.errors import ConfigError
from nvision_hub.render.references import file_keys, references

if TYPE_CHECKING:
    from nvision_hub.render.manuscript import Manuscript

BROKER: Final = "redis"  # the service's name, and so its host's
BROKER_IMAGE: Final = "valkey/valkey:9-alpine"
CONFIG_DIR: Final = "/etc/nvision-hub"
VOLUME: Final = "/var/lib/nvision-hub"
_LISTEN: Final = "0.0.0.0:8080"


def render(manuscript: Manuscript, image: str) -> dict[str, Any]:
    """The Compose file. Raises `ConfigError` for what means something else inside of a container."""
    _check(manuscript)
    own_broker = _broker(manuscript)
    services = {"hub": _hub(manuscript, image, own_broker=own_broker)}
    volumes: dict[str, Any] = {"state": {}}
    if own_broker:
        services[BROKER] = broker()
        volumes[BROKER] = {}
    asked = references(manuscript.tree)
    keys = file_keys(_outside(asked.files))
    secrets = {key: {"file": file} for file, key in keys.items()}
    return {"services": services, **({"secrets": secrets} if secrets else {}), "volumes": volumes}


def broker() -> dict[str, Any]:
    """The broker's service: durable, and reachable for the others only."""
    return {
        "image": BROKER_IMAGE,
        "command": ["valkey-server", "--appendonly", "yes", "--dir", "/data"],
        "restart": "unless-stopped",
        "volumes": [f"{BROKER}:/data"],
        "healthcheck": {"test": ["CMD", "valkey-cli", "ping"], "interval": "5s", "timeout": "3s", "retries": 5},
        "read_only": True,
        "cap_drop": ["ALL"],
        "cap_add": [
            "SETGID",
            "SETUID",
            "CHOWN",
        ],  # the image's entry point takes the volume, then another user's rights
        "security_opt": ["no-new-privileges:true"],
    }


def _hub(manuscript: Manuscript, image: str, *, own_broker: bool) -> dict[str, Any]:
    asked = references(manuscript.tree)
    variables = sorted(set(asked.variables) - manuscript.names_made - {"STATE_DIRECTORY"})
    outside = file_keys(_outside(asked.files))
    port = manuscript.config.gateway.listen.port
    devices = [f"{path}:{path}" for path in _devices(manuscript)]
    hub: dict[str, Any] = {
        "image": image,
        "command": ["start", f"{CONFIG_DIR}/{manuscript.path.name}"],
        "init": True,  # reaps what a broker that was killed would leave behind
        "restart": "unless-stopped",
        "stop_grace_period": "20s",
        "ports": [f"127.0.0.1:{port}:{port}"],
        # The folder, not the file: an editor puts a new file in the old one's place, which a mounted file never shows.
        "volumes": [f"{_compose(manuscript.path.absolute().parent)}:{CONFIG_DIR}:ro", f"state:{VOLUME}"],
        "tmpfs": ["/tmp"],  # noqa: S108 - of the container
        "read_only": True,
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
    }
    if variables:
        hub["environment"] = variables  # as they are where Compose is called, or in .env
    if outside:
        hub["secrets"] = [{"source": key, "target": file} for file, key in outside.items()]
    if devices:
        hub |= {"devices": devices, "group_add": ["video"]}
    if own_broker:
        hub["depends_on"] = {BROKER: {"condition": "service_healthy"}}
    return hub


def _check(manuscript: Manuscript) -> None:
    config, file = manuscript.config, manuscript.path.name
    problems = []
    listen = manuscript.tree.at(("gateway", "listen"))
    if not isinstance(listen, Scalar) or config.gateway.listen.loopback:
        problems.append(
            f"{file}: gateway.listen: 127.0.0.1 is the container itself, where nobody is; write "
            f"`listen: {_LISTEN}` and a `token:` beside it (the port is published on this machine alone)"
        )
    state = manuscript.tree.child("state_dir")
    text = state.text if isinstance(state, Scalar) and state.text else ""
    found = REFERENCE.fullmatch(text)
    if not (found and found["name"] == "STATE_DIRECTORY") and not text.startswith(f"{VOLUME}/"):
        problems.append(
            f"{file}: state_dir: only {VOLUME} outlives the container; write "
            "`state_dir: ${STATE_DIRECTORY:-.nvision-hub}`, which is there in the image and beside the file elsewhere"
        )
    problems += [
        f"{file}: ${{file:{path}}}: leaves the folder of {file}, the only one that the container sees; "
        "move the file there, or give its absolute path"
        for path in references(manuscript.tree).files
        if ".." in PurePosixPath(path).parts
    ]
    if problems:
        raise ConfigError(problems)


def _broker(manuscript: Manuscript) -> bool:
    """Whether the file names the broker that a Compose file can bring along."""
    node = manuscript.tree.at(("redis", "url"))
    text = node.text if isinstance(node, Scalar) and node.text else ""
    try:
        return "://" in text and parse(REFERENCE.sub("x", text)).host == BROKER
    except ValueError:
        return False


def _outside(files: tuple[str, ...]) -> tuple[str, ...]:
    """Those that do not lie beside cameras.yaml, and so have to be mounted."""
    return tuple(file for file in files if PurePosixPath(file).is_absolute())


def _devices(manuscript: Manuscript) -> list[str]:
    found = (camera.url.path for camera in manuscript.config.cameras if camera.url.kind == "usb")
    return [path if path.startswith("/") else f"/dev/video{path}" for path in found]


def _compose(path: object) -> str:
    return str(path).replace("$", "$$")
