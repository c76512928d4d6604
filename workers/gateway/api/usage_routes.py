"""Routes for the usage of images, read from the ledger's database."""

from __future__ import annotations

import asyncio
import contextlib
import math
import sqlite3
import time
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Query
from starlette.responses import Response
from typing_extensions import TypedDict  # pydantic supports typing.TypedDict only on Python 3.12 and later

from nvision_hub.budget.periods import STEP_S, Period, span_at, time_zone
from nvision_hub.budget.usage_report import RECENT_S, forecast, usage_csv
from nvision_hub.metrics import catalogue
from nvision_hub.timestamps import iso_utc
from workers.gateway.api.problem_details import FieldError, ProblemError, documented

if TYPE_CHECKING:
    from workers.gateway.settings import UsageSettings
    from workers.gateway.state.fleet import FleetState

Grouping = Literal["camera", "day", "month"]
By = Annotated[Grouping, Query(description="What a row is about")]
FirstDay = Annotated[
    date | None, Query(alias="from", description="First day; the first of the current month if omitted")
]
LastDay = Annotated[date | None, Query(alias="to", description="Last day; today if omitted")]
_DAY_S: Final = 86_400.0
_CSV: Final[dict[str, Any]] = {"description": "CSV (RFC 4180)", "content": {"text/csv": {"schema": {"type": "string"}}}}


class UsageRow(TypedDict):
    """Images of one camera, day or month.

    `key` is the camera's id, a date (2026-12-01) or a month (2026-12). `images` includes `written_off`, the images that
    the service may not have received. `cost` is null without `budget.price_per_image`.
    """

    key: str
    images: int
    written_off: int
    cost: float | None


class UsageForecast(TypedDict):
    """Images and cost expected in the whole of the current month, if it continues like the last seven days.

    `per_day` is the average of these days. `limit` is `budget.images_per_month`; null if there is none.
    `limit_reached` is true once the month's images have used up the limit. `runs_out_at` is the expected time of this;
    null if the limit will last until the end of the month, or is already reached.
    """

    month: str
    images: int
    cost: float | None
    per_day: float
    limit: int | None
    limit_reached: bool
    runs_out_at: str | None


class UsageReport(TypedDict):
    """Usage of images from the day `begin` to the day `end`, both included, in the time zone of the budget.

    `total` has an empty key. Days, months and cameras without images have no row. `forecast` is about the current
    month, for all days of a report; null in up to half an hour after the first image.
    """

    by: Grouping
    begin: str
    end: str
    time_zone: str
    price_per_image: float | None
    currency: str | None
    rows: list[UsageRow]
    total: UsageRow
    forecast: UsageForecast | None


def usage_routes(settings: UsageSettings | None, fleet: FleetState) -> APIRouter:
    """Return the routes. `settings` is None if no ledger counts images."""
    router = APIRouter(prefix="/api/v1", tags=["fleet"])

    async def report(by: Grouping, begin: date | None, end: date | None) -> UsageReport:
        if settings is None:
            detail = (
                "The hub counts no images, because cameras.yaml contains no limit of images; set one, such as "
                "budget.images_per_month."
            )
            raise ProblemError(409, "images_not_counted", detail)
        limit = month_limit(fleet)
        try:
            return await asyncio.to_thread(usage_report, settings, by, begin, end, now=time.time(), limit=limit)
        except sqlite3.Error as error:
            detail = "The ledger's database cannot be read; the log of the process `ledger` contains the cause."
            raise ProblemError(503, "usage_unavailable", detail) from error

    @router.get("/usage", responses=documented(409, 422, 503))
    async def usage(by: By = "day", begin: FirstDay = None, end: LastDay = None) -> UsageReport:
        """Return the images of each camera, day or month, and their cost. Days are kept for 400 days."""
        return await report(by, begin, end)

    @router.get("/usage.csv", response_class=Response, responses={200: _CSV, **documented(409, 422, 503)})
    async def usage_as_csv(by: By = "day", begin: FirstDay = None, end: LastDay = None) -> Response:
        """Return the rows of the report as CSV, without the total. The cost is empty without a price."""
        found = await report(by, begin, end)
        name = f"usage-by-{by}-{found['begin']}-{found['end']}.csv"
        headers = {"content-disposition": f'attachment; filename="{name}"'}
        return Response(usage_csv(by, found["rows"]), media_type="text/csv", headers=headers)

    return router


