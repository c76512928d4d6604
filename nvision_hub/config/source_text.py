"""Reader of the text of cameras.yaml and its included files, with a limit of their size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from nvision_hub.errors import ConfigError, Diagnostic

if TYPE_CHECKING:
    from pathlib import Path

MAX_FILE_BYTES: Final = 1_000_000  # of cameras.yaml and its included files together


def read_text(path: Path, *, max_bytes: int = MAX_FILE_BYTES, too_large: str = "", if_missing: str) -> str:
    """Return the text of a file.

    `too_large` and `if_missing` complete the errors for a file of more than `max_bytes` bytes and for a missing file.

    Raises `ConfigError`.
    """
    try:
        if path.is_dir():
            raise file_error(path, "file_unreadable", "is a folder", "name a file in it, such as cameras.yaml")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError as error:
        raise file_error(path, "file_not_found", "there is no such file", if_missing) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "the file name is not valid"
        raise file_error(path, "file_unreadable", f"cannot be read: {reason}") from error
    if len(content) > max_bytes:
        message = too_large or f"is larger than the maximum of {MAX_FILE_BYTES} bytes"
        raise file_error(path, "file_too_large", message)
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        before = content[: error.start]
    # Raise outside the `except` block, because a decoding error holds the file's bytes, which may contain passwords.
    diagnostic = Diagnostic(
        code="not_utf8",
        message="is not UTF-8 text at this position",
        fix="save the file as UTF-8",
        file=str(path),
        line=before.count(b"\n") + 1,
        column=len(before) - before.rfind(b"\n"),
    )
    raise ConfigError([diagnostic])


def file_error(path: Path, code: str, message: str, fix: str | None = None) -> ConfigError:
    return ConfigError([Diagnostic(code=code, message=message, fix=fix, file=str(path))])
