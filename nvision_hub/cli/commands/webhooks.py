"""`replay` and `dead-letters`: deliver results to a webhook again, and list deliveries that failed permanently."""

from __future__ import annotations

import asyncio
import contextlib
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

import click
from redis.exceptions import RedisError

from nvision_hub.access.audit_log import append_command
from nvision_hub.broker import webhook_admin
from nvision_hub.broker.client import connect
from nvision_hub.broker.webhook_admin import ReplayResult
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.cli.api_client import ApiClient
from nvision_hub.cli.broker_access import find_broker
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import SinceParam, command, json_option, select_webhook, unknown_name
from nvision_hub.cli.terminal import console, plural, print_json
from nvision_hub.config.load import load
from nvision_hub.control_characters import printable
from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis.asyncio import Redis

    from nvision_hub.cli.broker_access import HubBroker
    from nvision_hub.config.models import Config

T = TypeVar("T")


@command(
    "nvision-hub replay --webhook alarms --since 1h",
    "nvision-hub replay --webhook alarms --since 2026-11-22T14:00",
    "nvision-hub replay --webhook alarms --dead",
)
@click.option("--webhook", "webhook_id", metavar="ID", required=True, help="The webhook to deliver to.")
@click.option("--since", type=SinceParam(), help="Replay results newer than this time (2026-11-22T14:00) or age (1h).")
@click.option("--dead", is_flag=True, help="Replay the webhook's dead letters.")
@hub_options
@json_option
def replay(webhook_id: str, since: datetime | None, chosen: HubOptions, *, dead: bool, as_json: bool) -> None:
    """Deliver results to a webhook again, with their original ids.

    --since selects the results that match the webhook's filters and are still in the Redis stream. --dead selects the
    webhook's dead letters. The running hub delivers the selected results alongside new ones.
    """
    if dead == (since is not None):
        raise click.UsageError("give either --since or --dead")
    result = _replay_by_hub(chosen, webhook_id, since)
    if as_json:
        rest = None if result.rest_from is None else result.rest_from.isoformat()
        print_json({"queued": result.queued, "rest_from": rest}, indent=None)
        return
    print(f"{plural(result.queued, 'delivery')} queued for {webhook_id}")
    if result.rest_from is not None:
        option = "--dead" if dead else f"--since {result.rest_from.isoformat(timespec='milliseconds')}"
        print(f"The queue is full. When it is empty, run: nvision-hub replay --webhook {webhook_id} {option}")


@command(
    "nvision-hub dead-letters",
    "nvision-hub dead-letters --webhook alarms --json | jq .event.hub.camera",
    name="dead-letters",
)
@click.option("--webhook", "webhook_id", metavar="ID", help="List only deliveries to this webhook.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="Maximum number of lines.")
@hub_options
@json_option
def dead_letters(webhook_id: str | None, limit: int, chosen: HubOptions, *, as_json: bool) -> None:
    """List the webhook deliveries that failed permanently, newest first.

    Each line shows the time when the retries ended, the webhook, the number of attempts, the webhook-id, and why the
    last attempt failed. With --json, each line is one object that includes the event.
    """
    if webhook_id is not None:
        _check_webhook(chosen, webhook_id)
    broker = find_broker(chosen)
    letters = _with_redis(
        broker, lambda client: webhook_admin.dead_letters(client, broker.prefix, webhook_id, limit=limit)
    )
    if as_json:
        for letter in letters:
            print_json(letter, indent=None)
        return
    out, err = console(), console(stderr=True)
    for letter in letters:
        at = datetime.fromisoformat(letter["at"]).astimezone()
        out.print(
            f"{at:%Y-%m-%d %H:%M:%S}  {printable(letter['webhook'])}  {plural(letter['attempts'], 'attempt')}  "
            f"{printable(letter['id'])}  {printable(letter['reason'])}"
        )
    if letters:
        webhook = webhook_id or printable(letters[0]["webhook"])
        err.print(f"To deliver them again: nvision-hub replay --webhook {webhook} --dead", style="dim")
    else:
        err.print("There are no dead letters.", style="dim")


def _replay_by_hub(chosen: HubOptions, webhook_id: str, since: datetime | None) -> ReplayResult:
    """Queue the deliveries. If no hub is running, queue them for the next hub in the Redis of cameras.yaml."""
    _check_webhook(chosen, webhook_id)
    try:
        api = ApiClient(chosen)
    except UnavailableError:
        if chosen.file is None:
            raise
        return _replay_by_file(load(chosen.file), find_broker(chosen), webhook_id, since)
    body = {"webhook": webhook_id, **({"dead": True} if since is None else {"since": since.isoformat()})}
    with api:
        found = api.call("POST", "/webhooks/replay", json=body)
    rest = found["rest_from"]
    return ReplayResult(queued=found["queued"], rest_from=None if rest is None else datetime.fromisoformat(rest))


def _replay_by_file(config: Config, broker: HubBroker, webhook_id: str, since: datetime | None) -> ReplayResult:
    webhook = select_webhook(config, webhook_id)

    def queue(client: Redis) -> Awaitable[ReplayResult]:
        if since is None:
            return webhook_admin.replay_dead(client, broker.prefix, webhook.id)
        wanted = WebhookFilter.of(webhook.model_dump(mode="json"))
        return webhook_admin.replay(client, broker.prefix, webhook.id, wanted=wanted, since=since)

    result = _with_redis(broker, queue)
    with contextlib.suppress(OSError):  # a hub on another machine has another state_dir
        append_command(config.state_dir, "webhook_replay", webhook=webhook_id)
    return result


def _check_webhook(chosen: HubOptions, webhook_id: str) -> None:
    """Raise `UsageError` if the hub does not have this webhook, according to the running hub or else cameras.yaml."""
    try:
        with ApiClient(chosen) as api:
            known = [webhook["id"] for webhook in api.call("GET", "/webhooks")["webhooks"]]
    except UnavailableError:
        if chosen.file is None:
            raise
        select_webhook(load(chosen.file), webhook_id)
    else:
        if webhook_id not in known:
            raise unknown_name(f"the hub has no webhook {webhook_id!r}", webhook_id, known)


def _with_redis(broker: HubBroker, query: Callable[[Redis], Awaitable[T]]) -> T:
    """Run `query` with a client for the hub's Redis. Raises `UnavailableError` if Redis or the hub is unavailable."""

    async def run() -> T:
        async with connect(broker.url) as client:
            return await query(client)

    try:
        return asyncio.run(run())
    except (RedisError, OSError, OverflowError) as error:
        raise broker.unavailable(error) from error
