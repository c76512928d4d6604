"""Runs the embedded Valkey as a program and answers for it.

Ends with an error when Valkey ends, and breaks its promise when Valkey does not answer, so that the supervisor's one
mechanism for children serves for the broker too. Knows nothing of what is stored.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import stat
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from nvision_hub.broker import embedded
from nvision_hub.broker.publisher import connect
from nvision_hub.errors import EXIT_FAILED, UnavailableError
from nvision_hub.lifeline import die_with_parent
from nvision_hub.link import Link, status_basis
from nvision_hub.status import Meter, Promise, Status
from nvision_hub.usage import Usage

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable
    from pathlib import Path

    import redis.asyncio

    from nvision_hub.broker import EmbeddedBroker

log = logging.getLogger("nvision_hub.broker")

ASKED_EVERY_S: Final = 1.0
ANSWERS_WITHIN_S: Final = 15.0  # a rewrite of a large append-only file may take its time
ENDS_WITHIN_S: Final = 2.5
# "4711:M 22 Nov 2026 14:00:00.120 # sentence": the hub's log line carries process and time itself.
_STAMP: Final = re.compile(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ \S ")


@dataclass(kw_only=True)
class _Health:
    answered: float  # monotonic seconds of its last PONG, or of its start
    ready: bool = False
    refuses: str | None = None  # why it stores nothing, in its own words; None while it does


def run(settings: EmbeddedBroker, link: Link) -> int:
    """Run Valkey until asked to end."""
    return asyncio.run(_keep(settings, link))


async def _keep(settings: EmbeddedBroker, link: Link) -> int:
    program = await _start(settings)
    health = _Health(answered=time.monotonic())
    meter = Meter()
    usage = Usage(meter, program.pid)

    def snapshot() -> Status:
        usage.note()
        return Status(
            **status_basis("running" if health.ready else "starting"),
            ready=health.ready,
            error=None
            if health.refuses is None
            else f"the embedded broker cannot write to {settings.directory} ({health.refuses}); make room there",
            promises={"answer from Valkey": Promise(at=health.answered, within_s=ANSWERS_WITHIN_S)},
            metrics=meter.snapshot(),
            row={"address": settings.public_url, "program": program.pid},
        )

    client = connect(settings.url)
    asking = asyncio.create_task(_ask(client, health, lambda: link.report(snapshot())))
    ended = asyncio.create_task(program.wait())
    asked_to_end = asyncio.create_task(link.run(snapshot))
    assert program.stdout is not None  # noqa: S101 - it was started with a pipe
    relaying = asyncio.create_task(_relay(program.stdout))
    try:
        await asyncio.wait({ended, asked_to_end}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        asking.cancel()
        asked_to_end.cancel()
        await asyncio.gather(asking, asked_to_end, return_exceptions=True)
        await client.aclose()
    if ended.done():
        log.error("Valkey ended by itself (exit code %s); its last words: %s", program.returncode, await relaying)
        return EXIT_FAILED
    await _end(program, ended)
    await relaying
    if settings.socket_path.parent != settings.directory:
        with contextlib.suppress(OSError):
            settings.socket_path.unlink(missing_ok=True)
            settings.socket_path.parent.rmdir()
    return 0


async def _start(settings: EmbeddedBroker) -> Process:
    file = settings.directory / "valkey.conf"
    try:
        _prepare(settings, file)
    except OSError as error:
        raise UnavailableError(
            f"the embedded broker cannot keep its data in {settings.directory} ({error.strerror}); "
            "make room there, mend its rights, or choose another state_dir"
        ) from error
    parent = os.getpid()
    # A session of its own keeps the terminal's Ctrl-C away from it: it has to outlive those that still write.
    return await asyncio.create_subprocess_exec(
        embedded.program(),
        file,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),
    )


def _prepare(settings: EmbeddedBroker, file: Path) -> None:
    os.umask(0o077)
    settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.directory.chmod(0o700)
    beside = settings.socket_path.parent
    if beside != settings.directory:
        beside.mkdir(mode=0o700, exist_ok=True)
        # In a directory that everybody may write to, somebody else could have been first, and would own the socket.
        found = beside.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
            raise UnavailableError(
                f"{beside} is not this user's alone; remove it, or choose a state_dir with a shorter path"
            )
    # Left behind by a Valkey that was killed; the port's owner is checked by the hub, the directory's by its lock.
    settings.socket_path.unlink(missing_ok=True)
    configuration = settings.configuration()
    # Not written again without need: on a full disk that would leave nothing of it.
    if not file.exists() or file.read_text(encoding="ascii") != configuration:
        file.write_text(configuration, encoding="ascii")


async def _relay(output: asyncio.StreamReader) -> str:
    """What Valkey has to say goes where the hub's own words go; its last sentence, once it has ended."""
    sentence = "nothing"
    while line := await output.readline():
        sentence = _STAMP.sub("", line.decode(errors="replace")).strip() or sentence
        log.debug("Valkey: %s", sentence)
    return sentence


async def _ask(client: redis.asyncio.Redis, health: _Health, report: Callable[[], None]) -> None:
    while True:
        try:
            await client.ping()
        except BusyLoadingError:  # alive, and still reading its file
            health.answered = time.monotonic()
        except ResponseError as error:  # alive, and refuses to store: MISCONF, its disk is full
            health.answered = time.monotonic()
            health.refuses = str(error)
        except (RedisError, OSError):
            pass
        else:
            health.answered = time.monotonic()
            health.refuses = None
            if not health.ready:
                health.ready = True
                report()  # others wait for it: not a second later
        await asyncio.sleep(ASKED_EVERY_S if health.ready else 0.02)


async def _end(program: Process, ended: asyncio.Task[int]) -> None:
    with contextlib.suppress(ProcessLookupError):
        program.terminate()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ENDS_WITHIN_S):
            await ended
            return
    with contextlib.suppress(ProcessLookupError):
        program.kill()
    await ended
