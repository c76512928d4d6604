"""Account of the results of a running hub's cameras. The account must balance in every report."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.support.ledger import Ledger
from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.support.hub import Hub
    from tests.support.recorder import Recorder


def ledger(hub: Hub, names: Sequence[str]) -> Ledger:
    """Return the sum of the accounts of these cameras. Each account must balance."""
    accounts = [Ledger.of(hub.status(name).get("metrics", {})) for name in names]
    assert all(each.balanced for each in accounts), accounts
    return sum(accounts, Ledger())


def stop_results(hub: Hub, service: Recorder, names: Sequence[str]) -> Ledger:
    """Stop the service's results, wait until all earlier results are published, and return the account."""
    service.set_behavior(answer="none")
    hub.wait_until(lambda: ledger(hub, names).waiting == 0, PATIENCE_S)
    # After two more reports from each camera, all reports are newer than the change.
    for _ in range(2):
        seen = {name: hub.status(name)["at"] for name in names}
        hub.wait_until(lambda seen=seen: all(hub.status(name)["at"] > seen[name] for name in names))  # type: ignore[misc]
    hub.wait_until(lambda: ledger(hub, names).waiting == 0, PATIENCE_S)
    return ledger(hub, names)
