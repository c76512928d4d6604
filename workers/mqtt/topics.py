"""Topic names of the bridge. Performs no I/O. The names are part of the public contract."""

from __future__ import annotations

import re
from typing import Final

DISCOVERY: Final = "homeassistant"  # default discovery prefix of Home Assistant

# MQTT 3.1.1 restricts the level separator and wildcards (section 4.7.1) and control characters (section 1.5.3). A
# leading $ is reserved for brokers.
_RESERVED: Final = re.compile(r"[/+#$\x00-\x1f\x7f-\x9f]")
_NO_NODE_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")


class Topics:
    """Topics of one site. `prefix` may contain several levels."""

    def __init__(self, *, prefix: str, site: str) -> None:
        self.site = site
        self._base = f"{prefix}/{_RESERVED.sub('_', site)}"  # base of all topics except discovery
        self.availability = f"{self._base}/availability"
        self.all_states = f"{self._base}/+/state"  # topic filter

    def results(self, camera: str) -> str:
        return f"{self._base}/{camera}/results"

    def tracks(self, camera: str) -> str:
        return f"{self._base}/{camera}/tracks"

    def state(self, camera: str) -> str:
        return f"{self._base}/{camera}/state"

    def camera_of_state(self, topic: str) -> str:
        return topic.removeprefix(f"{self._base}/").removesuffix("/state")

    def device(self, camera: str) -> str:
        """Return a camera's unique device identifier, which contains only characters that Home Assistant accepts."""
        return _NO_NODE_ID.sub("_", f"nvision_{self.site}_{camera}")

    def discovery(self, camera: str) -> str:
        return f"{DISCOVERY}/device/{self.device(camera)}/config"
