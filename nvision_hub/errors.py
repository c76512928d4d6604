"""The drawn tree of errors, and the exit code of each.

Every error that a person may see is one of these. Its text is a whole sentence that names the place and the
mend, and never holds a secret: whoever raises it passes addresses through `redact` first.

    HubError (1)
    ├─ ConfigError (78)       cameras.yaml is wrong; carries every problem found
    ├─ UnavailableError (69)  something the hub stands on is not there: a port, a library, Redis
    ├─ SourceError            a camera; carries the state that an operator sees
    └─ UplinkError            the Nvision service; carries whether and when to try again
"""

from __future__ import annotations

import re
from typing import Final

EXIT_OK: Final = 0
EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNAVAILABLE: Final = 69  # sysexits.h EX_UNAVAILABLE
EXIT_CONFIG: Final = 78  # sysexits.h EX_CONFIG; a worker that exits so would fail again the same way
EXIT_INTERRUPTED: Final = 130

# Cameras' passwords may hold @ : / ? # and quotes themselves, so everything goes up to the last @ before a white space
# that something host-like follows: better a word too many than half a password. Both lengths are bounded, or a long
# line of base64 would take minutes.
_USERINFO = re.compile(r"([a-z][a-z0-9+.-]{0,31}://)\S{0,4096}@(?=[\w\[])", re.IGNORECASE)


def redact(text: str) -> str:
    """`text` with the user information of every address in it replaced by `***`."""
    return _USERINFO.sub(r"\1***@", text)


class HubError(Exception):
    """Something a person should read; its text is a sentence with the place and the mend."""

    exit_code: int = EXIT_FAILED


class ConfigError(HubError):
    """cameras.yaml cannot be used. `problems` holds every one found, each already formatted as one line."""

    exit_code = EXIT_CONFIG

    def __init__(self, problems: list[str]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class UnavailableError(HubError):
    """A dependency is not there: a port in use, a library missing, no Redis."""

    exit_code = EXIT_UNAVAILABLE
