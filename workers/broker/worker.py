"""Worker of the embedded broker, which runs Valkey as a child process.

The worker fails when Valkey ends, and misses its deadline when Valkey stops responding. In both cases, the supervisor
restarts the worker and Valkey together.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from redis.exceptions import BusyLoadingError, RedisError, ResponseError

from nvision_hub.broker import embedded_config
from nvision_hub.broker.client import open_client, trim_keys
from nvision_hub.broker.scripts import load_script
from nvision_hub.errors import HubError, UnavailableError
from nvision_hub.metrics.meter import Meter
from nvision_hub.runtime.forked_child import die_with_parent
from nvision_hub.runtime.process_stats import ProcessStats
from nvision_hub.runtime.status import BrokerInfo, Deadline, Status
from nvision_hub.runtime.worker import DrainStep, run_worker

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import Callable
    from pathlib import Path

    import redis.asyncio

    from nvision_hub.runtime.supervisor_pipe import SupervisorPipe

log = logging.getLogger("nvision_hub.broker")

PING_INTERVAL_S: Final = 1.0
ANSWER_TIMEOUT_S: Final = 15.0  # Valkey may respond late while it rewrites a large append-only file
END_TIMEOUT_S: Final = 2.5
LOGIN_TIMEOUT_S: Final = 10  # whole seconds, because Valkey accepts no fractions
# Prefix of Valkey's log lines, such as "4711:M 22 Nov 2026 14:00:00.120 # ". The worker removes it, because the hub's
# own log lines already contain the process and the time.
_STAMP: Final = re.compile(r"^\d+:[A-Z] \d+ \w+ \d+ [\d:.]+ \S ")


@dataclass(kw_only=True)
class _Health:
    answered: float  # monotonic time of Valkey's last answer; before the first answer, Valkey's start time
    ready: bool = False
    write_error: str | None = None  # error that Valkey reports; None while Valkey can write


def run(settings: embedded_config.EmbeddedBroker, link: SupervisorPipe) -> None:
    """Run Valkey until the supervisor requests a stop.

    Raises `HubError` if Valkey ends early, and `UnavailableError` if Valkey cannot start.
    """
    asyncio.run(_keep(settings, link))


async def _keep(settings: embedded_config.EmbeddedBroker, link: SupervisorPipe) -> None:
    program = await _start(settings)
    health = _Health(answered=time.monotonic())
    meter = Meter()
    usage = ProcessStats(meter, program.pid)

    def snapshot() -> Status:
        usage.update()
        return Status(
            state="running" if health.ready else "starting",
            ready=health.ready,
            error=health.write_error
            and f"the embedded broker cannot write to {settings.directory} ({health.write_error}); free disk space",
            deadlines={"answer from Valkey": Deadline(at=health.answered, timeout_s=ANSWER_TIMEOUT_S)},
            metrics=meter.snapshot(),
            info=BrokerInfo(address=settings.public_url, program=program.pid),
        )

    assert program.stdout is not None  # noqa: S101 - Valkey was started with a pipe
    output = asyncio.create_task(_log_output(program.stdout))
    try:
        async with open_client(settings.url) as client:
            await run_worker(
                link,
                snapshot,
                tasks={
                    "ping": _ping(client, health, lambda: link.report(snapshot())),
                    "housekeeping": _keep_bounds(client, settings),
                    "program": _fail_if_ended(program, output),
                },
                drain=[
                    "housekeeping",
                    "ping",
                    "program",
                    DrainStep(run=lambda: _end(program), timeout_s=2 * END_TIMEOUT_S),
                ],
            )
            await output
    finally:
        output.cancel()
    if settings.socket_path.parent != settings.directory:
        with contextlib.suppress(OSError):
            settings.socket_path.unlink(missing_ok=True)
            settings.socket_path.parent.rmdir()


async def _start(settings: embedded_config.EmbeddedBroker) -> Process:
    file = settings.directory / "valkey.conf"
    try:
        _prepare(settings, file)
    except OSError as error:
        raise UnavailableError(
            f"the embedded broker cannot keep its data in {settings.directory} ({error.strerror}); "
            "free disk space there, make the directory writable, or choose another state_dir"
        ) from error
    parent = os.getpid()
    # Valkey must outlive the processes that write to it. It therefore runs in its own session, which Ctrl-C does not
    # reach.
    return await asyncio.create_subprocess_exec(
        embedded_config.program(),
        file,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(parent),
    )


def _prepare(settings: embedded_config.EmbeddedBroker, file: Path) -> None:
    os.umask(0o077)
    settings.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
    settings.directory.chmod(0o700)
    settings.passwords.save(settings.passwords_file)
    beside = settings.socket_path.parent
    if beside != settings.directory:
        beside.mkdir(mode=0o700, exist_ok=True)
        # If all users can write to the parent directory, another user may have created this directory.
        if not embedded_config.is_private_directory(beside):
            raise UnavailableError(
                f"the path of state_dir is too long for a socket, so the socket is in {beside}, but other users can "
                "access this directory; remove it, or shorten the path of state_dir"
            )
    # A killed Valkey leaves its socket file behind. No other Valkey uses it, because the hub has locked state_dir.
    settings.socket_path.unlink(missing_ok=True)
    configuration = settings.configuration()
    # Write the configuration only if it has changed, because a write to a full disk would leave an empty file.
    if not file.exists() or file.read_text(encoding="ascii") != configuration:
        file.write_text(configuration, encoding="ascii")


async def _log_output(output: asyncio.StreamReader) -> str:
    """Log Valkey's output until the output ends. Return the last non-empty line, or "nothing"."""
    sentence = "nothing"
    while line := await output.readline():
        sentence = _STAMP.sub("", line.decode(errors="replace")).strip() or sentence
        log.debug("Valkey: %s", sentence)
    return sentence


