"""The systemd unit that runs a cameras.yaml on one machine, shut off from all of it that a hub has no business with."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Final

from nvision_hub.config.tree import Scalar
from nvision_hub.config.variables import REFERENCE
from nvision_hub.errors import ConfigError
from nvision_hub.render.references import references

if TYPE_CHECKING:
    from collections.abc import Iterator

    from nvision_hub.render.manuscript import Manuscript

UNIT: Final = "nvision-hub.service"
CREDENTIALS: Final = f"/run/credentials/{UNIT}"  # where systemd puts them (systemd.exec, "CREDENTIALS")
ENVIRONMENT: Final = "hub.env"
WATCHDOG_S: Final = 30
_STATES: Final = PurePosixPath("/var/lib")
_HOMES: Final = ("/home/", "/root/", "/run/user/")
_PLAIN: Final = re.compile(r"[A-Za-z0-9_./@:+-]+")

_SERVICE: Final = f"""\
Type=notify
NotifyAccess=main
# Fed by the turns of the supervisor's own loop: one that is stuck is killed, and begun anew.
WatchdogSec={WATCHDOG_S}
TimeoutAbortSec=5
Restart=always
RestartSec=5
# Wrong usage and a wrong cameras.yaml would fail again the same way.
RestartPreventExitStatus=2 78
# The supervisor alone is asked to end; it ends its processes in their order, within 8.5 s.
KillMode=mixed
TimeoutStopSec=20
# A camera that the kernel ends for its memory is started again by the supervisor; the others go on.
OOMPolicy=continue
LimitNOFILE=65536
TasksMax=16384
"""
_HARDENING: Final = """\
DynamicUser=yes
UMask=0077
CapabilityBoundingSet=
AmbientCapabilities=
NoNewPrivileges=yes
KeyringMode=private
LockPersonality=yes
MemoryDenyWriteExecute=yes
PrivateTmp=yes
PrivateUsers=yes
ProtectClock=yes
ProtectControlGroups=yes
ProtectHome=yes
ProtectHostname=yes
ProtectKernelLogs=yes
ProtectKernelModules=yes
ProtectKernelTunables=yes
ProtectProc=invisible
ProtectSystem=strict
RemoveIPC=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
RestrictNamespaces=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged
"""


@dataclass(frozen=True, kw_only=True)
class Rendered:
    """The unit's text, and sentences for whoever renders it."""

    text: str
    notes: tuple[str, ...]


def render(manuscript: Manuscript, program: Path) -> Rendered:
    """The unit that runs `program` (absolute). Raises `ConfigError` for what the unit's user could not reach."""
    file = manuscript.path.absolute()
    state = _state(manuscript)
    _check(file, program)
    asked = references(manuscript.tree)
    # What systemd sets itself is nobody's to give.
    variables = sorted(set(asked.variables) - manuscript.names_made - {"STATE_DIRECTORY"})
    credentials = [PurePosixPath(it).name for it in asked.files if str(PurePosixPath(it).parent) == CREDENTIALS]
    lines = [
        "[Unit]",
        f"Description=nvision-hub, the cameras of {_specifier_free(file)}",
        "Wants=network-online.target",
        "After=network-online.target",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        f"ExecStart={_word(program)} start {_word(file)}",
        "ExecReload=kill -HUP $MAINPID",
        *_SERVICE.splitlines(),
        f"StateDirectory={state}",
        "StateDirectoryMode=0700",
        "CacheDirectory=nvision-hub",
        "Environment=XDG_CACHE_HOME=%C NVISION_HUB_LOG_FORMAT=json",
        *([f"EnvironmentFile={_specifier_free(file.parent / ENVIRONMENT)}"] if variables else []),
        *(f"LoadCredential={name}:{_specifier_free(file.parent / 'credentials' / name)}" for name in credentials),
        "",
        *_HARDENING.splitlines(),
        *_devices(manuscript),
        "",
        "[Install]",
        "WantedBy=multi-user.target",
    ]
    return Rendered(text="\n".join(lines) + "\n", notes=tuple(_notes(manuscript, file, variables, credentials)))


def _state(manuscript: Manuscript) -> str:
    """The state directory, as systemd makes it: below /var/lib."""
    written = manuscript.tree.child("state_dir")
    text = written.text if isinstance(written, Scalar) and written.text else ""
    found = REFERENCE.fullmatch(text)
    if found is not None and found["name"] == "STATE_DIRECTORY":
        return "nvision-hub"
    place = PurePosixPath(manuscript.config.state_dir)
    if place != _STATES and place.is_relative_to(_STATES) and _PLAIN.fullmatch(str(place)):
        return str(place.relative_to(_STATES))
    problem = (
        f"{manuscript.path.name}: state_dir: the unit may write below /var/lib only; write "
        "`state_dir: ${STATE_DIRECTORY:-.nvision-hub}`, which is there under systemd and beside the file elsewhere"
    )
    raise ConfigError([problem])


def _check(file: Path, program: Path) -> None:
    for what, path in (("the program", program), ("the file", file)):
        if str(path).startswith(_HOMES):
            problem = (
                f"{path}: {what} lies in somebody's home, which the unit's user cannot see; install the program into "
                "/opt/nvision-hub (python3 -m venv), put the file into /etc/nvision-hub, and render it there"
            )
            raise ConfigError([problem])


def _devices(manuscript: Manuscript) -> Iterator[str]:
    """None, but for cameras that are devices and for hardware that decodes."""
    usb = any(camera.url.kind == "usb" for camera in manuscript.config.cameras)
    decoding = {camera.hwaccel for camera in manuscript.config.cameras} - {"none"}
    if not usb and not decoding:
        yield "PrivateDevices=yes"
        return
    yield "DevicePolicy=closed"
    if usb:
        yield "DeviceAllow=char-video4linux rw"
    if decoding:
        yield from (f"DeviceAllow={device} rw" for device in ("char-drm", "char-nvidia-frontend", "char-nvidia-uvm"))
    yield f"SupplementaryGroups=video{' render' if decoding else ''}"


def _notes(manuscript: Manuscript, file: Path, variables: list[str], credentials: list[str]) -> Iterator[str]:
    if variables:
        yield f"{file.parent / ENVIRONMENT}, root's and of mode 0600, has a line NAME=value for: {', '.join(variables)}"
    if credentials:
        yield f"{file.parent / 'credentials'}, root's and of mode 0700, holds a file for: {', '.join(credentials)}"
    for literal in manuscript.literals:
        yield (
            f"{literal.where}: {literal.key}: is written out, and the unit's user must be able to read the file; "
            f"put it into {file.parent}/credentials/NAME and write ${{file:{CREDENTIALS}/NAME}}"
        )


def _specifier_free(path: Path) -> str:
    return str(path).replace("%", "%%")


def _word(path: Path) -> str:
    """One word of a command line of a unit."""
    text = _specifier_free(path).replace("$", "$$")
    return text if _PLAIN.fullmatch(text) else '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))
