"""Programs that run as another local user, under that user's real UID."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Final

import pytest

from tests.support.patience import PATIENCE_S

if TYPE_CHECKING:
    from collections.abc import Iterator

UID: Final = 54_321  # this user needs no entry in /etc/passwd
# The other user may be unable to read Python's own files, so the program imports its modules before it changes the
# user.
_CHANGE_USER: Final = f"""
import encodings.idna, encodings.latin_1, json, os, socket, sys
os.setgroups([])
os.setgid({UID})
os.setuid({UID})
"""


def run_as_other_user(program: str, *arguments: object) -> str:
    """Run a Python program that imports at most json, os, socket and sys. Return its output. A failure fails the test.

    Without root privileges, skip the test, because only root can change the user.
    """
    if os.geteuid() != 0:
        pytest.skip("only root can run a program as another user; run this test as root")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", _CHANGE_USER + program, *map(str, arguments)],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """Yield a folder that every local user can enter, unlike `tmp_path`."""
    folder = Path(tempfile.mkdtemp(prefix="nvision-hub-test-"))
    folder.chmod(0o755)
    yield folder
    with contextlib.suppress(OSError):
        shutil.rmtree(folder)
