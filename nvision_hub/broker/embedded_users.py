"""Users of the embedded Valkey: their passwords, their rights, and the file that stores the passwords.

    hub        the hub's own processes and commands: everything except administration
    reader     programs that read results: subscribe to channels, read streams
    consumer   the same, and programs that use consumer groups on the streams

Valkey rejects every other connection, on TCP and on the unix socket. The passwords are random. They stay the same while
the file exists, so programs can reconnect after a restart of the hub.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import secrets
import stat
from dataclasses import asdict, dataclass, field, fields
from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

_PASSWORD_BYTES: Final = 16
_PASSWORD: Final = re.compile(r"[A-Za-z0-9_-]{22}")

# Commands that a client library sends when it connects or checks its connection. INFO is part of ioredis' check.
_CONNECTION: Final = (
    "auth", "hello", "ping", "echo", "quit", "reset", "info", "client|setinfo", "client|setname", "client|getname",
    "client|id",
)  # fmt: skip
_READ: Final = (
    "subscribe", "psubscribe", "unsubscribe", "punsubscribe", "xread", "xrange", "xrevrange", "xlen", "xinfo|stream",
    "xinfo|groups", "xinfo|consumers",
)  # fmt: skip
_CONSUME: Final = (
    "xreadgroup", "xack", "xpending", "xclaim", "xautoclaim", "xgroup|create", "xgroup|createconsumer",
    "xgroup|delconsumer",
)  # fmt: skip
# The hub runs scripts, transactions and blocking reads. It never changes Valkey's configuration or users.
_HUB: Final = "+@all -@admin +client|kill +client|list"


class BrokerUser(StrEnum):
    HUB = "hub"
    READER = "reader"
    CONSUMER = "consumer"


@dataclass(frozen=True, kw_only=True, slots=True)
class BrokerPasswords:
    """One password per user. The `repr` of this object contains no password."""

    hub: str = field(default_factory=lambda: secrets.token_urlsafe(_PASSWORD_BYTES), repr=False)
    reader: str = field(default_factory=lambda: secrets.token_urlsafe(_PASSWORD_BYTES), repr=False)
    consumer: str = field(default_factory=lambda: secrets.token_urlsafe(_PASSWORD_BYTES), repr=False)

    def of(self, user: BrokerUser) -> str:
        return {BrokerUser.HUB: self.hub, BrokerUser.READER: self.reader, BrokerUser.CONSUMER: self.consumer}[user]

    @property
    def all(self) -> tuple[str, ...]:
        return self.hub, self.reader, self.consumer

    def save(self, file: Path) -> None:
        """Write the passwords to `file` with mode 0600 unless the file already has them. Raises `OSError`."""
        if load_passwords(file) == self:
            return
        new = file.with_name(f"{file.name}.new")
        new.unlink(missing_ok=True)
        descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as opened:
            json.dump(asdict(self), opened)
        new.replace(file)


def load_passwords(file: Path, *, owner: int | None = None) -> BrokerPasswords | None:
    """Return the saved passwords; None if the file is missing, invalid, owned by another user or accessible to one.

    `owner` is the user id of the hub; None means this process's user.
    """
    wanted = os.geteuid() if owner is None else owner
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        with os.fdopen(descriptor, encoding="ascii") as opened:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != wanted or found.st_mode & 0o077:
                return None
            content = json.load(opened)
    except (OSError, ValueError, RecursionError):
        return None
    names = {each.name for each in fields(BrokerPasswords)}
    if not isinstance(content, dict) or content.keys() != names:
        return None
    if not all(isinstance(value, str) and _PASSWORD.fullmatch(value) for value in content.values()):
        return None
    return BrokerPasswords(**content)


def user_rules(passwords: BrokerPasswords, prefix: str, *, is_open: bool) -> list[str]:
    """Return the `user` lines of valkey.conf. They contain hashes of the passwords.

    If `is_open`, a connection without a password has all rights.
    """
    streams = (f"{prefix}:results", f"{prefix}:tracks")
    channels = " ".join(f"&{channel}" for channel in (*(f"{stream}:*" for stream in streams), f"{prefix}:events"))

    def rule(user: BrokerUser, rights: str) -> str:
        digest = hashlib.sha256(passwords.of(user).encode()).hexdigest()
        return f"user {user} reset on #{digest} {rights}"

    def commands(*names: str) -> str:
        return " ".join(f"+{name}" for name in names)

    readable = " ".join(f"%R~{stream}" for stream in streams)
    writable = " ".join(f"%RW~{stream}" for stream in streams)
    return [
        "user default reset on nopass ~* &* +@all" if is_open else "user default reset",
        rule(BrokerUser.HUB, f"~* &* {_HUB}"),
        rule(BrokerUser.READER, f"{readable} {channels} {commands(*_CONNECTION, *_READ)}"),
        rule(BrokerUser.CONSUMER, f"{writable} {channels} {commands(*_CONNECTION, *_READ, *_CONSUME)}"),
    ]
