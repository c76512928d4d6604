"""Class names from a labels file, which is a text file with one name per line in the order of the class numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES: Final = 2**20
MAX_NAME_CHARS: Final = 100


def read_labels(path: Path) -> dict[int, str]:
    """Return the names by class number. Raises `UnavailableError` if the file is not a list of names."""
    if path.exists() and not path.is_file():  # opening a named pipe would block
        raise _unusable(path, "it is not a regular file")
    try:
        with path.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise UnavailableError(f"The labels file {path} cannot be read: {error.strerror}; correct the path.") from error
    if len(content) > MAX_FILE_BYTES:
        raise _unusable(path, f"it is larger than {MAX_FILE_BYTES:,} bytes")
    try:
        lines = [line.strip() for line in content.decode("utf-8-sig").rstrip().split("\n")]
    except UnicodeDecodeError as error:
        raise _unusable(path, "it is not a text file in UTF-8") from error
    for number, name in enumerate(lines, 1):
        if not name:
            raise _unusable(path, f"line {number} is empty")
        if len(name) > MAX_NAME_CHARS or not name.isprintable():
            raise _unusable(path, f"line {number} is not a name of at most {MAX_NAME_CHARS} printable characters")
    return dict(enumerate(lines))


def _unusable(path: Path, reason: str) -> UnavailableError:
    return UnavailableError(
        f"The labels file {path} cannot be used: {reason}; write one class name per line, in the order of the model's "
        "class numbers."
    )
