"""Case 46: every result reaches each endpoint despite repeated kills of the broker, the dispatcher and an endpoint.

This is the short form of `python -m tests.bench fanout`.
"""

from __future__ import annotations

from typing import Final

import pytest

from tests.bench import fanout
from tests.support.reliability import measured

pytestmark = [pytest.mark.fault, pytest.mark.long]

SECONDS: Final = 30.0


def test_every_result_reaches_the_stream_and_every_healthy_endpoint() -> None:
    outcome = fanout.run(cameras=8, rate=100, seconds=SECONDS, kill_every_s=10)
    assert not outcome.problems, outcome.as_text()
    assert len(outcome.answered) > 10 * SECONDS, "too few results for a verdict"
    assert min(outcome.kills.values()) >= 2
    kills = ", ".join(f"{what} {number} times" for what, number in outcome.kills.items())
    alarms = outcome.taken[fanout.HEALTHY[0]]
    measured(
        46,
        "broker, dispatcher and an endpoint killed repeatedly",
        injected=f"kill -9 at about 100 results/s of 8 cameras: {kills} in {outcome.seconds:.0f} s",
        target="every result of the service is in the stream and at every healthy endpoint; duplicates share the id",
        measured=f"{len(outcome.answered)} results sent, {len(outcome.streamed)} in the stream, {len(alarms)} at an "
        f"endpoint; {alarms.total() - len(alarms)} more than once",
    )
