"""Loader for the Lua scripts in this folder. Redis runs each script as one atomic step."""

from __future__ import annotations

from functools import cache
from importlib.resources import files


@cache
def load_script(*names: str) -> str:
    """Return the source of the named scripts, joined in this order. A script can use the locals of earlier scripts."""
    folder = files(__name__)
    return "\n".join(folder.joinpath(f"{name}.lua").read_text(encoding="utf-8") for name in names)
