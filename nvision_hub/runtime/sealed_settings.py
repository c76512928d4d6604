"""Settings of a child process in a memory file. The child reads them after the fork; the supervisor never does."""

from __future__ import annotations

import base64
import binascii
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from nvision_hub.redaction import escaped_forms, register_secrets
from nvision_hub.runtime.memory_file import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.runtime.messages import CameraMessage


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedSettings:
    """Settings of one process. Each object is equal only to itself."""

    file: MemoryFile
    revision: int  # different for all settings of a hub
    # Revision of the settings that these replace, and the message that changes a running child accordingly. None: there
    # are no earlier settings, or the child must restart.
    replaces: int | None = None
    change: CameraMessage | None = None

    def reveal(self) -> Any:
        """Return the settings, and hide the secrets that belong to them in the logs of this process from now on."""
        settings, secrets = pickle.loads(self.file.read())  # noqa: S301 - `sealed` wrote the file
        register_secrets(secrets)
        return settings


def sealed(settings: object, secrets: Iterable[str]) -> MemoryFile:
    """Return a memory file with `settings` and the secrets to hide. Raises `OSError`."""
    return MemoryFile.create(pickle.dumps((settings, tuple(secrets))))


def secrets_in(settings: object, secrets: Iterable[str]) -> list[str]:
    """Return those of `secrets` that `settings` contain."""
    plain = pickle.dumps(settings)
    return [secret for secret in secrets if _is_in(plain, secret)]


def change_of_settings(old: SealedSettings, new: SealedSettings) -> CameraMessage | None:
    """Return the message that changes a running child from `old` to `new`; None if the child must restart."""
    return new.change if new.replaces == old.revision else None


def _is_in(plain: bytes, secret: str) -> bool:
    texts = [*escaped_forms(secret)]
    try:  # a login as HTTP clients send it, which contains a password that the settings contain
        login = base64.b64decode(secret + "=" * (-len(secret) % 4), validate=True)
        texts.append(login.partition(b":")[2].decode())
    except (binascii.Error, ValueError):
        pass
    return any(text and text.encode(errors="surrogatepass") in plain for text in texts)
