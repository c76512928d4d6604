"""Run a parser on many hostile inputs. Each input may use a limited amount of CPU time and memory."""

from __future__ import annotations

import contextlib
import re
import resource
import signal
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from hypothesis.strategies import SearchStrategy

# An input takes milliseconds. The limit is CPU time, which does not depend on the machine's other programs.
MAX_CPU_S: Final = 10.0
MAX_MEMORY_BYTES: Final = 128 * 2**20

# Hypothesis needs about a millisecond to choose each example, so an example consists of several inputs.
_BUILT: Final = 2
_EDITED: Final = 8
_INPUTS: Final = _BUILT + _EDITED
_EDIT_BYTES: Final = 5
_PROGRAM_BYTES: Final = 2 + 4 * _EDIT_BYTES  # one byte for the sample, one for the number of edits
# Numbers at and beyond the limits of integers and floats, and bytes that end or escape strings.
_PIECES: Final = (
    b"",
    b"\0",
    b"\r\n",
    b'"',
    b"\\",
    b"-1",
    b"0",
    b"9" * 20,
    b"9" * 5000,
    b"1e999",
    b"NaN",
    b"\xff",
    b"[",
)


class HangError(Exception):
    """One input took more than `MAX_CPU_S` seconds of CPU time."""


@dataclass(frozen=True, kw_only=True)
class Fuzz:
    """Runner for `inputs` inputs."""

    inputs: int

    def __call__(
        self,
        check: Callable[[bytes], object],
        *,
        samples: Sequence[bytes],
        built: SearchStrategy[bytes],
        tokens: Sequence[bytes] = (),
    ) -> None:
        """Call `check` with each input. Any exception of `check`, including `MemoryError`, is a failure.

        `built` builds inputs that are valid except for unusual values. All other inputs are made from one of these
        inputs or of the real `samples`, with up to four edits. `tokens` are pieces of the format, for insertions.
        """
        pieces = (*_PIECES, *tokens)
        count = 0

        def run(chosen: tuple[list[bytes], bytes]) -> None:
            nonlocal count
            bases, programs = chosen
            _limit_memory(hard)
            known = (*samples, *bases)
            starts = range(0, len(programs), _PROGRAM_BYTES)
            edited = (_edit(known, pieces, programs[start : start + _PROGRAM_BYTES]) for start in starts)
            for data in (*bases, *edited):
                count += 1
                signal.setitimer(signal.ITIMER_VIRTUAL, MAX_CPU_S)
                try:
                    check(data)
                except BaseException as error:
                    error.add_note(f"input: {data!r}")
                    raise

        soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
        size = _EDITED * _PROGRAM_BYTES
        chosen = st.tuples(st.lists(built, min_size=_BUILT, max_size=_BUILT), st.binary(min_size=size, max_size=size))
        profile = settings(
            max_examples=self.inputs // _INPUTS,
            deadline=None,
            database=None,
            phases=[Phase.generate, Phase.shrink],
            suppress_health_check=list(HealthCheck),
        )
        try:
            with _cpu_limit():
                profile(given(chosen)(run))()
        finally:
            resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))
        assert count >= self.inputs


def _edit(known: Sequence[bytes], pieces: Sequence[bytes], program: bytes) -> bytes:
    data = bytearray(known[program[0] % len(known)])
    other = known[program[1] % len(known)]
    for edit in range(program[1] % 5):
        start = 2 + edit * _EDIT_BYTES
        kind, high, low, length, choice = program[start : start + _EDIT_BYTES]
        at = (high << 8 | low) % (len(data) + 1)
        match kind % 6:
            case 0:
                data[at : at + length % 64] = b""
            case 1:
                data[at : at + length % 16] = pieces[choice % len(pieces)]
            case 2:
                data[at:at] = pieces[choice % len(pieces)]
            case 3:
                data[at : at + 1] = bytes([choice])
            case 4:
                data[at:at] = data[at : at + length] * (choice % 8)
            case _:
                data[at:] = other[at:]
    return bytes(data)


def _limit_memory(hard: int) -> None:
    """Let this process use `MAX_MEMORY_BYTES` more memory than now. Hypothesis itself also needs some."""
    used = re.search(r"^VmData:\s*(\d+)", Path("/proc/self/status").read_text(errors="replace"), re.MULTILINE)
    assert used is not None
    resource.setrlimit(resource.RLIMIT_DATA, (int(used[1]) * 1024 + MAX_MEMORY_BYTES, hard))


@contextlib.contextmanager
def _cpu_limit() -> Iterator[None]:
    def on_limit(*_: object) -> None:
        raise HangError(f"one input took more than {MAX_CPU_S:g} s of CPU time")

    before = signal.signal(signal.SIGVTALRM, on_limit)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def json_values(*more: Any) -> SearchStrategy[Any]:
    """Return JSON values of all types, with numbers and strings that programs often handle badly, and `more`."""
    numbers = (0, -1, 1.5, 2**63, -(2**70), 10**400, 1e308, float("inf"), float("nan"))
    scalars = st.sampled_from([None, True, False, *numbers, "", "\0", "\ud800", "x" * 300, *more])
    return scalars | st.lists(scalars, max_size=2) | st.dictionaries(st.sampled_from(["", "a"]), scalars, max_size=2)
