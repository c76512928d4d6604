"""The API's routes for webhooks: how deliveries stand, and having them tried again. The deliveries are in Redis."""

from __future__ import annotations

import contextlib
from datetime import datetime  # noqa: TC003 - FastAPI reads it at run time
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator
from redis.exceptions import RedisError

from nvision_hub.broker import deliveries
from nvision_hub.broker.publisher import connect
from nvision_hub.broker.webhook_filter import WebhookFilter
from workers.gateway import shown
from workers.gateway.fleet import WEBHOOKS
from workers.gateway.problems import ProblemError, documented

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import redis.asyncio

    from workers.gateway.desk import Desk

WebhookId = Annotated[str, Path(description="The webhook's id, as in cameras.yaml", examples=["alarms"])]
CONTROLLED: Final = documented(404, 503)


class Replay(BaseModel):
    """Which deliveries to make again: results published `since` then, or the `dead` letters."""

    model_config = ConfigDict(extra="forbid")

    webhook: Annotated[str, Field(min_length=1)]
    since: AwareDatetime | None = None
    dead: bool = False

    @model_validator(mode="after")
    def _one_of_both(self) -> Replay:
        if self.dead == (self.since is not None):
            raise ValueError("give one of since and dead")
        return self


class Replayed(BaseModel):
    """How many were queued; `rest_from` is where to replay from once there is room again, null where all found some."""

    queued: int
    rest_from: datetime | None


class Tested(BaseModel):
    """The webhook-id of the delivery."""

    id: str


class DeadLetter(BaseModel):
    """One delivery that was given up on; `event` is null where it cannot be read any more."""

    webhook: str
    id: str
    at: str
    reason: str
    attempts: int
    event: dict[str, Any] | None


class DeadLetters(BaseModel):
    """The newest first."""

    dead_letters: list[DeadLetter]


def webhook_routes(desk: Desk) -> APIRouter:
    """All of them."""
    router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

    @router.get("")
    async def webhooks() -> shown.Webhooks:
        """How the deliveries of each webhook stand."""
        return shown.Webhooks(webhooks=shown.webhooks(desk.fleet))

    @router.get("/dead-letters", responses=CONTROLLED)
    async def dead_letters(
        webhook: Annotated[str | None, Query(description="Of this one only")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DeadLetters:
        """Deliveries that were given up on."""
        async with _broker(desk) as client:
            found = await deliveries.dead_letters(client, desk.prefix, webhook, limit=limit)
        return DeadLetters(dead_letters=[DeadLetter(**letter) for letter in found])

    @router.post("/replay", status_code=202, responses=CONTROLLED)
    async def replay(wanted: Annotated[Replay, Body()]) -> Replayed:
        """Make deliveries again, with the ids that they had."""
        settings = _settings(desk, wanted.webhook)
        async with _broker(desk) as client:
            if wanted.since is None:
                done = await deliveries.replay_dead(client, desk.prefix, wanted.webhook)
            else:
                chosen = WebhookFilter.of(settings)
                done = await deliveries.replay(client, desk.prefix, wanted.webhook, wanted=chosen, since=wanted.since)
        return Replayed(queued=done.queued, rest_from=done.rest_from)

    @router.post("/{webhook_id}/test", status_code=202, responses=CONTROLLED)
    async def test(webhook_id: WebhookId) -> Tested:
        """Deliver a made-up event once; what became of it is in the webhook's row."""
        _settings(desk, webhook_id)
        async with _broker(desk) as client:
            return Tested(id=await deliveries.test(client, desk.prefix, webhook_id, site=desk.site))

    @router.post("/{webhook_id}/enable", status_code=202, responses=CONTROLLED)
    async def enable(webhook_id: WebhookId) -> shown.Webhook:
        """Deliver again to a webhook that has answered 410 and was disabled for it."""
        _settings(desk, webhook_id)
        async with _broker(desk) as client:
            await deliveries.enable(client, desk.prefix, webhook_id)
        return next(webhook for webhook in shown.webhooks(desk.fleet) if webhook["id"] == webhook_id)

    return router


def _settings(desk: Desk, webhook_id: str) -> dict[str, Any]:
    """The webhook as the hub tells of it, without secrets. Raises `ProblemError`."""
    dispatcher = desk.fleet.members.get(WEBHOOKS)
    for webhook in dispatcher.account.facts.get("webhooks", ()) if dispatcher is not None else ():
        if webhook["id"] == webhook_id:
            found: dict[str, Any] = webhook
            return found
    raise ProblemError(404, "No webhook has this id; GET /api/v1/webhooks tells which there are.")


@contextlib.asynccontextmanager
async def _broker(desk: Desk) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect(desk.redis_url)
    try:
        yield client
    except (RedisError, OSError) as error:
        raise ProblemError(503, "Redis, in which the deliveries are, does not answer.") from error
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()
