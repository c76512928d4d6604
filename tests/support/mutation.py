"""Print the fraction of killed mutants per module of `[tool.mutmut]`. Fail if a fraction is below `MIN_SHARE`.

`make test-release` pipes `mutmut results --all true` to `python -m tests.support.mutation`.
"""

from __future__ import annotations

import sys
import tomllib
from collections import Counter
from pathlib import Path
from typing import Final

MIN_SHARE: Final = 0.85
KILLED: Final = frozenset({"killed", "timeout"})  # a mutant that never ends also fails its tests
PROJECT: Final = Path(__file__).parents[2] / "pyproject.toml"


def main() -> int:
    mutants: Counter[str] = Counter()
    killed: Counter[str] = Counter()
    for line in sys.stdin:  # "    nvision_hub.retry_after.x_parse_retry_after__mutmut_1: killed"
        name, _, status = line.strip().rpartition(": ")
        path = name.rpartition(".")[0].replace(".", "/") + ".py"
        mutants[path] += 1
        killed[path] += status in KILLED
    weak = []
    print("| file | mutants | killed | share |\n|---|---|---|---|")
    for path in tomllib.loads(PROJECT.read_text(encoding="utf-8"))["tool"]["mutmut"]["only_mutate"]:
        share = killed[path] / mutants[path] if mutants[path] else 0.0
        print(f"| `{path}` | {mutants[path]} | {killed[path]} | {share:.1%} |")
        if share < MIN_SHARE:
            weak.append(path)
    for path in weak:
        print(f"{path}: fewer than {MIN_SHARE:.0%} of the mutants were killed; test what the others change")
    return 1 if weak else 0


if __name__ == "__main__":
    sys.exit(main())
