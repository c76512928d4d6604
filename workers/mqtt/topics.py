"""What the bridge's topics are called. Pure; the names are part of what consumers build on."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

DISCOVERY: Final = "homeassistant"  # where Home Assistant looks for devices unless it is told otherwise

# MQTT 3.1.1, 4.7.1: level separator and wildcards; 1.5.3: control characters. A leading $ is for brokers themselves.
_MEANS_SOMETHING: Final = re.compile(r"[/+#$\x00-\x1f\x7f-\x9f]")
_NO_NODE_ID: Final = re.compile(r"[^a-zA-Z0-9_-]")


@dataclass(frozen=True, kw_only=True, slots=True)
class Topics:
    """Those of one site. `prefix` may have levels of its own."""

    prefix: str
    site: str

    @property
    def base(self) -> str:
        """What all but the discovery topics begin with."""
        return f"{self.prefix}/{_MEANS_SOMETHING.sub('_', self.site)}"

    @property
    def availability(self) -> str:
        """Whether the hub is there."""
        return f"{self.base}/availability"

    @property
    def every_state(self) -> str:
        """A filter for the state topics of all cameras."""
        return f"{self.base}/+/state"

    def results(self, camera: str) -> str:
        """One camera's results."""
        return f"{self.base}/{camera}/results"

    def state(self, camera: str) -> str:
        """One camera's state."""
        return f"{self.base}/{camera}/state"

    def camera_of_state(self, topic: str) -> str:
        """The camera whose state topic that is."""
        return topic.removeprefix(f"{self.base}/").removesuffix("/state")

    def device(self, camera: str) -> str:
        """One camera's name among all devices of all sites, of letters that Home Assistant takes."""
        return _NO_NODE_ID.sub("_", f"nvision_{self.site}_{camera}")

    def discovery(self, camera: str) -> str:
        """Where Home Assistant reads which entities a camera has."""
        return f"{DISCOVERY}/device/{self.device(camera)}/config"
