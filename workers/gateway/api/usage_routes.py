"""Route for the usage of images, read from the ledger's database."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from datetime import date, datetime
from itertools import groupby
from typing import TYPE_CHECKING, Annotated, Literal

from fastapi import APIRouter, Query
from typing_extensions import TypedDict  # pydantic supports typing.TypedDict only on Python 3.12 and later

from nvision_hub.budget.periods import time_zone
from workers.gateway.api.problem_details import FieldError, ProblemError, documented

if TYPE_CHECKING:
    from workers.gateway.settings import UsageSettings

Grouping = Literal["camera", "day", "month"]


class UsageRow(TypedDict):
    """Images of one camera, day or month.

    `key` is the camera's id, a date (2026-12-01) or a month (2026-12). `images` includes `written_off`, the images that
    the service may not have received. `cost` is null without `budget.price_per_image`.
    """

    key: str
    images: int
    written_off: int
    cost: float | None


class UsageReport(TypedDict):
    """Usage of images from the day `begin` to the day `end`, both included, in the time zone of the budget.

    `total` has an empty key. Days, months and cameras without images have no row.
    """

    by: Grouping
    begin: str
    end: str
    time_zone: str
    price_per_image: float | None
    currency: str | None
    rows: list[UsageRow]
    total: UsageRow


def usage_routes(settings: UsageSettings | None) -> APIRouter:
    """Return the route. `settings` is None if no ledger counts images."""
    router = APIRouter(prefix="/api/v1/usage", tags=["fleet"])

    @router.get("", responses=documented(409, 422, 503))
    async def usage(
        by: Annotated[Grouping, Query(description="What a row is about")] = "day",
        begin: Annotated[
            date | None,
            Query(alias="from", description="First day; the first of the current month if omitted"),
        ] = None,
        end: Annotated[date | None, Query(alias="to", description="Last day; today if omitted")] = None,
    ) -> UsageReport:
        """Return the images of each camera, day or month, and their cost. Days are kept for 400 days."""
        if settings is None:
            detail = (
                "The hub counts no images, because cameras.yaml contains no limit of images; set one, such as "
                "budget.images_per_month."
            )
            raise ProblemError(409, "images_not_counted", detail)
        try:
            return await asyncio.to_thread(usage_report, settings, by, begin, end)
        except sqlite3.Error as error:
            detail = "The ledger's database cannot be read; the log of the process `ledger` contains the cause."
            raise ProblemError(503, "usage_unavailable", detail) from error

    return router


def usage_report(settings: UsageSettings, by: Grouping, begin: date | None, end: date | None) -> UsageReport:
    """Return the usage. The ledger stores it once a second.

    Raises `ProblemError` if `begin` is after `end`, and `sqlite3.Error` if the database is missing, unreadable or not
    ready, because an upgraded ledger adds up the days of earlier rows first.
    """
    address = f"{settings.file.absolute().as_uri()}?mode=ro"
    with contextlib.closing(sqlite3.connect(address, uri=True)) as database:
        zones = database.execute("SELECT name FROM day_zone").fetchone()
        if zones is None:
            raise sqlite3.OperationalError("the sums of days are not ready")
        (zone,) = zones
        today = datetime.now(time_zone(zone)).date()
        last = end or today
        first = begin or min(today, last).replace(day=1)
        if first > last:
            wrong = FieldError.at("query", ["from"], code="after_to", detail=f"is after `to`, {last}")
            raise ProblemError(422, "request_invalid", "`from` is after `to`.", errors=[wrong])
        column = "camera" if by == "camera" else "date"  # of the table that `workers.ledger.usage_store` describes
        found = database.execute(
            f"SELECT {column}, sum(images + written_off), sum(written_off) FROM day "  # noqa: S608 - constants
            f"WHERE date BETWEEN ? AND ? GROUP BY {column} ORDER BY {column}",
            (first.isoformat(), last.isoformat()),
        ).fetchall()
    if by == "month":
        found = [
            (month, sum(images for _, images, _ in days), sum(written_off for _, _, written_off in days))
            for month, days in ((key, list(group)) for key, group in groupby(found, key=lambda each: each[0][:7]))
        ]
    price = settings.price_per_image

    def row(key: str, images: int, written_off: int) -> UsageRow:
        cost = None if price is None else round(images * price, 6)
        return UsageRow(key=key, images=images, written_off=written_off, cost=cost)

    return UsageReport(
        by=by,
        begin=first.isoformat(),
        end=last.isoformat(),
        time_zone=zone,
        price_per_image=price,
        currency=settings.currency,
        rows=[row(*each) for each in found],
        total=row("", sum(images for _, images, _ in found), sum(written_off for _, _, written_off in found)),
    )
