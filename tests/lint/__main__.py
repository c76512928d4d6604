"""`python -m tests.lint`: run every check and print the findings as `path:line: message`."""

from __future__ import annotations

import sys

from tests.lint import links, log_events, names, prose
from tests.lint.files import product_modules, prose_files


def main() -> int:
    modules = list(product_modules())
    findings = [
        *names.duplicate_classes(modules),
        *names.retired_names(modules),
        *names.unused_allowances(),
        *log_events.missing_events(modules),
        *prose.avoided_words(prose_files()),
        *prose.conflict_markers(prose_files()),
        *prose.unused_allowances(),
        *links.broken_links(prose_files()),
    ]
    for finding in findings:
        print(finding)
    if findings:
        print(f"{len(findings)} findings; the words and names to use are explained in CONTRIBUTING.md")
    return 1 if findings else 0


if __name__ == "__main__":
    sys.exit(main())
