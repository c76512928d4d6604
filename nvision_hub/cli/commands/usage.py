"""`usage`: show how many images the cameras of the running hub have sent, and their cost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from nvision_hub.budget.usage_report import usage_csv
from nvision_hub.cli.api_client import ApiClient
from nvision_hub.cli.hub_choice import HubOptions, hub_options
from nvision_hub.cli.options import command, json_option
from nvision_hub.cli.terminal import columns, console, local_time, print_json
from nvision_hub.control_characters import printable

if TYPE_CHECKING:
    from datetime import datetime

_DATE = click.DateTime(formats=["%Y-%m-%d"])


@command(
    "nvision-hub usage",
    "nvision-hub usage --by camera --from 2026-11-01 --to 2026-11-30",
    "nvision-hub usage --by month --from 2026-01-01 --json | jq .total.cost",
    "nvision-hub usage --from 2026-11-01 --to 2026-11-30 --csv > november.csv",
)
@click.option("--by", type=click.Choice(["camera", "day", "month"]), default="day", show_default=True,
              help="Show a line for each camera, day or month.")  # fmt: skip
@click.option("--from", "begin", metavar="DATE", type=_DATE,
              help="First day, such as 2026-11-01.  [default: the first of this month]")  # fmt: skip
@click.option("--to", "end", metavar="DATE", type=_DATE, help="Last day, included in the report.  [default: today]")
@click.option("--csv", "as_csv", is_flag=True, help="Print the lines as CSV, for spreadsheets.")
@hub_options
@json_option
def usage(
    by: str, begin: datetime | None, end: datetime | None, chosen: HubOptions, *, as_csv: bool, as_json: bool
) -> None:
    """Show how many images the cameras have sent, and their cost.

    The hub counts images only if cameras.yaml limits them, and keeps the counts for 400 days. Days and months are those
    of budget.time_zone. Images that are written off count, although the service may not have received them.

    The forecast is the number of images of the whole current month, if it continues like the last seven days.
    """
    if as_csv and as_json:
        raise click.UsageError("--csv and --json exclude each other; use one of them")
    days = {name: f"{day:%Y-%m-%d}" for name, day in (("from", begin), ("to", end)) if day is not None}
    with ApiClient(chosen) as api:
        report = api.call("GET", "/usage", params={"by": by, **days})
    if as_json:
        print_json(report)
        return
    if as_csv:
        for line in usage_csv(report["by"], report["rows"]).splitlines():
            print(printable(line))
        return
    for line in _table(report):
        print(line)
    if (expected := report.get("forecast")) is not None:  # a running hub of an older version reports no forecast
        print(f"\n{forecast_line(expected, report['currency'])}")
    covered = f"{report['begin']} to {report['end']}, {report['time_zone']}"
    console(stderr=True).print(covered, style="dim")


def forecast_line(forecast: dict[str, Any], currency: str | None) -> str:
    """Format a forecast as `2026-12 will have about 412,000 images, 164.80 USD (13,290 a day)`.

    The text also says that the limit is reached, or when it is expected to be reached.
    """
    cost = "" if forecast["cost"] is None else f", {forecast['cost']:,.2f} {currency or ''}".rstrip()
    limit = "" if forecast["limit"] is None else f" of {forecast['limit']:,}"
    line = f"{forecast['month']} will have about {forecast['images']:,}{limit} images{cost}"
    line += f" ({forecast['per_day']:,.0f} a day)"
    if forecast.get("limit_reached"):
        line += "; the limit is reached"
    elif forecast["runs_out_at"] is not None:
        line += f"; they run out on {local_time(forecast['runs_out_at'])}"
    return printable(line)


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