def month_limit(fleet: FleetState) -> int | None:
    """Return `budget.images_per_month` from the ledger's last report; None if there is no such limit."""
    ledger = fleet.processes.get("ledger")
    gauges = {} if ledger is None else ledger.last_status.metrics.gauges
    limit = gauges.get((catalogue.BUDGET_LIMIT_IMAGES.name, (("camera", ""), ("window", str(Period.MONTH)))))
    return None if limit is None else int(limit)


def usage_report(
    settings: UsageSettings,
    by: Grouping,
    begin: date | None,
    end: date | None,
    *,
    now: float,
    limit: int | None = None,
) -> UsageReport:
    """Return the usage at `now` (seconds since the epoch). The ledger stores the usage once a second.

    `limit` is the limit on images per month, which the forecast needs.

    Raises `ProblemError` if `begin` is after `end`. Raises `sqlite3.Error` if the database is missing, unreadable or
    not ready. After an upgrade, the database is ready when the ledger has added up the days of earlier rows.
    """
    address = f"{settings.file.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
        zones = database.execute("SELECT name FROM day_zone").fetchone()
        if zones is None:
            raise sqlite3.OperationalError("the sums of days are not ready")
        (zone,) = zones
        today = datetime.fromtimestamp(now, time_zone(zone)).date()
        last = end or today
        first = begin or min(today, last).replace(day=1)
        if first > last:
            wrong = FieldError.at("query", ["from"], code="after_to", detail=f"is after `to`, {last}")
            raise ProblemError(422, "request_invalid", "`from` is after `to`.", errors=[wrong])
        # Column of the table that `workers.ledger.usage_store` describes.
        column = "camera" if by == "camera" else "date"
        found = database.execute(
            f"SELECT {column}, sum(images + written_off), sum(written_off) FROM day "  # noqa: S608 - only constants
            f"WHERE date BETWEEN ? AND ? GROUP BY {column} ORDER BY {column}",
            (first.isoformat(), last.isoformat()),
        ).fetchall()
        expected = _forecast(database, settings.price_per_image, zone, now, limit)
    if by == "month":
        found = [
            (month, sum(images for _, images, _ in days), sum(written_off for _, _, written_off in days))
            for month, days in ((key, list(group)) for key, group in groupby(found, key=lambda each: each[0][:7]))
        ]
    price = settings.price_per_image

    def row(key: str, images: int, written_off: int) -> UsageRow:
        return UsageRow(key=key, images=images, written_off=written_off, cost=_cost(images, price))

    return UsageReport(
        by=by,
        begin=first.isoformat(),
        end=last.isoformat(),
        time_zone=zone,
        price_per_image=price,
        currency=settings.currency,
        rows=[row(*each) for each in found],
        total=row("", sum(images for _, images, _ in found), sum(written_off for _, _, written_off in found)),
        forecast=expected,
    )


def _cost(images: int, price: float | None) -> float | None:
    return None if price is None else round(images * price, 6)


def _forecast(
    database: sqlite3.Connection, price: float | None, zone_name: str, now: float, limit: int | None
) -> UsageForecast | None:
    """Return the forecast for the current month; None if it is too early for a forecast."""
    zone = time_zone(zone_name)
    today, span = datetime.fromtimestamp(now, zone).date(), span_at(Period.MONTH, now, zone)
    (used,) = database.execute(
        "SELECT coalesce(sum(images + written_off), 0) FROM day WHERE date BETWEEN ? AND ?",
        (today.replace(day=1).isoformat(), today.isoformat()),
    ).fetchone()
    (first,) = database.execute("SELECT coalesce(min(slot), ?) FROM usage", (now,)).fetchone()
    # The first image arrived at an unknown time within its slot, so the recent time starts with the next slot.
    begin = max(first + STEP_S, math.ceil((now - RECENT_S) / STEP_S) * STEP_S)
    (recent,) = database.execute(
        "SELECT coalesce(sum(images + written_off), 0) FROM usage WHERE slot BETWEEN ? AND ?", (begin, now)
    ).fetchone()
    found = forecast(used=used, left_s=span.end - now, recent=recent, recent_s=now - begin, limit=limit)
    if found is None:
        return None
    return UsageForecast(
        month=f"{today:%Y-%m}",
        images=found.images,
        cost=_cost(found.images, price),
        per_day=round(found.per_second * _DAY_S, 1),
        limit=limit,
        limit_reached=found.is_limit_reached,
        runs_out_at=None if found.runs_out_s is None else iso_utc(now + found.runs_out_s),
    )
