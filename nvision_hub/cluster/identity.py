"""Identity of one hub in a fleet of hubs.

The launcher sets the identity in an environment variable, not in cameras.yaml, because users do not choose it.
"""

from __future__ import annotations

import os
import secrets
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

if TYPE_CHECKING:
    from collections.abc import Mapping

VARIABLE: Final = "NVISION_HUB_GROUP"
CONTROL: Final = "control"  # not the name of any camera group, because group names end with a number


@dataclass(frozen=True, kw_only=True)
class HubIdentity:
    group: str
    holder: str  # holder name in leases; unique to each start of the supervisor

    @property
    def is_control(self) -> bool:
        """Whether the hub runs the gateway, webhooks and MQTT for the whole fleet, and no cameras."""
        return self.group == CONTROL

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self | None:
        """Return the identity of this hub; None if the hub is not in a fleet."""
        group = environ.get(VARIABLE)
        if not group:
            return None
        return cls(group=group, holder=f"{group} on {socket.gethostname()}, pid {os.getpid()}, {secrets.token_hex(4)}")
