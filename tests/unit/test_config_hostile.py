"""The loader rejects hostile YAML within 1 s of CPU time and 50 MB of memory beyond the interpreter's own use.

A separate process loads each file. Kernel limits end a process that needs more time or memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

PROGRAM = """
import resource, sys
from pathlib import Path
from nvision_hub.config.load import load
from nvision_hub.errors import ConfigError

def used() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[0]) * resource.getpagesize()

Path(sys.argv[2]).write_text("cameras: [{id: a, url: demo://street}]")
load(Path(sys.argv[2]))
resource.setrlimit(resource.RLIMIT_AS, (used() + 50_000_000,) * 2)
spent = resource.getrusage(resource.RUSAGE_SELF)
limit = int(spent.ru_utime + spent.ru_stime) + int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
try:
    load(Path(sys.argv[1]))
except ConfigError as error:
    print(error)
else:
    print("accepted")
"""

# RLIMIT_CPU counts whole seconds, so the program has between CPU_S - 1 and CPU_S seconds. Shared cores take longer.
CPU_S = 2 if os.environ.get("NVISION_HUB_CHECK_TIMES") else 11
ALIASES = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
    f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * 10)}]\n" for level in range(1, 12)
)
MERGES = "a0: &a0 {k: v}\n" + "".join(
    f"a{level}: &a{level} {{<<: [{', '.join([f'*a{level - 1}'] * 10)}]}}\n" for level in range(1, 12)
)
DEFAULTS = (
    "defaults: {masks: [" + ", ".join(["[[0, 0], [1, 0], [1, 1]]"] * 300) + "]}\n"
    "cameras: [" + ", ".join(["{}"] * 1000) + "]\n"
)
HOSTILE = [
    pytest.param(ALIASES, "expands to more than", id="alias bomb"),
    pytest.param(MERGES, "expands to more than", id="merge bomb"),
    pytest.param(DEFAULTS, "expands to more than", id="defaults bomb"),
    pytest.param("a: &a [*a]\n", "no `&` anchor above", id="an alias of itself"),
    pytest.param("a: " + "[" * 500_000, "levels deep", id="deep nesting"),
    pytest.param("a: " + "{a: " * 200_000, "levels deep", id="deep mappings"),
    pytest.param("- " * 400_000, "levels deep", id="deep lists"),
    pytest.param("x" * 100_000_000, "larger than the maximum of 1000000 bytes", id="100 MB"),
    pytest.param("a: !!python/object/apply:os.system ['touch harm']\n", "`!` tag", id="python tag"),
    pytest.param("a: !!python/name:os.system\n", "`!` tag", id="python name"),
    pytest.param("a: !!binary aGFybQ==\n", "`!` tag", id="binary tag"),
    pytest.param("fps: 1\n" * 2000, "given twice", id="duplicate keys"),
    pytest.param("? [a, b]\n: c\n", "is not a key", id="list as key"),
    pytest.param("a: 1\n---\nb: 2\n", "second document", id="two documents"),
]


@pytest.mark.parametrize(("text", "sentence"), HOSTILE)
def test_hostile_yaml_is_rejected_within_the_limits(tmp_path: Path, text: str, sentence: str) -> None:
    hostile = tmp_path / "hostile.yaml"
    hostile.write_text(text)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(hostile), str(tmp_path / "cameras.yaml"), str(CPU_S)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert done.stderr == ""
    assert sentence in done.stdout
    assert "hostile.yaml" in done.stdout
    assert not (tmp_path / "harm").exists()
