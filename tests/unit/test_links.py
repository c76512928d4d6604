"""The project's lint finds broken links, with the anchors that GitHub gives to headings."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.lint import links

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize(
    ("link", "finding"),
    [
        ("[b](docs/b.md)", None),
        ("[b](docs/b.md#why-a-camera-stops)", None),
        ("[here](#a)", None),
        ("[web](https://example.com/none.md#none)", None),
        ("![image](docs/none.png)", "a.md:3: docs/none.png does not exist"),
        ("[b](docs/b.md#none)", "a.md:3: docs/b.md has no heading #none"),
        ("[b](docs/b.md#a-comment)", "a.md:3: docs/b.md has no heading #a-comment"),
        ("[here](#none)", "a.md:3: a.md has no heading #none"),
    ],
)
def test_a_broken_link_is_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, link: str, finding: str | None
) -> None:
    monkeypatch.setattr(links, "ROOT", tmp_path)
    (tmp_path / "docs").mkdir()
    (tmp_path / "a.md").write_text(f"# A\n\n{link}\n", encoding="utf-8")
    (tmp_path / "docs" / "b.md").write_text(
        "# B\n\n## Why a `camera` stops?\n\n```console\n# a comment\n```\n", encoding="utf-8"
    )
    assert list(links.broken_links(["a.md", "docs/b.md", "c.py"])) == ([] if finding is None else [finding])
