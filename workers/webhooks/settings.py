"""Settings of the webhook dispatcher, and its retry schedule."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from nvision_hub.broker.client import RedisSettings
    from nvision_hub.config.models import Webhook

_MINUTE_S: Final = 60.0
_HOUR_S: Final = 3600.0
# Delay before each attempt, as Standard Webhooks recommends ("Deliverability and reliability"). The ten attempts span
# about three days and four hours. After the last attempt, the delivery becomes a dead letter.
SCHEDULE_S: Final = (
    0.0,
    5.0,
    5 * _MINUTE_S,
    30 * _MINUTE_S,
    2 * _HOUR_S,
    5 * _HOUR_S,
    10 * _HOUR_S,
    14 * _HOUR_S,
    20 * _HOUR_S,
    24 * _HOUR_S,
)
JITTER: Final = 0.1  # maximum share added to a delay, so that deliveries that failed together are not retried together
MAX_RETRY_AFTER_S: Final = 24 * _HOUR_S
TIMEOUT_S: Final = 15.0  # for one attempt, from resolving the name to the last byte of the response
MAX_CONNECTIONS: Final = 16  # to one endpoint


@dataclass(frozen=True, kw_only=True, slots=True)
class DeliveryLimits:
    """Limits on attempts, time and connections. The defaults are part of the contract. Tests use shorter limits."""

    schedule_s: tuple[float, ...] = SCHEDULE_S
    timeout_s: float = TIMEOUT_S
    connections: int = MAX_CONNECTIONS

    def delay_s(self, attempts: int, *, retry_after_s: float, jitter: float) -> float | None:
        """Return the seconds until the next attempt; None after the last attempt.

        `attempts` is the number of attempts made. `retry_after_s` is the delay that the endpoint requested, or 0.
        `jitter` is a random number from 0 to 1.
        """
        if attempts >= len(self.schedule_s):
            return None
        return max(self.schedule_s[attempts] * (1 + JITTER * jitter), retry_after_s)


@dataclass(frozen=True, kw_only=True)
class WebhooksSettings:
    """Settings of the webhooks, and of the Redis stream that holds the results."""

    webhooks: tuple[Webhook, ...]
    stream: RedisSettings
    site: str
    limits: DeliveryLimits = field(default_factory=DeliveryLimits)  # cannot be set in cameras.yaml
    # Time at which the webhooks were configured. They receive all results since then, even if the dispatcher starts
    # later. Comparisons ignore this field, because a reload of the same webhooks must not restart the dispatcher.
    since: datetime = field(default_factory=lambda: datetime.now(UTC), compare=False)
