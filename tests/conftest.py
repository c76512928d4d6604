"""Hypothesis profiles, signal dispositions and garbage collection.

The conftest.py of each folder names the fixtures that it uses.
"""

import gc
import os
import signal

import pytest
from hypothesis import HealthCheck, Phase, settings

pytest_plugins = ["tests.support.tested_with"]
pytest.register_assert_rewrite("tests.support")  # explains failed assertions in fixtures and helpers, too

# Machines are shared, so a slow example is not a failure. `--hypothesis-profile nightly` searches for hours.
settings.register_profile("dev", deadline=None)
settings.register_profile("ci", deadline=None, derandomize=True)  # every build tries the same examples
settings.register_profile("nightly", deadline=None, max_examples=20_000)
# Mutation testing repeats each test hundreds of times, so it uses the same few examples and does not shrink failures.
# A slow strategy on a busy machine must not count as a killed mutant.
settings.register_profile(
    "mutation",
    deadline=None,
    derandomize=True,
    max_examples=30,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("ci" if os.environ.get("CI") else "dev")

# Under `nohup` and in many CI systems, tests start with these signals ignored. Child processes would ignore them, too.
for number in (signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.default_int_handler if number is signal.SIGINT else signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Exclude the modules and the collected tests from garbage collection, which would take most of a second each."""
    gc.collect()
    gc.freeze()
