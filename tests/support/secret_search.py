"""Search for secrets in all output of a hub: files, logs, displays and messages."""

from __future__ import annotations

import base64
import contextlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, quote_plus

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    import psutil

USER: Final = "viewer"
SEPARATOR: Final = "@/:#?"  # a leak may contain only one of the parts between these characters


def forms(secrets: Mapping[str, str]) -> dict[str, str]:
    """Return all forms of each secret to search for (plain, encoded, reversed), with the name of the secret."""
    found: dict[str, str] = {}
    for name, secret in secrets.items():
        parts = {part for part in secret.split(SEPARATOR) if part} | {secret}
        complete = {secret, f"{USER}:{secret}", f":{secret}"}
        spelled = {*parts, *(part[::-1] for part in parts), quote(secret, safe=""), quote_plus(secret)}
        spelled |= {base64.b64encode(each.encode()).decode().rstrip("=") for each in (*parts, *complete)}
        spelled |= {base64.urlsafe_b64encode(each.encode()).decode().rstrip("=") for each in (*parts, *complete)}
        spelled |= {each.encode().hex() for each in parts}
        found |= dict.fromkeys(spelled, name)
    return found


@dataclass(kw_only=True)
class SecretSearch:
    """Search for `secrets` (values by name). It records the searched places and the secrets found there."""

    secrets: Mapping[str, str]
    places: int = 0
    size: int = 0
    found: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._forms = {form.encode(): name for form, name in forms(self.secrets).items()}

    def search(self, place: str, content: str | bytes) -> None:
        data = content.encode(errors="surrogateescape") if isinstance(content, str) else content
        self.places += 1
        self.size += len(data)
        for form, name in self._forms.items():
            if (at := data.find(form)) >= 0:
                self.found.append(f"{name} in {place}: {data[max(0, at - 60) : at + 60]!r}")

    def search_directory(self, folder: Path) -> None:
        for path in folder.rglob("*"):
            self.search(f"the name of {path}", str(path))
            if path.is_file():
                self.search(str(path), path.read_bytes())

    def search_processes(self, processes: Iterable[psutil.Process]) -> None:
        for process in processes:
            for name in ("cmdline", "comm", "status"):
                with contextlib.suppress(OSError):  # the process has ended
                    self.search(f"{name} of {process.pid}", Path(f"/proc/{process.pid}/{name}").read_bytes())
