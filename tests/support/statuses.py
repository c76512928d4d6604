"""Typed access to the info in workers' statuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from nvision_hub.runtime.status import Status, WorkerInfo

Info = TypeVar("Info", bound="WorkerInfo")


def info_as(status: Status, kind: type[Info]) -> Info:
    """Return the info in a status. Fail if its type is not `kind`."""
    assert isinstance(status.info, kind)
    return status.info
