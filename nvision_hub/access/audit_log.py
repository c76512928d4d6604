"""Audit log of changes to the hub and of refused attempts: `state_dir/audit.jsonl`, one JSON object per line.

The file belongs to the hub's user (0600). When the next entry would exceed `MAX_FILE_BYTES`, the writer first renames
the file to `audit.jsonl.1`, and so replaces the earlier file of that name. The gateway and the command line append
under a lock.
"""

from __future__ import annotations

import json
import os
import pwd
import time
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Final, Literal

from nvision_hub.access.private_files import exclusive_lock, open_private
from nvision_hub.control_characters import escape_json
from nvision_hub.redaction import redact
from nvision_hub.timestamps import iso_utc

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

AUDIT: Final = "audit"  # name of the file, and of the stream after the prefix
MAX_FILE_BYTES: Final = 8 * 2**20
MAX_TEXT: Final = 200  # maximum length of each string in characters; clients choose some of the strings

Outcome = Literal["done", "refused", "failed"]


@dataclass(frozen=True, kw_only=True)
class AuditEntry:
    """One action or one refused attempt. The log omits None and empty values."""

    action: str  # such as `camera_pause`
    outcome: Outcome
    actor: str | None = None  # name of the token or of the proxy's user; None if the client is not known
    kind: str | None = None  # how the actor was identified: token, proxy, user (control socket), local or cli
    role: str | None = None
    address: str | None = None  # of the client, such as `uid 1000` on the control socket; None for the command line
    camera: str | None = None
    webhook: str | None = None
    token: str | None = None  # name of the token that the action created or revoked
    values: Mapping[str, Any] = field(default_factory=dict)  # the settings that the action changed
    status: int | None = None  # of the HTTP response
    code: str | None = None  # of the problem document
    suppressed: int = 0  # number of earlier refused attempts of this client that have no entry of their own

    def line(self, at: float) -> str:
        """Return the entry as JSON on one line, with secrets redacted and control characters escaped."""
        values = {"at": iso_utc(at), **{key: _shown(value) for key, value in asdict(self).items() if value}}
        return escape_json(json.dumps(values, separators=(",", ":")))


def append(state_dir: Path, lines: Iterable[str]) -> None:
    """Append lines to the audit log. Raises `OSError`."""
    file = state_dir / f"{AUDIT}.jsonl"
    content = "".join(f"{line}\n" for line in lines).encode()
    with exclusive_lock(state_dir / f"{AUDIT}.lock"):
        try:
            is_full = file.stat().st_size + len(content) > MAX_FILE_BYTES
        except FileNotFoundError:
            is_full = False
        if is_full:
            file.replace(file.with_name(f"{file.name}.1"))
        descriptor = open_private(file, os.O_WRONLY | os.O_APPEND)
        with os.fdopen(descriptor, "wb", buffering=0) as output:
            output.write(content)


def append_command(state_dir: Path, action: str, **facts: Any) -> None:
    """Append an entry for an action of the command line. The actor is the user who runs it. Raises `OSError`."""
    entry = AuditEntry(action=action, outcome="done", actor=user_name(), kind="cli", **facts)
    append(state_dir, [entry.line(time.time())])


def user_name(uid: int | None = None) -> str:
    """Return the name of a user of this machine; None means the user who runs the program."""
    wanted = os.getuid() if uid is None else uid
    try:
        return pwd.getpwuid(wanted).pw_name
    except KeyError:  # the user id has no name
        return f"uid-{wanted}"


def _shown(value: Any) -> Any:
    if isinstance(value, str):
        return redact(value)[:MAX_TEXT]
    return {str(key)[:MAX_TEXT]: _shown(item) for key, item in value.items()} if isinstance(value, dict) else value
