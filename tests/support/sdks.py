"""The official SDKs as tests run them: real applications of them, in processes of their own."""

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


def javascript(base: str, asked: dict[str, Any], flags: Sequence[str] = ()) -> list[dict[str, Any]]:
    """What npm @nipacloud/nvision gets for `asked` (see tests/sdk/client.cjs) at `base`, `127.0.0.1:PORT/api`."""
    node = needs.program("node", "nodejs npm")
    npm.install(_SDK)
    return _results(
        [node, *flags, "--require", _SDK / "redirect.cjs", _SDK / "client.cjs"], {"NVISION_BASE": base}, asked
    )


def python(base: str, asked: dict[str, Any]) -> list[dict[str, Any]]:
    """What PyPI nvision gets for `asked` (see tests/sdk/client.py) at `base`, `127.0.0.1:PORT/api`."""
    if importlib.util.find_spec("nvision") is None:
        needs.missing("nvision is not installed; `pip install nvision==1.5.0` brings it")
    return _results([sys.executable, _SDK / "client.py"], {"URL": f"http://{base}/v1/", "NO_PROXY": "127.0.0.1"}, asked)


def _results(command: Sequence[str | Path], env: dict[str, str], asked: dict[str, Any]) -> list[dict[str, Any]]:
    ran = subprocess.run(
        command,
        env=os.environ | env,
        input=json.dumps(asked),
        capture_output=True,
        text=True,
        timeout=_RUN_S,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    results: list[dict[str, Any]] = json.loads(ran.stdout)
    assert len(results) == len(asked["requests"])
    return results
