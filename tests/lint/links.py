"""Find links in Markdown files whose file or heading does not exist."""

from __future__ import annotations

import re
from functools import cache
from typing import TYPE_CHECKING, Final

from tests.lint.files import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_LINK: Final = re.compile(r"\]\(([^)\s#]*)(?:#([^)\s]+))?\)")
_CODE: Final = re.compile(r"^```.*?^```$", re.MULTILINE | re.DOTALL)
_HEADING: Final = re.compile(r"^#+ +(.+?) *$", re.MULTILINE)
_SCHEME: Final = re.compile(r"[a-z]+:")


def broken_links(paths: Iterable[str]) -> Iterator[str]:
    """Find broken links between the files of the project. Links to web pages are not checked."""
    for path in paths:
        if not path.endswith(".md"):
            continue
        text = (ROOT / path).read_text(encoding="utf-8")
        for found in _LINK.finditer(text):
            target, anchor = found[1], found[2]
            if _SCHEME.match(target):
                continue
            file = (ROOT / path).parent / target if target else ROOT / path
            where = f"{path}:{text.count(chr(10), 0, found.start()) + 1}"
            if not file.exists():
                yield f"{where}: {target} does not exist"
            elif anchor and file.suffix == ".md" and anchor not in anchors(file.read_text(encoding="utf-8")):
                yield f"{where}: {target or path} has no heading #{anchor}"


@cache
def anchors(text: str) -> frozenset[str]:
    """Return the anchors that GitHub gives to the headings of a Markdown file."""
    headings = _HEADING.findall(_CODE.sub("", text))
    return frozenset(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings)
