"""What a test needs of the machine: missing locally it is skipped with the reason, missing in CI it fails."""

from __future__ import annotations

import os
import shutil
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skip the test, or fail it in CI, because `what` (a sentence with the mend) is not there."""
    if os.environ.get("CI"):
        pytest.fail(f"CI must have it: {what}")
    pytest.skip(what)


def program(name: str, package: str) -> str:
    """The path of a program, which Debian's `package` installs."""
    found = shutil.which(name)
    if found is None:
        missing(f"{name} is not installed; `apt-get install {package}` brings it")
    return found
