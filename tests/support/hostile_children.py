"""Children that behave as if an attacker controlled them. Each function is an entry point."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import json
import logging
import os
import pickle
import resource
import signal
import struct
import termios
import threading
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NoReturn

import pyseccomp

from nvision_hub.broker.client import RedisSettings
from nvision_hub.broker.send_buffer import OutgoingEvent
from nvision_hub.broker.spool import Spool, SpoolSettings
from nvision_hub.config.camera_address import CameraAddress
from nvision_hub.config.models import Camera
from nvision_hub.logs.pipe import ChildLog
from nvision_hub.logs.record_codec import MAX_LINE_BYTES, MAX_MESSAGE_CHARACTERS
from nvision_hub.media.sources import KnownCertificates
from nvision_hub.nvision.connection import ServiceEndpoint
from nvision_hub.nvision.protocol import RequestOptions
from nvision_hub.runtime import sandbox
from tests.support.children import steady
from workers.camera.settings import CameraWorkerSettings
from workers.camera.worker import restrict as restrict_worker

if TYPE_CHECKING:
    from collections.abc import Callable

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

log = logging.getLogger("nvision_hub.test")

FORGED: Final = "this record is forged"


_LIBC: Final = ctypes.CDLL(None, use_errno=True)


class _Vector(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_void_p), ("length", ctypes.c_size_t))


class _Exploit:
    """Object whose pickle creates a file when it is loaded."""

    def __init__(self, canary: str) -> None:
        self._canary = canary

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return Path.touch, (Path(self._canary),)


def log_queue() -> Any:
    """Return the queue whose pipe carries this child's log records."""
    (handler,) = logging.getLogger().handlers
    assert isinstance(handler, ChildLog)
    return handler.queue


def write_all(data: bytes) -> None:
    """Write to the log pipe."""
    left = memoryview(data)
    while left:
        left = left[os.write(log_queue()._writer.fileno(), left) :]


def log_line(**changes: Any) -> bytes:
    fields = {"created": time.time(), "level": 40, "message": FORGED, "event": None, "state": None, "traceback": None}
    return json.dumps(fields | changes).encode() + b"\n"


def invalid_records(canary: str) -> dict[str, bytes]:
    """Return attacks on the log pipe. Each attack consists of complete lines, none of which is a valid record."""
    exploit = pickle.dumps(_Exploit(canary))
    record = logging.makeLogRecord({"msg": FORGED, "processName": "hub"})
    return {
        # The frame of `multiprocessing.Connection`, which a queue reads.
        "frames with pickles": struct.pack("!i", len(exploit)) + exploit + b"\n",
        "pickles": exploit + b"\n" + pickle.dumps(record) + b"\n",
        "frame of 2 GiB": struct.pack("!i", 2**31 - 1) + b"\n",
        "bytes that are not text": bytes(range(256)) * 100 + b"\n",
        "long record": log_line(message="x" * MAX_LINE_BYTES),
        "long message": log_line(message="x" * (MAX_MESSAGE_CHARACTERS + 1)),
        "10 MB without a line break": b"x" * 10**7 + b"\n",
        "nested lists": b"[" * 100_000 + b"\n",
        "wrong types": b"".join(
            (
                log_line(created="now"),
                log_line(created=float("nan")),
                log_line(created=1e300),
                log_line(created=-1),
                log_line(level="ERROR"),
                log_line(level=True),
                log_line(level=10**6),
                log_line(message=None),
                log_line(message=[FORGED]),
                log_line(event="two words"),
                log_line(event={}),
                log_line(state="\x1b[2J"),
                log_line(traceback=7),
                b"{}\n[]\nnull\n\n",
            )
        ),
        "attributes of other processes and handlers": b"".join(
            (
                log_line(processName="hub"),
                log_line(process=1),
                log_line(args=["%s"]),
                log_line(msg=FORGED),
                log_line(exc_info=True),
                log_line(fault="x"),
            )
        ),
    }


def forges_log_records(canary: str, pipe: SupervisorPipe) -> None:
    """Write every attack and a valid record that pretends to have more lines to the log pipe. Then log as usual."""
    attacks = invalid_records(canary)
    log_queue()._sem.acquire()  # a queue in the supervisor would unpickle an item only if the item is counted
    for attack in attacks.values():
        write_all(attack)
    write_all(log_line(message=f"%s\n2026-11-30T12:00:00.000Z WARNING hub  {FORGED}\n"))
    log.info("wrote %d invalid records", sum(attack.count(b"\n") for attack in attacks.values()))
    steady(None, pipe)


