"""Models of `budget` and of `cameras[].budget`."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field

from nvision_hub.budget.allocator import ALL_SERVICES, SiteBudget
from nvision_hub.budget.periods import Period, is_time_zone, machine_time_zone
from nvision_hub.config.field_types import NoneIfEmpty, Section
from nvision_hub.errors import InvalidValueError

_Images = Annotated[Annotated[int, Field(ge=1, le=10**12)] | None, NoneIfEmpty]
_Rate = Annotated[Annotated[int, Field(ge=1, le=10_000)] | None, NoneIfEmpty]


def _time_zone(name: str) -> str:
    if not is_time_zone(name):
        raise InvalidValueError(
            "is not a time zone of this machine",
            "write a name such as Asia/Bangkok; `timedatectl list-timezones` lists them",
        )
    return name


_Price = Annotated[Annotated[float, Field(gt=0, le=1000, allow_inf_nan=False)] | None, NoneIfEmpty]
_Currency = Annotated[Annotated[str, Field(pattern="^[A-Z]{3}$", examples=["USD"])] | None, NoneIfEmpty]
TimeZoneName = Annotated[str, Field(examples=["Asia/Bangkok"]), AfterValidator(_time_zone)]


class PeriodLimits(Section):
    """Limits of images per hour, day and month."""

    images_per_hour: _Images = None
    """Images per hour; no limit if omitted."""
    images_per_day: _Images = None
    """Images per day; no limit if omitted."""
    images_per_month: _Images = None
    """Images per calendar month; no limit if omitted."""

    @property
    def per_period(self) -> dict[Period, int]:
        """The limits that have a value, by period."""
        limits = {
            Period.HOUR: self.images_per_hour,
            Period.DAY: self.images_per_day,
            Period.MONTH: self.images_per_month,
        }
        return {period: limit for period, limit in limits.items() if limit is not None}


class ServiceRates(Section):
    """Images per second, for all services together or for each."""

    all_services: Annotated[_Rate, Field(alias=ALL_SERVICES)] = None
    """Images per second of all cameras; no limit if omitted."""
    object_detection: Annotated[_Rate, Field(alias="object-detection")] = None
    """Images per second of all cameras with this service; no limit if omitted."""
    face_detection: Annotated[_Rate, Field(alias="face-detection")] = None
    """Images per second of all cameras with this service; no limit if omitted."""

    @property
    def per_second(self) -> dict[str, int]:
        """The rates that have a value, by service."""
        rates: dict[str, int | None] = self.model_dump(by_alias=True)
        return {service: rate for service, rate in rates.items() if rate is not None}


_RatesOrNumber = BeforeValidator(
    lambda value: value if value is None or isinstance(value, dict | ServiceRates) else {ALL_SERVICES: value},
    json_schema_input_type=ServiceRates | Annotated[int, Field(ge=1, le=10_000)],
)


class Budget(PeriodLimits):
    """Limits of the images that all cameras of the site send together, and the time zone of schedules."""

    images_per_second: Annotated[ServiceRates, _RatesOrNumber] = ServiceRates()
    """Images per second: one number for all cameras together, or one for each service; no limit if omitted."""
    pacing: Literal["even", "none"] = "even"
    """Spread the images over the rest of the period (`even`), or send until the limit is reached (`none`)."""
    time_zone: Annotated[TimeZoneName | None, NoneIfEmpty] = None
    """Time zone of schedules, days and months, such as Asia/Bangkok; the machine's if omitted."""
    price_per_image: _Price = None
    """Price of an image, for `nvision-hub usage`; no cost is reported if omitted."""
    currency: _Currency = None
    """Currency of the price, as the three letters of ISO 4217, such as USD."""

    @property
    def zone_name(self) -> str:
        return self.time_zone or machine_time_zone()

    @property
    def site(self) -> SiteBudget:
        """The limits of the site in the form that `nvision_hub.budget` uses."""
        return SiteBudget(
            per_second=self.images_per_second.per_second,
            per_period=self.per_period,
            time_zone=self.zone_name,
            is_even=self.pacing == "even",
        )
