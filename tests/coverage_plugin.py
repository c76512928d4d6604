"""Plugin of coverage.py: lets restricted workers write their measurements into the working directory when they end."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from nvision_hub.runtime import sandbox

if TYPE_CHECKING:
    from coverage.plugin_support import Plugins


def coverage_init(_plugins: Plugins, _options: dict[str, str]) -> None:
    """Run in every measured process before the measurement begins."""
    sandbox.ALSO_WRITABLE.append(Path.cwd())
