"""Tokens that operators create with `nvision-hub token`, in `state_dir/tokens.json`.

The file contains only digests of the tokens and belongs to the hub's user (0600). Each change replaces the whole file,
so a reader never sees half a change. A running gateway rereads the file after each change.
"""

from __future__ import annotations

import contextlib
import os
import time
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from nvision_hub.access.private_files import exclusive_lock, open_private
from nvision_hub.access.tokens import AccessToken, RoleName, new_token, token_digest
from nvision_hub.errors import HubError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MAX_TOKENS: Final = 1000
MAX_FILE_BYTES: Final = 2**20
_FILE: Final = "tokens.json"
_LOCK: Final = "tokens.lock"

Timestamp = Annotated[float, Field(ge=0, lt=253_370_764_800)]  # seconds since the epoch, before the year 9999
Fingerprint = tuple[int, int, int] | None  # inode, modification time (ns) and size (bytes); None without a file


class StoredToken(BaseModel):
    """A token in the store. `expires_at` is None for a token that is valid until it is revoked."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(min_length=1, max_length=100)]
    role: RoleName
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    created_at: Timestamp
    expires_at: Timestamp | None = None

    @property
    def access(self) -> AccessToken:
        return AccessToken(name=self.name, role=self.role, digest=self.sha256)

    def is_valid(self, now: float) -> bool:
        """Return whether the token has not expired. `now` is the wall-clock time."""
        return self.expires_at is None or now < self.expires_at


class _TokenFile(BaseModel):
    model_config = ConfigDict(extra="forbid")

    version: Annotated[int, Field(ge=1, le=1)] = 1
    tokens: Annotated[list[StoredToken], Field(max_length=MAX_TOKENS)] = []


class TokenStore:
    """The tokens in one state directory."""

    def __init__(self, state_dir: Path) -> None:
        self.path = state_dir / _FILE

    def fingerprint(self) -> Fingerprint:
        try:
            found = self.path.stat()
        except OSError:
            return None
        return found.st_ino, found.st_mtime_ns, found.st_size

    def read(self) -> tuple[StoredToken, ...]:
        """Return all tokens, including expired ones. Raises `HubError` if the file cannot be read."""
        try:
            with self.path.open("rb") as file:
                content = file.read(MAX_FILE_BYTES)
        except FileNotFoundError:
            return ()
        except OSError as error:
            raise HubError(
                f"{self.path} cannot be read ({error.strerror}); run the command as the hub's user"
            ) from error
        try:
            return tuple(_TokenFile.model_validate_json(content).tokens)
        except ValidationError as error:
            raise HubError(
                f"{self.path} is damaged; move it away, and create the tokens again with `nvision-hub token create`"
            ) from error

    def has_permanent(self) -> bool:
        """Return whether the store has a token without an expiry time. Raises `HubError`."""
        return any(token.expires_at is None for token in self.read())

    def create(self, name: str, role: RoleName, *, expires_at: float | None = None) -> str:
        """Add a random token and return it. Raises `HubError` if the name of a permanent token is in use."""
        token = new_token()
        now = time.time()
        with self._locked():
            tokens = [each for each in self.read() if each.is_valid(now)]
            if expires_at is None and any(each.name == name for each in tokens):
                raise HubError(f"a token called {name} exists; revoke it first, or choose another name")
            if len(tokens) >= MAX_TOKENS:
                raise HubError(f"{self.path} already has the maximum of {MAX_TOKENS} tokens; revoke some of them")
            stored = StoredToken(
                name=name, role=role, sha256=token_digest(token), created_at=now, expires_at=expires_at
            )
            self._write([*tokens, stored])
        return token

    def revoke(self, name: str) -> bool:
        """Remove the tokens with this name. Return False if there is none."""
        return self._remove(lambda token: token.name == name)

    def discard(self, token: str) -> None:
        """Remove the token with this text, which `create` returned."""
        digest = token_digest(token)
        self._remove(lambda each: each.sha256 == digest)

    def _remove(self, matches: Callable[[StoredToken], bool]) -> bool:
        with self._locked():
            tokens = self.read()
            kept = [token for token in tokens if not matches(token)]
            if len(kept) == len(tokens):
                return False
            self._write(kept)
        return True

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(exclusive_lock(self.path.with_name(_LOCK)))
            except OSError as error:
                raise self._unwritable(error) from error
            yield

    def _write(self, tokens: list[StoredToken]) -> None:
        temporary = self.path.with_name(f"{_FILE}.{os.getpid()}")
        content = _TokenFile(tokens=tokens).model_dump_json(indent=2) + "\n"
        try:
            with os.fdopen(open_private(temporary, os.O_WRONLY | os.O_TRUNC), "w", encoding="utf-8") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def _unwritable(self, error: OSError) -> UnavailableError:
        return UnavailableError(
            f"the tokens in {self.path.parent} cannot be changed ({error.strerror}); run the command as the hub's user"
        )
