"""Broker, dispatcher and an endpoint killed together, again and again: every result arrives everywhere it is owed.

The short form of `python -m tests.bench fanout`.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.bench import fanout
from tests.support.reliability import measured

pytestmark = [pytest.mark.fault, pytest.mark.long]

SECONDS: Final = 30.0


def test_every_result_is_in_the_stream_and_at_every_endpoint_that_lives() -> None:
    outcome = fanout.run(cameras=8, rate=100, seconds=SECONDS, kill_every_s=10)
    assert not outcome.problems, outcome.as_text()
    assert len(outcome.answered) > 10 * SECONDS, "too few results to tell"
    assert min(outcome.kills.values()) >= 2
    kills = ", ".join(f"{what} {number} times" for what, number in outcome.kills.items())
    alarms = outcome.taken[fanout.HEALTHY[0]]
    measured(
        46,
        "broker, dispatcher and an endpoint die together",
        injected=f"kill -9 at about 100 results/s of 8 cameras: {kills} in {outcome.seconds:.0f} s",
        target="every result the service sent is in the stream and at every healthy endpoint; duplicates share the id",
        measured=f"{len(outcome.answered)} results sent, {len(outcome.streamed)} in the stream, {len(alarms)} at an "
        f"endpoint; {alarms.total() - len(alarms)} more than once",
    )
