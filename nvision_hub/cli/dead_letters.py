"""`dead-letters`: the webhook deliveries that were given up on."""

from __future__ import annotations

import asyncio
import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click
from redis.exceptions import RedisError

from nvision_hub.broker import deliveries
from nvision_hub.broker.publisher import connect
from nvision_hub.cli.broker_address import broker_refusal, broker_url
from nvision_hub.cli.cameras_yaml import chosen_webhook, config_option
from nvision_hub.cli.options import json_option
from nvision_hub.cli.terminal import console, harmless
from nvision_hub.config import load

if TYPE_CHECKING:
    from pathlib import Path

    from nvision_hub.config import Config


@click.command(
    name="dead-letters",
    epilog="""\b
Examples:
  nvision-hub dead-letters
  nvision-hub dead-letters --webhook alarms --json | jq .event.hub.camera
""",
)
@click.option("--webhook", "webhook_id", metavar="ID", help="Only of this webhook.")
@click.option("--limit", type=click.IntRange(min=1), default=100, show_default=True, help="At most so many.")
@config_option
@json_option
def dead_letters(webhook_id: str | None, limit: int, config_path: Path, *, as_json: bool) -> None:
    """Show the webhook deliveries that were given up on, the newest first.

    Each line: when it was given up, the webhook, how often it was tried, its webhook-id, and why the last try failed.
    With --json, one object a line, with the event.
    """
    config = load(config_path)
    if webhook_id is not None:
        chosen_webhook(config, webhook_id)
    try:
        letters = asyncio.run(_letters(config, webhook_id, limit))
    except (RedisError, OSError) as error:
        raise broker_refusal(config, error) from error
    if as_json:
        for letter in letters:
            print(json.dumps(letter, ensure_ascii=False))
        return
    out = console()
    for letter in letters:
        at = datetime.fromisoformat(letter["at"]).astimezone()
        tries = f"{letter['attempts']} {'try' if letter['attempts'] == 1 else 'tries'}"
        out.print(
            f"{at:%Y-%m-%d %H:%M:%S}  {harmless(letter['webhook'])}  {tries}  {harmless(letter['id'])}  "
            f"{harmless(letter['reason'])}"
        )
    if letters:
        shown = webhook_id or harmless(letters[0]["webhook"])
        console(stderr=True).print(f"to try them again: nvision-hub replay --webhook {shown} --dead", style="dim")
    else:
        console(stderr=True).print("nothing was given up on", style="dim")


async def _letters(config: Config, webhook_id: str | None, limit: int) -> list[dict[str, Any]]:
    client = connect(broker_url(config))
    try:
        return await deliveries.dead_letters(client, config.redis.prefix, webhook_id, limit=limit)
    finally:
        await client.aclose()
