"""The official SDKs for tests, in small applications that run in separate processes. `base` is `127.0.0.1:PORT/api`."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.support import needs, npm

if TYPE_CHECKING:
    from collections.abc import Sequence

_SDK: Final = Path(__file__).parents[1] / "sdk"
_RUN_S: Final = 60


def javascript(base: str, requests: dict[str, Any], flags: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Send `requests` (format: tests/sdk/client.cjs) to `base` with @nipacloud/nvision from npm. Return the results."""
    node = needs.program("node", "nodejs npm")
    npm.install(_SDK)
    return _results(
        [node, *flags, "--require", _SDK / "redirect.cjs", _SDK / "client.cjs"], {"NVISION_BASE": base}, requests
    )


def python(base: str, requests: dict[str, Any]) -> list[dict[str, Any]]:
    """Send `requests` (format: tests/sdk/client.py) to `base` with the nvision package from PyPI.

    Return the results.
    """
    if importlib.util.find_spec("nvision") is None:
        needs.missing("nvision is not installed; `pip install nvision==1.5.0` brings it")
    return _results(
        [sys.executable, _SDK / "client.py"], {"URL": f"http://{base}/v1/", "NO_PROXY": "127.0.0.1"}, requests
    )


def _results(command: Sequence[str | Path], env: dict[str, str], requests: dict[str, Any]) -> list[dict[str, Any]]:
    ran = subprocess.run(
        command,
        env=os.environ | env,
        input=json.dumps(requests),
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results: list[dict[str, Any]] = json.loads(ran.stdout)
    assert len(results) == len(requests["requests"])
    return results
