"""`usage`: show how many images the cameras of the running hub have sent, and their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nvision_hub.cli.api_client import ApiClient
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import command, json_option
from nvision_hub.cli.terminal import columns, console, print_json
from nvision_hub.control_characters import printable

if TYPE_CHECKING:
    from datetime import datetime

_DATE = click.DateTime(formats=["%Y-%m-%d"])


@command(
    "nvision-hub usage",
    "nvision-hub usage --by camera --from 2026-11-01 --to 2026-11-30",
    "nvision-hub usage --by month --from 2026-01-01 --json | jq .total.cost",
)
@click.option("--by", type=click.Choice(["camera", "day", "month"]), default="day", show_default=True,
              help="Show a line for each camera, day or month.")  # fmt: skip
@click.option("--from", "begin", metavar="DATE", type=_DATE,
              help="First day, such as 2026-11-01.  [default: the first of this month]")  # fmt: skip
@click.option("--to", "end", metavar="DATE", type=_DATE, help="Last day, included in the report.  [default: today]")
@hub_options
@json_option
def usage(by: str, begin: datetime | None, end: datetime | None, chosen: HubOptions, *, as_json: bool) -> None:
    """Show how many images the cameras have sent, and their cost.

    The hub counts images only if cameras.yaml limits them, and keeps the counts for 400 days. Days and months are those
    of budget.time_zone. Images that are written off count, although the service may not have received them.
    """
    days = {name: f"{day:%Y-%m-%d}" for name, day in (("from", begin), ("to", end)) if day is not None}
    with ApiClient(chosen) as api:
        report = api.call("GET", "/usage", params={"by": by, **days})
    if as_json:
        print_json(report)
        return
    for line in _table(report):
        print(line)
    covered = f"{report['begin']} to {report['end']}, {report['time_zone']}"
    console(stderr=True).print(covered, style="dim")


def _table(report: dict[str, Any]) -> list[str]:
    currency = f" ({report['currency']})" if report["currency"] else ""
    heading = [report["by"], "images", "written off", f"cost{currency}"]
    rows = [heading, *(_cells(row["key"], row) for row in report["rows"]), _cells("total", report["total"])]
    if report["price_per_image"] is None:
        rows = [row[:-1] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return columns(
        [row[0], *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))] for row in rows
    )


def _cells(key: str, row: dict[str, Any]) -> list[str]:
    cost = "" if row["cost"] is None else f"{row['cost']:,.2f}"
    return [printable(key), f"{row['images']:,}", f"{row['written_off']:,}", cost]
