"""Where a running hub can be reached, left in its state_dir for the other verbs."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class Addresses:
    """Where a running hub can be reached, as it leaves it in `state_dir/hub.json` for the other verbs."""

    pid: int
    site: str
    redis: str  # without a password: a verb that needs it has the same cameras.yaml
    prefix: str
    service: str | None  # the local service's base address; None where there is none
    demo: str | None
    gateway: str | None = None  # base address of the page and the API; None where there is none


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
