"""What one hub is in a fleet of several: told by whoever started it, in its environment, and to nobody else.

Not in cameras.yaml: that is what a person writes, and none of this is theirs to choose.
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
CONTROL: Final = "control"  # no group of cameras is called so: their names end with a number


@dataclass(frozen=True, kw_only=True)
class Part:
    """A hub that runs one group of cameras of many, or none of them and what is done once for all."""

    group: str
    holder: str  # of leases: this start of this hub's supervisor, and no other

    @property
    def controls(self) -> bool:
        """Whether it has the page, the webhooks and the bridges of the whole fleet, and no camera."""
        return self.group == CONTROL

    @classmethod
    def taken_from(cls, environ: Mapping[str, str]) -> Self | None:
        """The part of this process; None for a hub that stands alone."""
        group = environ.get(VARIABLE)
        if not group:
            return None
        return cls(group=group, holder=f"{group} on {socket.gethostname()}, pid {os.getpid()}, {secrets.token_hex(4)}")
