"""Models that come with nvision-hub.

`models.toml` describes the models. hatch_build.py extracts them from npm and PyPI packages when it builds a wheel or an
editable install. A build without network access may contain no models.
"""

from __future__ import annotations

import hashlib
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from nvision_hub.errors import UnavailableError

_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, kw_only=True, slots=True)
class PackagedModel:
    """A model that comes with nvision-hub. `package` is the npm or PyPI package that contains the model.

    `fallback` says what the service reports if the model is missing.
    """

    name: str
    path: Path
    license: str
    package: str
    sha256: str
    fallback: str

    @property
    def is_installed(self) -> bool:
        """Return whether this build of nvision-hub contains the model."""
        return self.path.is_file()

    def verify(self) -> None:
        """Raise `UnavailableError` if the model file is unreadable or differs from the file that the build added."""
        try:
            content = self.path.read_bytes()
        except OSError as error:
            raise UnavailableError(
                f"The packaged model {self.path} cannot be read: {error.strerror}; correct the permissions of the "
                "file, or reinstall nvision-hub."
            ) from error
        if hashlib.sha256(content).hexdigest() != self.sha256:
            raise UnavailableError(
                f"The packaged model {self.path} is damaged: the SHA-256 hash of its {len(content):,} bytes is wrong; "
                "reinstall nvision-hub."
            )


def _load() -> dict[str, PackagedModel]:
    tables = tomllib.loads((_FOLDER / "models.toml").read_text(encoding="utf-8"))
    return {
        key: PackagedModel(
            name=table["name"],
            path=_FOLDER / "models" / table["file"],
            license=table["license"],
            package=table.get("npm") or table["pypi"],
            sha256=table["sha256"],
            fallback=table["fallback"],
        )
        for key, table in tables.items()
    }


MODELS: Final = _load()  # by the kind of objects that each model detects
OBJECTS: Final = MODELS["objects"]
FACES: Final = MODELS["faces"]
