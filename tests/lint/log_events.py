"""Log calls without a stable event name."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.lint.files import Module

LEVELS: Final = frozenset({"info", "warning", "error", "exception", "critical"})
LOGGERS: Final = frozenset({"log", "_log", "logger"})


def missing_events(modules: Iterable[Module]) -> Iterator[str]:
    """Find log calls at level info or above that have no literal `event` in `extra`."""
    for module in modules:
        for node in ast.walk(module.tree):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            logger = node.func.value
            if isinstance(logger, ast.Name) and logger.id in LOGGERS and node.func.attr in LEVELS:
                extra = next((keyword.value for keyword in node.keywords if keyword.arg == "extra"), None)
                if not _has_event(extra):
                    yield f'{module.path}:{node.lineno}: add extra={{"event": "..."}} to this log call'


def _has_event(extra: ast.expr | None) -> bool:
    return isinstance(extra, ast.Dict) and any(
        isinstance(key, ast.Constant) and key.value == "event" for key in extra.keys
    )
