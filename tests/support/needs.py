"""Programs that tests need on the machine. If a program is missing, the test is skipped locally and fails in CI."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI. `what` is a message that names the missing requirement and the fix."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {what}")
    pytest.skip(what)


def program(name: str, package: str) -> str:
    """Return the path of a program that Debian's `package` installs."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed; `apt-get install {package}` brings it")
    return found
