"""What overseers are told of the hub itself: its site and version, how it reads its file, what it uses."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING, Final

from nvision_hub import __version__
from nvision_hub.link import status_basis
from nvision_hub.oversight import Account
from nvision_hub.status import Meter, Status
from nvision_hub.usage import Usage

if TYPE_CHECKING:
    from nvision_hub.config import Config
    from nvision_hub.hub.renewal import Renewal

HUB: Final = "hub"


class SelfReport:
    """Call it for the account and the status of this process, as if it were one of its own members."""

    def __init__(self, config: Config, renewal: Renewal) -> None:
        self._config = config
        self._renewal = renewal
        self._began = time.monotonic()
        self._meter = Meter()
        self._usage = Usage(self._meter)

    def __call__(self) -> tuple[Account, Status]:
        renewal, addresses = self._renewal, self._renewal.chosen.addresses
        for outcome, count in renewal.outcomes.items():
            self._meter.reached("config_reloads_total", count, outcome=outcome)
        self._usage.note()
        account = Account(
            name=HUB,
            phase="running",
            pid=os.getpid(),
            started_at=self._began,
            facts={
                "site": addresses.site,
                "version": __version__,
                "config": str(self._config.path),
                "config_reloads": dict(renewal.outcomes),
                "reload_error": renewal.refused,
                "redis": addresses.redis,
                "embedded": self._config.redis.url.embedded,
                "prefix": addresses.prefix,
                "service": addresses.service,
            },
        )
        return account, Status(**status_basis("running"), ready=True, metrics=self._meter.snapshot())
