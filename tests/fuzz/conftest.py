"""The fixture `fuzz`, which runs a parser on a few inputs, or with `-m long` on 20,000."""

from __future__ import annotations

import pytest

from tests.fuzz.harness import Fuzz


@pytest.fixture(
    params=[
        pytest.param(200, id="few"),
        pytest.param(20_000, id="many", marks=pytest.mark.long),
    ]
)
def fuzz(request: pytest.FixtureRequest) -> Fuzz:
    return Fuzz(inputs=request.param)
