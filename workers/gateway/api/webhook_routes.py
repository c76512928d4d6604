"""Routes for the state, dead letters and replays of webhooks. Redis stores the deliveries."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Body, Path, Query, Request
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

from nvision_hub.broker import webhook_admin
from nvision_hub.broker.webhook_admin import ReplayResult  # noqa: TC001 - FastAPI reads the type at run time
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.runtime.status import WebhookSummary  # noqa: TC001 - FastAPI reads the type at run time
from workers.gateway.api.problem_details import ProblemError, documented
from workers.gateway.api.schemas import WebhookList, webhook_summaries

if TYPE_CHECKING:
    import redis.asyncio

    from workers.gateway.state.fleet import FleetState

WebhookId = Annotated[str, Path(description="The webhook's id, as in cameras.yaml", examples=["alarms"])]
CONTROL_PROBLEMS: Final = documented(404, 503)


class ReplayRequest(BaseModel):
    """Deliveries to replay: events of the webhook from `since` on, or its dead letters if `dead` is true."""

    model_config = ConfigDict(extra="forbid")

    webhook: Annotated[str, Field(min_length=1)]
    since: AwareDatetime | None = None
    dead: bool = False

    @model_validator(mode="after")
    def _exactly_one(self) -> ReplayRequest:
        if self.dead == (self.since is not None):
            raise ValueError("set exactly one of since and dead")
        return self


class TestDeliveryResponse(BaseModel):
    """The webhook-id of the test delivery."""

    id: str


class DeadLetter(BaseModel):
    """One dead letter. `event` is null if it cannot be read."""

    webhook: str
    id: str
    at: str
    reason: str
    attempts: int
    event: dict[str, Any] | None


class DeadLetterList(BaseModel):
    """Dead letters, newest first."""

    dead_letters: list[DeadLetter]


def webhook_routes(fleet: FleetState, client: redis.asyncio.Redis, *, prefix: str, site: str) -> APIRouter:
    router = APIRouter(prefix="/api/v1/webhooks", tags=["webhooks"])

    @router.get("")
    async def webhooks() -> WebhookList:
        """Return all webhooks with the state of their deliveries."""
        return WebhookList(webhooks=webhook_summaries(fleet))

    @router.get("/dead-letters", responses=CONTROL_PROBLEMS)
    async def dead_letters(
        webhook: Annotated[str | None, Query(description="Return only the dead letters of this webhook")] = None,
        limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    ) -> DeadLetterList:
        """Return dead letters, newest first."""
        letters = await webhook_admin.dead_letters(client, prefix, webhook, limit=limit)
        return DeadLetterList(dead_letters=[DeadLetter(**letter) for letter in letters])

    @router.post("/replay", status_code=202, responses=CONTROL_PROBLEMS)
    async def replay(selection: Annotated[ReplayRequest, Body()], request: Request) -> ReplayResult:
        """Replay deliveries with their original ids."""
        request.state.audit.webhook = selection.webhook
        wanted = WebhookFilter.of(_settings(fleet, selection.webhook))
        if selection.since is None:
            return await webhook_admin.replay_dead(client, prefix, selection.webhook)
        return await webhook_admin.replay(client, prefix, selection.webhook, wanted=wanted, since=selection.since)

    @router.post("/{webhook_id}/test", status_code=202, responses=CONTROL_PROBLEMS)
    async def test(webhook_id: WebhookId) -> TestDeliveryResponse:
        """Deliver a test event without retries. The webhook's summary shows the outcome."""
        wanted = WebhookFilter.of(_settings(fleet, webhook_id))
        return TestDeliveryResponse(id=await webhook_admin.test(client, prefix, webhook_id, site=site, wanted=wanted))

    @router.post("/{webhook_id}/enable", status_code=202, responses=CONTROL_PROBLEMS)
    async def enable(webhook_id: WebhookId) -> WebhookSummary:
        """Enable a webhook that was disabled because its endpoint responded with 410."""
        _settings(fleet, webhook_id)
        await webhook_admin.enable(client, prefix, webhook_id)
        return next(webhook for webhook in webhook_summaries(fleet) if webhook.id == webhook_id)

    return router


def _settings(fleet: FleetState, webhook_id: str) -> dict[str, Any]:
    """Return the webhook's settings without secrets. Raises `ProblemError` if no webhook has the id."""
    for webhook in fleet.webhooks():
        if webhook["id"] == webhook_id:
            return webhook
    raise ProblemError(404, "webhook_not_found", "No webhook has this id; GET /api/v1/webhooks lists all ids.")