async def _ping(client: redis.asyncio.Redis, health: _Health, report: Callable[[], None]) -> None:
    while True:
        try:
            await client.ping()
        except BusyLoadingError:  # Valkey is alive but is still loading its data file
            health.answered = time.monotonic()
        except ResponseError as error:  # Valkey is alive but rejects writes (MISCONF, for example on a full disk)
            health.answered = time.monotonic()
            health.write_error = str(error)
        except (RedisError, OSError):
            pass
        else:
            health.answered = time.monotonic()
            health.write_error = None
            if not health.ready:
                health.ready = True
                report()  # immediately, because other processes wait for Valkey
        await asyncio.sleep(PING_INTERVAL_S if health.ready else 0.02)


async def _keep_bounds(client: redis.asyncio.Redis, settings: embedded_config.EmbeddedBroker) -> None:
    """Trim the result stream once. Then, until canceled, close connections that do not log in.

    Publishers trim the stream when they add results. However, after `redis.stream_max_bytes` was reduced, the stream
    may fill the memory, and Valkey then accepts no more results.
    """
    keys = trim_keys(f"{settings.prefix}:results")
    is_trimmed = False
    while True:
        with contextlib.suppress(RedisError, OSError):
            if not is_trimmed:
                await client.eval(load_script("results_trim"), len(keys), *keys, 0, settings.stream_max_bytes)
                is_trimmed = True
            if not settings.is_open:
                # A connection belongs to the user `default` until it logs in. Without this limit, another user of the
                # machine could use up all connections.
                await client.client_kill_filter(user="default", maxage=LOGIN_TIMEOUT_S)
        await asyncio.sleep(PING_INTERVAL_S)


async def _fail_if_ended(program: Process, output: asyncio.Task[str]) -> None:
    code = await program.wait()
    raise HubError(f"Valkey ended unexpectedly (exit code {code}); its last output: {await asyncio.shield(output)}")


async def _end(program: Process) -> None:
    for stop in (program.terminate, program.kill):
        with contextlib.suppress(ProcessLookupError):
            stop()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(END_TIMEOUT_S):
                await program.wait()
                return
