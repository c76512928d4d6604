"""Settings of a child process in a memory file. Only the child reads them, after the fork, and never the supervisor."""

from __future__ import annotations

import base64
import binascii
import pickle
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from nvision_hub.redaction import escaped_forms, register_secrets
from nvision_hub.runtime.memory_file import MemoryFile

if TYPE_CHECKING:
    from collections.abc import Iterable

    from nvision_hub.runtime.messages import CameraMessage

_BEGINNING: Final = 4  # number of leading bytes by which `SecretFinder` looks up the forms of secrets


@dataclass(frozen=True, kw_only=True, eq=False)
class SealedSettings:
    """Settings of one process. An object is equal only to itself."""

    file: MemoryFile
    revision: int  # unique among all settings of a hub
    # `replaces` is the revision of the settings that these settings replace; None if there are none. `change` is the
    # message that applies these settings to a running child; None if no child runs or if the child must restart.
    replaces: int | None = None
    change: CameraMessage | None = None

    def reveal(self) -> Any:
        """Return the settings. From now on, hide their secrets in the logs of this process."""
        settings, secrets = pickle.loads(self.file.read())  # noqa: S301 - `sealed` wrote the file
        register_secrets(secrets)
        return settings


def sealed(settings: object, secrets: Iterable[str]) -> MemoryFile:
    """Return a memory file with `settings` and their secrets, which the child hides from logs. Raises `OSError`."""
    return MemoryFile.create(pickle.dumps((settings, tuple(secrets))))


class SecretFinder:
    """Search for secrets in settings. The time per search hardly depends on the number of secrets."""

    def __init__(self, secrets: Iterable[str]) -> None:
        self._secrets = tuple(secrets)
        self._by_beginning: dict[bytes, list[tuple[bytes, str]]] = {}
        self._short: list[tuple[bytes, str]] = []
        for secret in self._secrets:
            for form in _forms(secret):
                if len(form) < _BEGINNING:
                    self._short.append((form, secret))
                else:
                    self._by_beginning.setdefault(form[:_BEGINNING], []).append((form, secret))

    def secrets_in(self, settings: object) -> list[str]:
        """Return the secrets that `settings` contain."""
        plain = pickle.dumps(settings)
        found = {secret for form, secret in self._short if form in plain}
        for start in range(len(plain)):
            for form, secret in self._by_beginning.get(plain[start : start + _BEGINNING], ()):
                if plain.startswith(form, start):
                    found.add(secret)
        return [secret for secret in self._secrets if secret in found]


def change_of_settings(old: SealedSettings, new: SealedSettings) -> CameraMessage | None:
    """Return the message that changes a running child from `old` to `new`; None if the child must restart."""
    return new.change if new.replaces == old.revision else None


def _forms(secret: str) -> set[bytes]:
    """Return the forms that a secret may have in settings."""
    texts = {*escaped_forms(secret)}
    try:  # the secret may be a login in Base64, while the settings contain only its password
        login = base64.b64decode(secret + "=" * (-len(secret) % 4), validate=True)
        texts.add(login.partition(b":")[2].decode())
    except (binascii.Error, ValueError):
        pass
    return {text.encode(errors="surrogatepass") for text in texts if text}
