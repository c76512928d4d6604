"""Fleet key: a secret that the hubs of a fleet and their operators share. Redis never stores this key.

If several machines run hubs, `redis.fleet_key` in cameras.yaml contains the key. Without this setting, the Ray engine
creates a key in the state_dir, where commands on the same machine read it.
"""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING, Final

from nvision_hub.cluster.sealed_messages import NO_KEY
from nvision_hub.config.value_types import Secret
from nvision_hub.errors import UnavailableError
from nvision_hub.redaction import register_secrets

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config.models import Config

FILE: Final = "fleet.key"
KEY_BYTES: Final = 32
MAX_FILE_BYTES: Final = 1024
_OTHERS: Final = 0o077  # permission bits of the group and of other users


def read_fleet_key(config: Config) -> Secret | None:
    """Return the fleet key from the configuration or from its state_dir; None if there is none.

    Raises `UnavailableError` if the file exists but is unreadable, or if other users can read it.
    """
    return config.redis.fleet_key or _stored_key(config.state_dir / FILE)


def missing_fleet_key(config: Config, *, is_in_fleet: bool) -> str | None:
    """Return a message that explains how to configure the fleet key; None if a key exists or none is needed.

    `is_in_fleet` states whether this hub is one of several hubs. Raises `UnavailableError` like `read_fleet_key`.
    """
    is_placed = any(camera.placement for camera in config.cameras)
    if config.redis.url.embedded or not (is_in_fleet or is_placed) or read_fleet_key(config) is not None:
        return None
    if is_in_fleet:
        return f"redis.fleet_key is not set, so this hub refuses commands that arrive through Redis; {NO_KEY}"
    return (
        "redis.fleet_key is not set: --engine ray then creates a key in state_dir, and commands such as `pause` work "
        "only with that state_dir; set redis.fleet_key to use commands on other machines"
    )


def create_fleet_key(state_dir: Path) -> Secret:
    """Create a key in the state_dir unless the state_dir already has one. Return the key. Raises `UnavailableError`."""
    file = state_dir / FILE
    draft = file.with_suffix(f".{secrets.token_hex(8)}")
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="ascii") as opened:
            opened.write(secrets.token_urlsafe(KEY_BYTES))
        try:
            os.link(draft, file)  # unlike a rename, a link never replaces the key of another driver
        except FileExistsError:
            pass
        finally:
            draft.unlink()
    except OSError as error:
        raise UnavailableError(
            f"the fleet key {file} cannot be created ({error.strerror}); set redis.fleet_key, or fix the permissions "
            "of state_dir"
        ) from error
    key = _stored_key(file)
    assert key is not None  # noqa: S101 - the file exists now
    return key


def _stored_key(file: Path) -> Secret | None:
    try:
        with file.open("rb") as opened:
            if os.fstat(opened.fileno()).st_mode & _OTHERS:
                raise UnavailableError(
                    f"other users of this machine can read the fleet key {file}; delete the file, or run "
                    f"chmod 600 {file}"
                )
            content = opened.read(MAX_FILE_BYTES)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UnavailableError(
            f"the fleet key {file} cannot be read ({error.strerror}); fix its permissions"
        ) from error
    try:
        text = content.decode("ascii").strip()
    except UnicodeDecodeError:
        text = ""
    if len(text) < KEY_BYTES:
        raise UnavailableError(f"{file} contains no fleet key; delete the file, or restore it from a backup")
    register_secrets([text])
    return Secret(text)
