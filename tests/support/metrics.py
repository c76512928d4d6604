"""Access to metrics by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from pydantic import TypeAdapter

from nvision_hub.metrics.catalogue import METRICS, Counter
from nvision_hub.metrics.snapshot import MetricSnapshot

if TYPE_CHECKING:
    from collections.abc import Mapping

    from nvision_hub.metrics.snapshot import Series

SNAPSHOTS: Final = TypeAdapter(MetricSnapshot)


def counter(name: str) -> Counter:
    """Return the counter with this name. Raise `KeyError` if the catalog does not contain the name."""
    metric = METRICS[name]
    assert isinstance(metric, Counter)
    return metric


def series_sum(series: Series, name: str, labels: Mapping[str, str]) -> float:
    """Return the sum of all series of a metric that have at least these labels."""
    return float(
        sum(value for (metric, own), value in series.items() if metric == name and labels.items() <= dict(own).items())
    )


def snapshot_json(snapshot: MetricSnapshot) -> Any:
    """Return a snapshot in the JSON form in which a pipe carries it."""
    return SNAPSHOTS.dump_python(snapshot)