def floods_its_log(_settings: None, _pipe: SupervisorPipe) -> NoReturn:
    """Write long records in an endless loop. Redacting addresses in their text is as slow as possible."""
    line = log_line(message=("a" * 31 + "://") * (MAX_MESSAGE_CHARACTERS // 34))
    while True:
        write_all(line)


def attempts_system_calls(settings: dict[str, bool], pipe: SupervisorPipe) -> None:
    """Attempt each action that the sandbox denies. Log the error name of each (null if it succeeded) as JSON."""
    own, others = Path("own").resolve(), Path("others").resolve()
    own.mkdir()
    others.mkdir()
    (others / "file").touch()
    (others / "link").symlink_to("/etc/hostname")
    if settings["restricted"]:
        sandbox.restrict(writable=[own])
        (own / "file").write_text("text", encoding="ascii")
        (own / "file").rename(own / "renamed")
        os.link(own / "renamed", own / "link")
        (own / "link").unlink()
        Path("/dev/null").write_bytes((others / "link").read_bytes())
    supervisor = os.getppid()
    attempts: dict[str, Callable[[], object]] = {
        "read the memory of the supervisor": lambda: _read_memory(supervisor),
        "signal the supervisor": lambda: os.kill(supervisor, 0),
        "limit the supervisor": lambda: resource.prlimit(supervisor, resource.RLIMIT_NOFILE),
        "open the memory file of the supervisor": lambda: _open(f"/proc/{supervisor}/mem"),
        "open a file through the supervisor": lambda: _open(f"/proc/{supervisor}/fd/0"),
        "open a file": lambda: _open(str(others / "file")),
        "open a directory": lambda: list(others.iterdir()),
        "open a file outside through a link": lambda: (own / "outside").symlink_to(others / "file"),
        "open a new file": (others / "new").touch,
        "open a directory to remove a file": (others / "link").unlink,
        "execute a program": lambda: _in_a_child(lambda: os.execv("/bin/true", ["true"])),  # noqa: S606
        "start a program": lambda: os.waitpid(os.posix_spawn("/bin/true", ["true"], {}), 0),
        "create a network namespace": lambda: _in_a_child(lambda: _call("unshare", 0x4000_0000)),
        "clone into a network namespace": lambda: _in_a_child(lambda: _call("clone", 0x4000_0000 | signal.SIGCHLD)),
    }
    if settings["restricted"]:  # without the sandbox, these attempts would stop the supervisor or change the machine
        attempts["trace the supervisor"] = lambda: _call("ptrace", 16, supervisor)  # PTRACE_ATTACH
        attempts["type into the terminal"] = lambda: fcntl.ioctl(0, termios.TIOCSTI, b"x")
        for call in sandbox.DENIED:
            # Each argument is invalid. Without a filter, the calls fail with other errors.
            attempts[call] = partial(_call, call, *[-1] * 6)
    log.info("attempted %s", json.dumps({name: _error_of(attempt) for name, attempt in attempts.items()}))
    threading.Thread(target=lambda: log.info("threads start")).start()
    signal.raise_signal(0)
    steady(None, pipe)


def opens_files_of_a_hub(_settings: None, pipe: SupervisorPipe) -> None:
    """Restrict this process like the worker of camera `own`.

    Use this worker's files, and attempt to use other files.
    """
    folder = Path.cwd()
    names = ("cameras.yaml", "state/tokens.json", "state/run-time.json", "state/spool/other/results.sqlite3")
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    own, certificates = folder / "state/spool/own/results.sqlite3", folder / "state/camera-certificates"
    restrict_worker(
        CameraWorkerSettings(
            camera=Camera.model_validate({"id": "own", "url": "rtsps://127.0.0.1:9/"}),
            site="test",
            service=ServiceEndpoint(url="ws://127.0.0.1:9/", key="key", options=RequestOptions(), direct=True),
            stream=RedisSettings(url="redis://127.0.0.1:9", prefix="nvision", max_entries=1),
            spool=SpoolSettings(path=own),
            certificates=certificates,
        )
    )
    spool = Spool(SpoolSettings(path=own))
    spool.put([OutgoingEvent(id="1", camera="own", received_at=time.time(), payload=b"{}")])
    assert spool.count == 1
    KnownCertificates(certificates).check(CameraAddress.parse("rtsps://127.0.0.1:9/"), "ab" * 32)
    errors = {name: _error_of(partial(_open, str(folder / name))) for name in names}
    errors |= {f"{name}.new": _error_of((folder / f"{name}.new").touch) for name in names}
    errors["own spool"] = _error_of(partial(_open, str(own)))
    log.info("attempted %s", json.dumps(errors))
    steady(None, pipe)


def _error_of(attempt: Callable[[], object]) -> str | None:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode[error.errno or 0]
    return None


def _open(file: str) -> None:
    os.close(os.open(file, os.O_RDONLY))


def _call(name: str, *arguments: int) -> None:
    """Call the kernel. Raises `OSError`."""
    number = pyseccomp.resolve_syscall(pyseccomp.Arch.NATIVE, name)
    if number >= 0:  # a negative number means that this architecture lacks the call
        _check(_LIBC.syscall(number, *map(ctypes.c_long, arguments)))
    else:
        raise PermissionError(errno.EPERM, name)


def _check(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def _read_memory(pid: int) -> None:
    """Read the supervisor's memory at an address that the fork copied. Raises `OSError`."""
    target = ctypes.create_string_buffer(8)
    own, theirs = (_Vector(ctypes.addressof(target), 8), _Vector(id(None), 8))
    _check(_LIBC.process_vm_readv(pid, ctypes.byref(own), 1, ctypes.byref(theirs), 1, 0))


def _in_a_child(attempt: Callable[[], object]) -> None:
    """Call `attempt` in a forked process that then ends. Raises `OSError`."""
    if (child := os.fork()) == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno or 255)
        os._exit(0)
    if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
        raise OSError(code, os.strerror(code))


ENTRIES: Final[dict[str, Callable[[Any, SupervisorPipe], int | None]]] = {
    entry.__name__: entry for entry in (forges_log_records, floods_its_log, attempts_system_calls, opens_files_of_a_hub)
}
