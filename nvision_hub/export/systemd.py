"""Sandboxed systemd unit that runs a hub on one machine."""

from __future__ import annotations

import re
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from nvision_hub.errors import ConfigError, Diagnostic
from nvision_hub.export import templates
from nvision_hub.export.variable_refs import references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.export.source_config import SourceConfig

UNIT: Final = "nvision-hub.service"
# Folder in which systemd stores credentials (systemd.exec, "CREDENTIALS").
CREDENTIALS: Final = f"/run/credentials/{UNIT}"
ENVIRONMENT: Final = "hub.env"
_STATES: Final = PurePosixPath("/var/lib")
_HOMES: Final = ("/home/", "/root/", "/run/user/")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./@:+-]+")


def render(source: SourceConfig, program: Path) -> tuple[str, list[str]]:
    """Return the unit that runs `program` (an absolute path), and notes for the user.

    Raises `ConfigError` for a path that the unit's user cannot access.
    """
    file = source.path.absolute()
    state = _state(source)
    _check(file, program)
    variables = source.variables
    certificate = (source.text("gateway", "tls", key) for key in ("cert", "key"))
    files = map(PurePosixPath, sorted({*references(source.data).files, *filter(None, certificate)}))
    credentials = [it.name for it in files if str(it.parent) == CREDENTIALS]
    secrets = [f"EnvironmentFile={_specifier_free(file.parent / ENVIRONMENT)}"] if variables else []
    secrets += [f"LoadCredential={it}:{_specifier_free(file.parent / 'credentials' / it)}" for it in credentials]
    text = templates.text(
        UNIT,
        file=_specifier_free(file),
        command=f"{_word(program)} start {_word(file)}",
        state=state,
        secrets="".join(f"\n{line}" for line in secrets),
        devices="".join(f"\n{line}" for line in _devices(source)),
    )
    return text, [*_notes(source, file, variables, credentials)]


def _state(source: SourceConfig) -> str:
    """Return the value of StateDirectory=: a folder that systemd creates below /var/lib."""
    if source.uses_state_directory:
        return "nvision-hub"
    path = PurePosixPath(source.config.state_dir)
    if path != _STATES and path.is_relative_to(_STATES) and _PLAIN.fullmatch(str(path)):
        return str(path.relative_to(_STATES))
    message = "the unit may write only below /var/lib"
    fix = "write `state_dir: ${STATE_DIRECTORY:-.nvision-hub}`; systemd sets that variable"
    raise ConfigError([source.diagnostic(message, fix, "state_dir")])


def _check(file: Path, program: Path) -> None:
    fix = (
        "install the program in /opt/nvision-hub (python3 -m venv), move the file to /etc/nvision-hub, and render it "
        "there"
    )
    for what, path in (("the program", program), ("the file", file)):
        if str(path).startswith(_HOMES):
            message = f"{what} is in a home directory, which the unit's user cannot access"
            raise ConfigError([Diagnostic(code="not_exportable", message=message, fix=fix, file=str(path))])


def _devices(source: SourceConfig) -> Iterator[str]:
    """Yield the settings that allow access only to the devices of USB cameras and hardware decoders."""
    usb = any(camera.url.kind == "usb" for camera in source.config.cameras)
    decoding = {camera.hwaccel for camera in source.config.cameras} - {"none"}
    if not usb and not decoding:
        yield "PrivateDevices=yes"
        return
    yield "DevicePolicy=closed"
    if usb:
        yield "DeviceAllow=char-video4linux rw"
    if decoding:
        yield from (f"DeviceAllow={device} rw" for device in ("char-drm", "char-nvidia-frontend", "char-nvidia-uvm"))
    yield f"SupplementaryGroups=video{' render' if decoding else ''}"


def _notes(source: SourceConfig, file: Path, variables: list[str], credentials: list[str]) -> Iterator[str]:
    if variables:
        yield f"create {file.parent / ENVIRONMENT} (root, mode 0600) with NAME=value lines for: {', '.join(variables)}"
    if credentials:
        yield f"create {file.parent / 'credentials'} (root, mode 0700) with files named: {', '.join(credentials)}"
    for literal in source.literals:
        yield (
            f"{literal.where}: {literal.key} is a literal secret in a file that the unit's user must be able to read; "
            f"put the secret into {file.parent}/credentials/NAME and write ${{file:{CREDENTIALS}/NAME}}"
        )


def _specifier_free(path: Path) -> str:
    """Escape `%`, because it starts a specifier in systemd units."""
    return str(path).replace("%", "%%")


def _word(path: Path) -> str:
    """Quote a path as one word of a command line."""
    text = _specifier_free(path).replace("$", "$$")
    return text if _PLAIN.fullmatch(text) else '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))
