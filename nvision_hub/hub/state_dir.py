"""The hub's own folder: made, closed to others, and held by one hub at a time."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import logging
import os
from typing import TYPE_CHECKING

from nvision_hub.errors import UnavailableError
from nvision_hub.hub.addresses import addresses_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

log = logging.getLogger("nvision_hub.hub")


@contextlib.contextmanager
def sole_use(state_dir: Path) -> Iterator[None]:
    """Hold `state_dir`: made 0700 where it is missing, its user's alone, and refused to a second hub."""
    os.umask(0o077)
    try:
        state_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        _keep_private(state_dir)
        lock = (state_dir / "hub.lock").open("a")
    except OSError as error:
        raise unwritable(state_dir, error) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            running = addresses_of(state_dir)
            raise UnavailableError(
                f"another hub{f' (pid {running.pid})' if running else ''} uses {state_dir}; "
                "end it, or give this one a state_dir of its own"
            ) from error
        yield


def is_private(state_dir: Path) -> bool:
    """Whether nobody else may look into it: results name people's whereabouts.

    False for one that may be closed, because it is empty or a hub's already. Raises `UnavailableError` for any other:
    `state_dir: .` or `/tmp` has other users, who would be locked out.
    """
    found = state_dir.stat()
    if not found.st_mode & 0o077:
        return True
    theirs = any(state_dir.iterdir()) and not (state_dir / "hub.lock").exists()
    if theirs or found.st_uid != os.geteuid():
        raise UnavailableError(
            f"state_dir {state_dir} is open to other users of this machine; name a directory of the hub's own, such as "
            f"{state_dir / 'hub'}, which is then made, or take their rights away (chmod 700 {state_dir})"
        )
    return False


def _keep_private(state_dir: Path) -> None:
    if not is_private(state_dir):
        state_dir.chmod(0o700)
        log.warning("state_dir %s was open to other users of this machine; it is its owner's alone now", state_dir)


def unwritable(state_dir: Path, error: OSError) -> UnavailableError:
    """The sentence about a directory that does not take what has to be written."""
    mend = (
        "make room there" if error.errno in {errno.ENOSPC, errno.EDQUOT} else "choose another one, or mend its rights"
    )
    return UnavailableError(f"state_dir {state_dir} cannot be written ({error.strerror}); {mend}")
