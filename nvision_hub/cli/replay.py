"""`replay`: results delivered to a webhook again, from the stream or from the dead letters."""

from __future__ import annotations

import asyncio
import json
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

import click
from redis.exceptions import RedisError

from nvision_hub.broker import deliveries
from nvision_hub.broker.publisher import connect
from nvision_hub.broker.webhook_filter import WebhookFilter
from nvision_hub.cli.broker_address import broker_refusal, broker_url
from nvision_hub.cli.cameras_yaml import chosen_webhook, config_option
from nvision_hub.cli.options import json_option
from nvision_hub.config import load

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.broker.deliveries import Replayed
    from nvision_hub.config import Config, Webhook

_UNITS: Final = {"s": "seconds", "min": "minutes", "m": "minutes", "h": "hours", "d": "days"}


class Since(click.ParamType[datetime]):
    """A moment: an ISO 8601 date or time, local where it names no zone, or how long ago it was."""

    name = "since"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        text = str(value)
        if found := re.fullmatch(r"(\d{1,9})\s*(s|m|min|h|d)", text.strip()):
            return datetime.now(UTC) - timedelta(**{_UNITS[found[2]]: int(found[1])})
        try:
            return datetime.fromisoformat(text).astimezone()
        except (ValueError, OverflowError, OSError):
            self.fail(f"{text!r} is no moment: write how long ago, such as 90s, 15min, 1h or 2d, or a time as "
                      "2026-11-22T14:00", param, ctx)  # fmt: skip


@click.command(
    epilog="""\b
Examples:
  nvision-hub replay --webhook alarms --since 1h
  nvision-hub replay --webhook alarms --since 2026-11-22T14:00
  nvision-hub replay --webhook alarms --dead
"""
)
@click.option("--webhook", "webhook_id", metavar="ID", required=True, help="Which webhook.")
@click.option("--since", type=Since(), help="Results published since then: 1h, or 2026-11-22T14:00.")
@click.option("--dead", is_flag=True, help="What was given up on, instead.")
@config_option
@json_option
def replay(webhook_id: str, since: datetime | None, config_path: Path, *, dead: bool, as_json: bool) -> None:
    """Deliver results to a webhook again, with the ids that they had.

    Takes those that the webhook's filters choose among what is still in the stream, or its dead letters. The running
    hub delivers them, beside what is new.
    """
    if dead == (since is not None):
        raise click.UsageError("give one of --since and --dead")
    config = load(config_path)
    webhook = chosen_webhook(config, webhook_id)
    try:
        done = asyncio.run(_replay(config, webhook, since))
    except (RedisError, OSError, OverflowError) as error:
        raise broker_refusal(config, error) from error
    if as_json:
        rest = None if done.rest_from is None else done.rest_from.isoformat()
        print(json.dumps({"queued": done.queued, "rest_from": rest}))
        return
    print(f"{done.queued} {'delivery' if done.queued == 1 else 'deliveries'} queued for {webhook_id}")
    if done.rest_from is not None:
        again = "--dead" if dead else f"--since {done.rest_from.isoformat(timespec='milliseconds')}"
        print(f"no more fit the queue; once these are delivered: nvision-hub replay --webhook {webhook_id} {again}")


async def _replay(config: Config, webhook: Webhook, since: datetime | None) -> Replayed:
    client = connect(broker_url(config))
    try:
        if since is None:
            return await deliveries.replay_dead(client, config.redis.prefix, webhook.id)
        wanted = WebhookFilter.of(webhook.model_dump(mode="json"))
        return await deliveries.replay(client, config.redis.prefix, webhook.id, wanted=wanted, since=since)
    finally:
        await client.aclose()
